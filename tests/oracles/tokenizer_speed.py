#!/usr/bin/env python3
"""Speed of Hugging Face `tokenizers` on one thread, on the text that `coppice bench tokenizer` reads.

    tokenizer_speed.py TOKENIZER.json TEXT [REPEATS]

Prints MB/s of the text as a whole and line by line: the fastest of REPEATS passes each, the words
being known to its cache from the second pass on. Needs the package tokenizers.
"""
import os
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import Tokenizer  # noqa: E402  (after the environment is set)


def fastest(run, repeats):
    best = first = None
    for _ in range(repeats):
        start = time.perf_counter()
        count = run()
        took = time.perf_counter() - start
        first = first or took
        best = took if best is None else min(best, took)
    return first, best, count


def main():
    path, text_path = sys.argv[1:3]
    repeats = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    tokenizer = Tokenizer.from_file(path)
    data = open(text_path, "rb").read()
    text = data.decode("utf-8", "replace")
    lines = text.splitlines(keepends=True)

    def whole():
        return len(tokenizer.encode(text, add_special_tokens=False))

    def by_lines():
        return sum(len(tokenizer.encode(line, add_special_tokens=False)) for line in lines)

    for name, run in (("whole text", whole), ("by lines", by_lines)):
        first, best, count = fastest(run, repeats)
        print(f"{name:12} {count} tokens, first {len(data) / first / 1e6:.2f} MB/s, "
              f"fastest {len(data) / best / 1e6:.2f} MB/s, {count / best / 1e6:.3f} Mtokens/s")


if __name__ == "__main__":
    main()
