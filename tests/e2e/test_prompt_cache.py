"""coppice bench prompt_cache: its table, its CSV, its bounds."""
import csv
import os
import shutil
import subprocess
import tempfile
import unittest

COPPICE = os.environ["COPPICE"]

# The preset tiny, as src/model/geometry.c has it.
LAYERS, HIDDEN, FFN, Q_HEADS, KV_HEADS, HEAD_DIM, VOCAB = 4, 256, 704, 4, 2, 64, 2048


def work(start, count):
    """Operations of `count` tokens after `start`, token by token."""
    linear = HIDDEN * HEAD_DIM * (2 * Q_HEADS + 2 * KV_HEADS) + 3 * HIDDEN * FFN
    attention = sum(2 * Q_HEADS * HEAD_DIM * (start + i + 1) for i in range(count))
    return 2 * LAYERS * (count * linear + attention) + 2 * VOCAB * HIDDEN


class PromptCache(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="coppice-bench-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def bench(self, status=0, **settings):
        command = [COPPICE, "bench", "prompt_cache"]
        for key, value in settings.items():
            command += ["--set", f"{key.replace('__', '.')}={value}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stdout, done.stderr

    def test_table(self):
        path = self.path("a.csv")
        out, _ = self.bench(model__preset="tiny", bench__tokens=200, bench__users=2,
                            bench__repeats=1, bench__suffix_tokens=5, bench__csv=path)
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual([int(r["system_tokens"]) for r in rows], [64, 128, 200])
        lines = out.splitlines()[2:]
        self.assertEqual(len(lines), len(rows))
        for row, line in zip(rows, lines):
            system = int(row["system_tokens"])
            self.assertEqual(row["model"], "tiny")
            self.assertEqual((int(row["prompt_tokens"]), int(row["computed_tokens"])),
                             (system + 5, 5))
            self.assertAlmostEqual(float(row["token_ratio"]), (system + 5) / 5, places=3)
            self.assertAlmostEqual(float(row["bound"]), work(0, system + 5) / work(system, 5),
                                   places=3)
            self.assertAlmostEqual(float(row["reading_bound"]),
                                   float(row["cold_ms"]) / float(row["step_ms"]), delta=0.1)
            self.assertGreater(float(row["hit_ms"]), 0)
            shown = line.split()
            self.assertEqual(shown[:2], [row["system_tokens"], row["prompt_tokens"]])
            self.assertAlmostEqual(float(shown[4]), float(row["speedup"]), delta=0.06)
            share = 100 * float(row["speedup"]) / float(row["bound"])
            self.assertAlmostEqual(float(shown[7]), share, delta=0.06)

    def test_bad_input(self):
        for settings, status, said in (
                ({"bench__tokens": 100000}, 2, "context of 'tiny' ends at"),
                ({"bench__csv": self.path("none/a.csv")}, 1, "none/a.csv: No such file"),
                ({"model__preset": "tinny"}, 2, "did you mean 'tiny'?"),
                ({"bench__user": 3}, 2, "did you mean 'bench.users'?"),
                ({"device__kind": "cuda"}, 2, "device.kind")):
            with self.subTest(settings):
                out, err = self.bench(status, **settings)
                self.assertEqual(out, "")
                self.assertIn(said, err)


if __name__ == "__main__":
    unittest.main()
