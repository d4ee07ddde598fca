"""The figure of `coppice bench prompt_cache`: written, of the size promised, errors in one line."""

import contextlib
import io
import os
import struct
import unittest

from harness import FolderTest

import prompt_cache

HEAD = (
    "model,device,users,repeats,system_tokens,prompt_tokens,computed_tokens,cold_ms,hit_ms,"
    "speedup,token_ratio,bound,reading_bound,step_ms\n"
)
DEVICE = '"tiny","cpu avx2, 2 threads, bf16",4,5'


def table():
    rows = [
        f"{DEVICE},{n},{n + 16},16,{n / 8},{2 + n / 512},{n / 8 / (2 + n / 512)},{n / 16 + 1},"
        f"{n / 17 + 1},{n / 5},0.7\n"
        for n in (2048, 64, 128)
    ]
    return HEAD + "".join(rows)


class PromptCache(FolderTest):
    def write(self, text):
        with open(self.path("a.csv"), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path("a.csv")

    def draw(self, *arguments):
        err = io.StringIO()
        with contextlib.redirect_stderr(err):
            status = prompt_cache.main(list(arguments))
        return status, err.getvalue()

    def test_beside_the_table_or_where_asked(self):
        path = self.write(table())
        status, err = self.draw(path)
        self.assertEqual((status, err), (0, f"figure: {path[:-4]}.png, {path[:-4]}.svg\n"))
        self.assertEqual(self.draw(path, "-o", self.path("x"))[0], 0)
        self.assertEqual(sorted(os.listdir(self.folder)),
                         ["a.csv", "a.png", "a.svg", "x.png", "x.svg"])
        for kind in ("png", "svg"):
            with open(self.path("a." + kind), "rb") as a, open(self.path("x." + kind), "rb") as x:
                picture = a.read()
                self.assertEqual(picture, x.read(), kind)
            if kind == "png":
                self.assertEqual(struct.unpack(">II", picture[16:24]), (1200, 500))

    def test_rows_in_order(self):
        rows = prompt_cache.read(self.write(table()))
        self.assertEqual([row["system_tokens"] for row in rows], [64, 128, 2048])
        self.assertEqual(rows[0]["device"], "cpu avx2, 2 threads, bf16")

    def test_bad_tables(self):
        for text, said in (
            ("", "no rows"),
            (HEAD, "no rows"),
            ("a,b\n1,2\n", "a.csv:2: no number in column 'users'"),
            (table().replace("0.7", "fast", 1), "a.csv:2: no number in column 'step_ms'"),
            (HEAD + DEVICE + "\n", "a.csv:2: no number in column 'system_tokens'"),
        ):
            with self.subTest(said):
                status, err = self.draw(self.write(text))
                self.assertEqual(status, 2)
                self.assertIn(said, err)
        self.assertEqual(self.draw(self.path("none.csv"))[0], 2)


if __name__ == "__main__":
    unittest.main()
