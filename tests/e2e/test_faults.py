"""Bad input, a killed rank, Ctrl-C: one clear line, the right status, nothing lost, nothing hangs."""
import os
import re
import signal
import subprocess
import time
import unittest
import unittest.mock

from cluster import COPPICE, MPIRUN, FLAGS, SOURCE, ClusterTest, h5py

LONG = {"workload.requests": 100000, "workload.rate": 25, "record.logits_digest": "false",
        "workload.output_tokens": 4}


class BadInput(ClusterTest):
    def refuse(self, arguments, pattern, ranks=2):
        out = self.path("never.h5")
        command = [MPIRUN, *FLAGS, "-n", str(ranks), COPPICE, "run", *arguments, "-o", out]
        done = subprocess.run(command, text=True, capture_output=True, timeout=60)
        self.assertEqual(done.returncode, 2, done.stderr)
        lines = [l for l in done.stderr.splitlines() if l.startswith("coppice: ")]
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertRegex(lines[0], pattern)
        self.assertFalse(os.path.exists(out), "an output file was left")

    def write(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)
        return self.path(name)

    def trace_lines(self):
        with open(os.path.join(SOURCE, "tests/data/mooncake_small.jsonl")) as file:
            return file.read().splitlines()

    def test_config(self):
        bad = self.write("bad.yaml", "seed: 1\ncache:\n  evicton: lru\n")
        self.refuse([bad], r"bad\.yaml:3:3: .*cache\.evicton.*did you mean .*cache\.eviction")
        self.refuse([self.path("missing.yaml")], r"missing\.yaml")
        small = self.config()
        self.refuse([small, "--set", "cache.eviction=lruu"], r"lruu.*did you mean 'lru'")
        self.refuse([small, "--set", "router.policy=longest"], r"longest.*longest_prefix")
        self.refuse([small, "--set", "model.preset=tinny"], r"tinny.*tiny")
        self.refuse([small, "--set", "cluster.workers=3"], r"cluster\.workers is 3.*mpirun -n 3")
        with unittest.mock.patch.dict(os.environ, COPPICE_CUDA_PLUGIN="/nowhere/plugin.so"):
            self.refuse([small, "--set", "device.kind=cuda"],
                        r"device\.kind cuda: plugin coppice-cuda\.so: /nowhere/plugin\.so")
        self.refuse([small, "--set", "cluster.frontend=dedicated"], r"2 ranks", ranks=1)

    def test_trace(self):
        trace = ["--set", "workload.format=mooncake", "--set"]
        good = self.trace_lines()
        bad = self.write("bad.jsonl", "\n".join([good[0], good[1], good[2][:-9]]) + "\n")
        self.refuse([self.config(), *trace, f"workload.path={bad}"], r"bad\.jsonl:3: ")
        self.refuse([self.config(), *trace, f"workload.path={self.path('none.jsonl')}"],
                    r"none\.jsonl")

    def test_bad_lines_can_be_skipped(self):
        good = self.trace_lines()
        bad = self.write("bad.jsonl", "\n".join(good[:5] + ["{nonsense"] + good[5:20]) + "\n")
        record = self.run_cluster(2, "skip.h5", {
            "workload.format": "mooncake", "workload.path": bad, "workload.scale": 32,
            "workload.speedup": 1000, "workload.skip_bad_lines": "true",
            "cache.capacity_blocks": 2048})
        self.assertEqual(len(record["requests"]), 20)
        self.assertEqual(record.attrs["workload_lines_skipped"], 1)

    def test_no_result_file(self):
        done = subprocess.run([COPPICE, "run", self.config()], text=True, capture_output=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("-o FILE.h5", done.stderr)
        done = subprocess.run([COPPICE, "run", self.config(), "-o", "/nowhere/at/all.h5"],
                              text=True, capture_output=True)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("/nowhere/at", done.stderr)


class CutShort(ClusterTest):
    def start_and_wait(self, out, ranks=3):
        job = self.start(ranks, self.config(), out, LONG)
        deadline = time.time() + 60
        while time.time() < deadline:
            try:
                with h5py.File(out, "r", swmr=True, libver="latest") as record:
                    if len(record["requests"]) > 40:
                        return job
            except (OSError, KeyError):
                pass
            time.sleep(0.1)
        job.kill()
        self.fail("the run did not get going: " + job.communicate()[1])

    def children(self, job):
        """Ranks of the job, by pid."""
        ranks = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat") as file:
                    parent = int(file.read().rsplit(")", 1)[1].split()[1])
                if parent != job.pid:
                    continue
                with open(f"/proc/{pid}/environ", "rb") as file:
                    rank = re.search(rb"OMPI_COMM_WORLD_RANK=(\d+)", file.read())
            except OSError:
                continue
            if rank:
                ranks[int(rank.group(1))] = int(pid)
        return ranks

    def finished_rows(self, out):
        with h5py.File(out, "r", swmr=True, libver="latest") as record:
            rows = record["requests"][:]
            self.assertEqual(record.attrs["completed"], 0)
            return rows[rows["status"] == 0]

    def test_a_killed_rank_ends_the_job_and_loses_at_most_a_second(self):
        for victim in (1, 0):
            out = self.path(f"killed{victim}.h5")
            job = self.start_and_wait(out)
            started = time.monotonic_ns()
            with h5py.File(out, "r", swmr=True, libver="latest") as record:
                before = len(record["requests"])
            os.kill(self.children(job)[victim], signal.SIGKILL)
            _, err = job.communicate(timeout=30)
            self.assertNotEqual(job.returncode, 0)
            self.assertRegex(err, rf"rank {victim} .*(signal 9|Killed)")
            rows = self.finished_rows(out)
            self.assertGreaterEqual(len(rows), before)
            seconds = (time.monotonic_ns() - started) / 1e9
            self.assertLess(seconds, 30)
            salvaged = self.path(f"salvaged{victim}.h5")
            done = subprocess.run([COPPICE, "salvage", out, salvaged], text=True,
                                  capture_output=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            with h5py.File(salvaged, "r") as record:
                self.assertEqual(len(record["requests"]), len(rows))

    def test_interrupt_closes_the_record(self):
        out = self.path("interrupted.h5")
        job = self.start_and_wait(out)
        job.send_signal(signal.SIGINT)
        _, err = job.communicate(timeout=30)
        self.assertNotEqual(job.returncode, 0)
        with h5py.File(out, "r") as record:  # closed properly: a plain open works
            self.assertEqual(record.attrs["completed"], 0)
            self.assertGreater(len(record["requests"]), 40)
            self.check_sums(record)


if __name__ == "__main__":
    unittest.main()
