"""Runs coppice under mpirun for the end-to-end tests and reads the records back with h5py."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

try:
    import h5py
    import numpy as np
except ImportError as missing:
    print(f"skipped: {sys.executable} has no {missing.name} (Debian: python3-h5py)")
    sys.exit(77)

COPPICE = os.environ["COPPICE"]
SOURCE = os.environ["COPPICE_SOURCE"]
MPIRUN = os.environ.get("MPIRUN", "mpirun")
FLAGS = ["--oversubscribe", "--bind-to", "none", "--mca", "mpi_yield_when_idle", "1"]
if os.geteuid() == 0:
    FLAGS.append("--allow-run-as-root")

PARTS = ["dispatch", "route", "send", "queue", "transfer", "prefill_wait", "prefill", "return"]
HITS = ["hit_local", "hit_migrated", "hit_host", "computed"]


class ClusterTest(unittest.TestCase):
    """A test with a folder of its own that goes with it."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="coppice-e2e-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def command(self, ranks, config, out, settings):
        command = [MPIRUN, *FLAGS, "-n", str(ranks), COPPICE, "run", config, "--quiet"]
        if out:
            command += ["-o", out]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        return command

    def start(self, ranks, config, out, settings):
        return subprocess.Popen(self.command(ranks, config, out, settings), text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run_cluster(self, ranks, name, settings, config=None, timeout=240):
        """Runs to the end and returns the open record; fails unless the status is 0."""
        out = self.path(name)
        done = subprocess.run(self.command(ranks, config or self.config(), out, settings),
                              text=True, capture_output=True, timeout=timeout)
        self.assertEqual(done.returncode, 0, done.stderr)
        record = h5py.File(out, "r")
        self.addCleanup(record.close)
        return record

    def config(self):
        return os.path.join(SOURCE, "tests/e2e/small.yaml")

    def check_sums(self, record):
        """Every row of /requests: parts add up to TTFT, hit classes to the prompt."""
        rows = record["requests"][:]
        rows = rows[rows["status"] == 0]
        self.assertTrue(np.array_equal(sum(rows[f"{p}_ns"] for p in PARTS), rows["ttft_ns"]))
        self.assertTrue(np.array_equal(sum(rows[f"{h}_tokens"] for h in HITS),
                                       rows["prompt_tokens"]))
        for part in PARTS:
            self.assertTrue((rows[f"{part}_ns"] >= 0).all(), part)
        return rows


def by_request(record, *columns):
    """Columns of /requests in order of request_id."""
    rows = np.sort(record["requests"][:], order="request_id")
    return [rows[c] for c in columns]
