"""Text workloads: conversations become prompts, later turns begin with the earlier ones, reuse is exact,
every rank has the same model, and bad input is told in one line."""
import json
import os
import shutil
import subprocess
import unittest

from cluster import COPPICE, FLAGS, MPIRUN, SOURCE, ClusterTest, np

CONVERSATIONS = os.path.join(SOURCE, "tests/data/sharegpt_small.json")
TOKENIZER = os.path.join(SOURCE, "tests/data/tokenizers/qwen-small.json")
CHECKPOINT = os.path.join(SOURCE, "tests/data/checkpoints/qwen2")
TEXT = {
    "model.preset": "tiny", "device.threads": 1, "workload.format": "sharegpt",
    "workload.path": CONVERSATIONS, "workload.rate": 100, "workload.think_s": 0.02,
}


def byte_letters():
    """GPT-2's letter for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {b: chr(b) for b in plain}
    for b in range(256):
        if b not in letters:
            letters[b] = chr(256 + len(letters) - len(plain))
    return letters


def write_byte_tokenizer(path):
    """A tokenizer of 259 tokens: a byte is a token, so that lengths can be told by counting."""
    vocab = {letter: b for b, letter in byte_letters().items()}
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    added = [{"id": 256 + i, "content": text, "single_word": False, "lstrip": False,
              "rstrip": False, "normalized": False, "special": True}
             for i, text in enumerate(special)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
                  "use_regex": False}
    split = {"type": "Split", "behavior": "Isolated", "invert": False,
             "pattern": {"Regex": r"\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"}}
    with open(path, "w") as out:
        json.dump({"version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
                   "normalizer": None,
                   "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
                   "post_processor": byte_level, "decoder": byte_level,
                   "model": {"type": "BPE", "dropout": None, "unk_token": None,
                             "continuing_subword_prefix": "", "end_of_word_suffix": "",
                             "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                             "vocab": vocab, "merges": []}}, out)
    return path


def load(path):
    with open(path) as file:
        return json.load(file)


def dialogues():
    """The rules of src/workload/sharegpt.h, said again."""
    roles = {"human": "user", "user": "user", "system": "system"}
    for element in load(CONVERSATIONS):
        kept = []
        for message in element.get("conversations", element.get("messages")):
            role = roles.get(message.get("from", message.get("role")), "assistant")
            text = message.get("value", message.get("content"))
            asked = any(r != "system" for r, _ in kept)
            if not text or (role == "assistant" and not asked):
                continue
            role = "user" if role == "system" and asked else role
            if kept and kept[-1][0] == role:
                kept[-1] = (role, kept[-1][1] + "\n\n" + text)
            else:
                kept.append((role, text))
        if kept and kept[-1][0] == "user":
            kept.pop()
        if any(role == "assistant" for role, _ in kept):
            yield kept


def byte_requests():
    """(session, turn) -> tokens of prompt, tokens of answer, in ChatML, a byte a token."""
    start, end = [257], [258]
    requests = {}
    for session, messages in enumerate(dialogues()):
        prompt, turn = [], 0
        for role, text in messages:
            if role == "assistant":
                asked = prompt + start + list(b"assistant\n")
                requests[session, turn] = asked, list(text.encode())
                turn += 1
            prompt = prompt + start + list(f"{role}\n{text}".encode()) + end + list(b"\n")
    return requests


def infinite_cache(requests, block):
    """Whole blocks of prompts that came before, and all of them."""
    seen, hits, blocks = set(), 0, 0
    for prompt, answer in requests.values():
        whole = prompt + answer
        ends = range(block, len(whole) + 1, block)
        prefixes = [tuple(whole[:e]) for e in ends]
        in_prompt = [p for p in prefixes if len(p) <= len(prompt)]
        blocks += len(in_prompt)
        hits += sum(p in seen for p in in_prompt)
        seen.update(prefixes)
    return hits, blocks


class Text(ClusterTest):
    def rows_of(self, record):
        return np.sort(self.check_sums(record), order=["session_id", "turn"])

    def refused(self, settings, *words, ranks=2):
        command = self.command(ranks, self.config(), self.path("no.h5"), {**TEXT, **settings})
        done = subprocess.run(command, text=True, capture_output=True, timeout=120)
        self.assertEqual(done.returncode, 2, done.stderr)
        said = [line for line in done.stderr.splitlines() if line.startswith("coppice")]
        self.assertEqual(len(said), 1, done.stderr)
        for word in words:
            self.assertIn(word, said[0])
        self.assertFalse(os.path.exists(self.path("no.h5")))

    def test_lengths_are_those_of_the_text(self):
        tokenizer = write_byte_tokenizer(self.path("bytes.json"))
        record = self.run_cluster(2, "bytes.h5", {
            **TEXT, "model.tokenizer": tokenizer, "cache.capacity_blocks": 4096,
            "workload.max_output_tokens": 12})
        rows = self.rows_of(record)
        expected = byte_requests()
        self.assertEqual(len(rows), len(expected))
        for row in rows:
            prompt, answer = expected[row["session_id"], row["turn"]]
            self.assertEqual(row["prompt_tokens"], len(prompt))
            self.assertEqual(row["output_tokens"], min(len(answer), 12))
        self.assertEqual(record.attrs["requests_total"], len(expected))

    def test_later_turns_hit_the_earlier_ones(self):
        """Closed loop: a turn comes when the one before is done, so all of its prompt is there."""
        record = self.run_cluster(2, "closed.h5", {
            **TEXT, "model.tokenizer": TOKENIZER, "workload.loop": "closed", "workload.users": 3,
            "cache.capacity_blocks": 4096})
        rows = self.rows_of(record)
        self.assertEqual(len(rows), len(byte_requests()))
        later = 0
        for before, row in zip(rows, rows[1:]):
            if row["session_id"] != before["session_id"]:
                continue
            self.assertEqual(row["turn"], before["turn"] + 1)
            self.assertGreater(row["prompt_tokens"], before["prompt_tokens"])
            self.assertEqual(row["worker"], before["worker"])
            self.assertGreaterEqual(row["hit_local_tokens"], before["prompt_tokens"])
            later += 1
        self.assertEqual(later, 25)
        for name, value in (("model", "tiny"), ("model.family", "preset"),
                            ("text.tokenizer", TOKENIZER), ("text.template", "chatml")):
            self.assertEqual(record.attrs[name], value)

    def test_reuse_is_exact(self):
        settings = {**TEXT, "model.tokenizer": TOKENIZER, "record.logits_digest": "true"}
        off = self.rows_of(self.run_cluster(1, "off.h5", {**settings, "cache.enabled": "false"}))
        on = self.rows_of(self.run_cluster(2, "on.h5", {**settings, "workload.loop": "closed",
                                                        "workload.users": 4}))
        self.assertEqual(off["hit_local_tokens"].sum(), 0)
        self.assertGreater(on["hit_local_tokens"].sum(), on["prompt_tokens"].sum() // 3)
        self.assertTrue((off["logits_digest"] != 0).all())
        for column in ("logits_digest", "first_token", "prompt_tokens", "output_tokens"):
            self.assertTrue(np.array_equal(off[column], on[column]), column)

    def checkpoint(self, name="model"):
        folder = self.path(name)
        shutil.copytree(CHECKPOINT, folder)
        write_byte_tokenizer(os.path.join(folder, "tokenizer.json"))
        return folder

    def test_checkpoint_with_its_own_tokenizer(self):
        """Its context is 512 tokens: longer prompts are rejected, the rest is exact."""
        folder = self.checkpoint()
        settings = {**TEXT, "model.path": folder, "record.logits_digest": "true",
                    "workload.max_output_tokens": 12}
        off = self.run_cluster(1, "off.h5", {**settings, "cache.enabled": "false"})
        on = self.run_cluster(2, "on.h5", settings)
        self.assertEqual(on.attrs["model"], folder)
        self.assertEqual(on.attrs["model.family"], "qwen2")
        self.assertEqual(on.attrs["text.template"], "chatml")
        self.assertEqual(on.attrs["model.fingerprint"], off.attrs["model.fingerprint"])
        fits = sum(len(p) + min(len(a), 12) <= 512 for p, a in byte_requests().values())
        rows, reference = self.rows_of(on), self.rows_of(off)
        self.assertEqual(len(rows), fits)
        self.assertLess(fits, len(byte_requests()))
        self.assertTrue(np.array_equal(rows["logits_digest"], reference["logits_digest"]))

    def test_ranks_with_other_weights(self):
        """One relative path, two folders: the second has one bit of its last tensor changed."""
        for name in ("a", "b"):
            os.mkdir(self.path(name))
            self.checkpoint(f"{name}/model")
        weights = self.path("b/model/model.safetensors")
        with open(weights, "r+b") as file:
            file.seek(-1, os.SEEK_END)
            last = file.read(1)[0]
            file.seek(-1, os.SEEK_END)
            file.write(bytes([last ^ 1]))
        one = self.command(1, self.config(), self.path("x.h5"), {**TEXT, "model.path": "model"})
        program = one[one.index(COPPICE):]
        command = [MPIRUN, *FLAGS]
        for name in ("a", "b"):
            command += [":"] * (name == "b") + ["-n", "1", "--wdir", self.path(name), *program]
        done = subprocess.run(command, text=True, capture_output=True, timeout=120)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("rank 1 has other weights than rank 0", done.stderr)

    def test_bad_input_is_told_in_one_line(self):
        self.refused({}, "model.tokenizer", "model.path")
        self.refused({"model.tokenizer": "/nowhere/tokenizer.json"}, "/nowhere/tokenizer.json")
        big = self.path("big.json")
        tokenizer = load(write_byte_tokenizer(big))
        tokenizer["added_tokens"][2]["id"] = 2048
        with open(big, "w") as out:
            json.dump(tokenizer, out)
        self.refused({"model.tokenizer": big}, big, "2049", "2048", "tiny")
        good = {"model.tokenizer": write_byte_tokenizer(self.path("bytes.json"))}
        self.refused({**good, "model.chat": "chatlm"}, "chatlm", "chatml")
        self.refused({**good, "workload.scale": 32}, "workload.scale is 32")
        self.refused({**good, "workload.path": "/nowhere.json"}, "/nowhere.json")
        bad = self.path("bad.json")
        with open(bad, "w") as out:
            out.write('[\n{"id": "q", "conversations": [{"from": "humna", "value": "x"}]}]')
        self.refused({**good, "workload.path": bad}, f"{bad}:2: conversation 1 ('q'): ", "'humna'",
                     "did you mean 'human'?")

    def test_trace_info(self):
        tokenizer = write_byte_tokenizer(self.path("bytes.json"))
        command = [COPPICE, "trace", "info", CONVERSATIONS]
        plain = subprocess.run(command, text=True, capture_output=True, timeout=60)
        self.assertEqual(plain.returncode, 0, plain.stderr)
        requests = byte_requests()
        texts = [m for d in dialogues() for m in d]
        size = {role: sum(len(t.encode()) for r, t in texts if r == role)
                for role in ("system", "user", "assistant")}
        for line in (f"turns (requests)           {len(requests)}, mean 1.83, max 5",
                     "conversations              30, 8 with a system message",
                     "empty ones left out        2",
                     f"{size['system']} bytes of system messages, {size['user']} of users, "
                     f"{size['assistant']} of answers"):
            self.assertIn(line, plain.stdout)
        lines = self.path("lines.jsonl")
        with open(lines, "w") as out:
            out.writelines(json.dumps(element) + "\n" for element in load(CONVERSATIONS))
        same = subprocess.run([*command[:-1], lines], text=True, capture_output=True, timeout=60)
        self.assertEqual(same.stdout.splitlines()[1:], plain.stdout.splitlines()[1:])
        done = subprocess.run([*command, "--set", f"model.tokenizer={tokenizer}", "--set",
                               "cache.block_tokens=8"], text=True, capture_output=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        hits, blocks = infinite_cache(requests, 8)
        tokens = sum(len(p) for p, _ in requests.values())
        for line in (f"{hits / blocks:.4f}  ({hits} of {blocks} blocks)",
                     f"{8 * hits / tokens:.4f}  ({8 * hits} of {tokens} prompt tokens)"):
            self.assertIn(line, done.stdout)


if __name__ == "__main__":
    unittest.main()
