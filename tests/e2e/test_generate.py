"""coppice generate: what it prints, what the cache saves, the cache file, bad input, signals."""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import unittest

import checkpoint

COPPICE = os.environ["COPPICE"]
SOURCE = os.environ["COPPICE_SOURCE"]
SYSTEM = "You answer in short sentences. Café, 東京 and 👍🏽 are words too.\n"
QUESTIONS = ["What is a cache?", "What is a prefix?", "Who asks?"]


class Generate(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="coppice-generate-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.model = checkpoint.make(SOURCE, self.path("model"))
        self.system = self.write("system.txt", SYSTEM)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        with open(self.path(name), "wb") as file:
            file.write(text.encode() if isinstance(text, str) else text)
        return self.path(name)

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def command(self, *arguments, model=None):
        return [COPPICE, "generate", "--model", model or self.model, "--max-new-tokens", "12",
                *arguments]

    def generate(self, *arguments, status=0, **options):
        """(stdout, stderr) as bytes; fails unless the exit status is `status`."""
        done = subprocess.run(self.command(*arguments, **options), capture_output=True, timeout=120,
                              stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stdout, done.stderr.decode()

    def answers(self, *arguments, lines=None, **options):
        """The objects of --json."""
        done = subprocess.run(self.command("--json", *arguments, **options), capture_output=True,
                              timeout=120, input=lines)
        self.assertEqual(done.returncode, 0, done.stderr)
        answers = [json.loads(line) for line in done.stdout.decode().splitlines()]
        for number, answer in enumerate(answers, 1):
            self.assertEqual(answer["prompt"], number)
            self.assertEqual(answer["new_tokens"], len(answer["tokens"]))
            self.assertEqual(answer["prompt_tokens"],
                             answer["cached_tokens"] + answer["computed_tokens"])
        return answers

    def questions(self):
        return ["--system", self.system, *(w for q in QUESTIONS for w in ("--prompt", q))]

    # -- what is reused

    def test_prompts_share_the_system_text(self):
        answers = self.answers(*self.questions())
        held = []
        for question, answer in zip(QUESTIONS, answers):
            prompt = checkpoint.tokens(SYSTEM + question)
            best = max([checkpoint.common(prompt, h) for h in held], default=0)
            self.assertEqual(answer["prompt_tokens"], len(prompt))
            self.assertEqual(answer["cached_tokens"], min(best, len(prompt) - 1))
            held.append(prompt + answer["tokens"][:-1])  # of the last token no KV is computed
            cold = answer["cached_tokens"] == 0
            self.assertEqual(answer["cold_ttft_ms"] is None, cold)
            self.assertEqual(answer["speedup"] is None, cold)
        self.assertGreater(answers[1]["cached_tokens"], len(checkpoint.tokens(SYSTEM)))
        speedup = answers[1]["cold_ttft_ms"] / answers[1]["ttft_ms"]
        rounding = 0.0005 * speedup / answers[1]["ttft_ms"] + 0.01
        self.assertAlmostEqual(answers[1]["speedup"], speedup, delta=rounding)

    def test_the_cache_changes_no_bit(self):
        for weights in ("bf16", "int8"):
            settings = ["--set", f"model.weights={weights}", *self.questions()]
            cached = self.answers(*settings)
            computed = self.answers("--set", "cache.enabled=false", *settings)
            self.assertEqual([a["cached_tokens"] for a in computed], [0] * len(QUESTIONS))
            for key in ("text", "tokens", "logits_hash"):
                self.assertEqual([a[key] for a in cached], [a[key] for a in computed])

    def test_measuring_cold_costs_no_cached_block(self):
        tight = ["--set", "cache.capacity_blocks=10", *self.questions()]
        with_cold, without = self.answers(*tight), self.answers("--no-cold", *tight)
        for key in ("cached_tokens", "tokens"):
            self.assertEqual([a[key] for a in with_cold], [a[key] for a in without])
        self.assertGreater(without[1]["cached_tokens"], 0)

    def test_a_save_keeps_links_and_modes(self):
        cache = self.path("kept")
        self.generate("--cache-file", cache, "--prompt", "What is a cache?")
        os.chmod(cache, 0o600)
        os.symlink(cache, self.path("link"))
        before = self.read("kept")
        self.generate("--cache-file", self.path("link"), "--prompt", "Who asks?")
        self.assertTrue(os.path.islink(self.path("link")))
        self.assertEqual(os.stat(cache).st_mode & 0o777, 0o600)
        self.assertNotEqual(self.read("kept"), before)

    def test_a_chat_of_each_prompt(self):
        answers = self.answers("--chat", *self.questions())
        chats = [checkpoint.chat([("system", SYSTEM), ("user", q)]) for q in QUESTIONS]
        self.assertEqual([a["prompt_tokens"] for a in answers], [len(c) for c in chats])
        self.assertEqual(answers[1]["cached_tokens"], checkpoint.common(chats[0], chats[1]))

    def test_a_conversation_keeps_its_past(self):
        lines = "\n".join([QUESTIONS[0], "", *QUESTIONS[1:]]).encode()  # an empty line is none
        answers = self.answers("--chat", "--system", self.system, lines=lines)
        self.assertEqual(len(answers), len(QUESTIONS))
        messages, held = [("system", SYSTEM)], []
        for question, answer in zip(QUESTIONS, answers):
            messages.append(("user", question))
            prompt = checkpoint.chat(messages)
            self.assertEqual(answer["prompt_tokens"], len(prompt))
            self.assertEqual(answer["cached_tokens"], checkpoint.common(prompt, held))
            held = prompt + answer["tokens"][:-1]
            messages.append(("assistant", answer["text"]))
        self.assertGreater(answers[2]["cached_tokens"], answers[1]["prompt_tokens"] - 1)

    def test_lines_are_prompts(self):
        lines = "".join(q + "\r\n" for q in QUESTIONS).encode()
        told = self.answers("--system", self.system, lines=lines)
        given = self.answers(*self.questions())
        self.assertEqual([a["tokens"] for a in told], [a["tokens"] for a in given])

    def test_special_tokens_in_texts(self):
        text = "<|im_start|>user\nHi<|im_end|>"
        raw, = self.answers("--prompt", text)
        self.assertEqual(raw["prompt_tokens"], 1 + len("user\nHi") + 1)
        chat, = self.answers("--chat", "--prompt", text)
        self.assertEqual(chat["prompt_tokens"], len(checkpoint.chat([("user", text)])))

    # -- what is printed

    def test_streams_text_and_tells_figures(self):
        out, err = self.generate(*self.questions())
        answers = self.answers("--prompt-file", self.write("q", QUESTIONS[0]), *self.questions())
        self.assertEqual(answers[0]["text"], answers[1]["text"])
        self.assertEqual(out.decode(), "".join(a["text"] + "\n" for a in answers[1:]))
        figures = r"prompt 2: \d+ tokens, \d+ cached, TTFT [\d.]+ ms \(cold [\d.]+ ms, [\d.]+x\)"
        self.assertRegex(err, figures + r", \d+ new tokens?(, [\d.]+ tokens/s)?\n")
        self.assertRegex(err, r"prompt 1: \d+ tokens, 0 cached, TTFT [\d.]+ ms \(cold\),")
        _, err = self.generate("--no-cold", *self.questions())
        self.assertRegex(err, r"prompt 2: \d+ tokens, \d+ cached, TTFT [\d.]+ ms, \d+ new")
        out, err = self.generate("--quiet", *self.questions())
        self.assertEqual(err, "")

    def test_draws_by_the_seed(self):
        def texts(seed):
            settings = ["--temperature", "1.5", "--top-p", "0.9", "--seed", str(seed)]
            return [a["tokens"] for a in self.answers(*settings, *self.questions())]

        self.assertEqual(texts(1), texts(1))
        self.assertNotEqual(texts(1), texts(2))

    # -- the cache file

    def test_cache_file_in_a_second_process(self):
        file = ["--cache-file", self.path("kv")]
        first = self.answers(*file, *self.questions())
        second = self.answers(*file, *self.questions())
        for key in ("text", "tokens", "logits_hash"):
            self.assertEqual([a[key] for a in first], [a[key] for a in second])
        self.assertEqual([a["computed_tokens"] for a in second], [1] * len(QUESTIONS))
        _, err = self.generate(*file, *self.questions())
        self.assertRegex(err, r"kv: restored \d+ blocks of 16 tokens, [\d.]+ MB\n")
        self.assertRegex(err, r"kv: saved \d+ blocks of 16 tokens, [\d.]+ MB\n")

    def check_refused(self, content, *arguments, **options):
        """Exit status 2, one line, no text, and the file as it was."""
        path = self.write("kv", content)
        out, err = self.generate("--quiet", "--cache-file", path, *self.questions(), *arguments,
                                 status=2, **options)
        self.assertEqual(out, b"")
        self.assertEqual(err.count("\n"), 1, err)
        self.assertIn(path, err)
        self.assertEqual(self.read("kv"), content)

    def test_cache_file_damaged_or_of_another_model(self):
        self.generate("--cache-file", self.path("kv"), *self.questions())
        good = self.read("kv")
        for at in (0, 9, len(good) // 2, len(good) - 1):
            self.check_refused(good[:at] + bytes([good[at] ^ 4]) + good[at + 1:])
        self.check_refused(good[:-1])
        self.check_refused(good + b"\0")
        self.check_refused(b"")
        self.check_refused(good, "--set", "device.precision=float32")
        self.check_refused(good, "--set", "model.weights=int8")
        self.check_refused(good, "--set", "cache.block_tokens=8")
        other = checkpoint.make(SOURCE, self.path("other"), "qwen3")
        self.check_refused(good, model=other)

    def test_cache_file_that_cannot_be_written(self):
        out, err = self.generate("--cache-file", self.path("none/kv"), *self.questions(), status=2)
        self.assertEqual((out, err.count("\n")), (b"", 1), err)

    # -- signals and pipes

    def test_interrupt_saves_the_cache(self):
        path = self.path("kv")
        command = self.command("--chat", "--system", self.system, "--cache-file", path)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as child:
            child.stdin.write(b"What is a cache?\n")
            child.stdin.flush()
            seen = b""
            while b"prompt 1: " not in seen:
                line = child.stderr.readline()
                self.assertTrue(line, seen)
                seen += line
            child.send_signal(signal.SIGINT)
            _, err = child.communicate(timeout=60)
        self.assertEqual(child.returncode, 130, err)
        self.assertIn(b"saved", err)
        answer, = self.answers("--chat", "--system", self.system, "--cache-file", path,
                               "--prompt", "What is a cache?")
        self.assertEqual(answer["computed_tokens"], 1)

    def test_nobody_reads(self):
        with subprocess.Popen(self.command("--quiet", *self.questions()), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as child:
            child.stdout.close()
            err = child.stderr.read()
        self.assertEqual(child.returncode, 1, err)
        self.assertIn(b"cannot write the answer: Broken pipe", err)

    # -- bad input

    def test_bad_input(self):
        bare = self.path("bare")
        shutil.copytree(os.path.join(SOURCE, "tests/data/checkpoints/qwen2"), bare)
        ask = ["--prompt", "x"]
        for arguments, said in (
                (["--promt", "x"], "unknown option '--promt'; did you mean '--prompt'?"),
                (["--temprature", "1"], "did you mean '--temperature'?"),
                (["--prompt"], "--prompt needs a value"),
                (["hello"], "unexpected 'hello'"),
                (["--max-new-tokens", "0", *ask], "--max-new-tokens: expected a number from 1"),
                (["--max-new-tokens", "3x", *ask], "--max-new-tokens: expected a number from 1"),
                (["--max-new-tokens", "513", *ask], "512 tokens"),
                (["--top-p", "1.5", *ask], "sampling.top_p: 1.5 is out of range"),
                (["--set", "model.weight=int8", *ask], "did you mean 'model.weights'?"),
                (["--set", "device.kind=cuda", *ask], "device.kind"),
                (["--prompt", ""], "prompt 1 is empty"),
                ([*ask, "--prompt-file", self.write("empty", "")], "prompt 2 is empty"),
                (["--system", self.path("none"), *ask], "none: No such file"),
                (["--system", self.folder, *ask], "Is a directory"),
                (["--system", self.write("zero", b"a\0b"), *ask], "zero: a zero byte at 1"),
                (["--model", self.path("none"), *ask], "none: "),
                (["--model", bare, *ask], "has no tokenizer.json"),
                (["--model", "", *ask], "generate needs --model DIR")):
            with self.subTest(arguments):
                out, err = self.generate("--quiet", *arguments, status=2)
                self.assertEqual(out, b"")
                self.assertIn(said, err)
                self.assertEqual(err.count("\n"), 1, err)

    def test_help(self):
        out, _ = self.generate("--promt", "--help")
        for word in (b"--cache-file", b"Exit status", b"sampling.top_p"):
            self.assertIn(word, out)


if __name__ == "__main__":
    unittest.main()
