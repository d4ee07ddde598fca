"""Workers on GPUs, emulated: blocks that moved over NCCL, or over MPI through host memory, give the
same logits as those that were computed; and which rank may have which GPU."""
import os
import subprocess
import unittest

from cluster import ClusterTest, np

PLUGIN = os.environ["COPPICE_EMULATED_PLUGIN"]

# Two users who wait for each answer: however slow the emulator is, prefixes are hot in time. Which
# request is the n-th depends on the time, what a session asks in its n-th turn does not.
GPUS = {"device.kind": "cuda", "device.deterministic": "true", "workload.requests": 20,
        "workload.loop": "closed", "workload.users": 2, "workload.think_s": 0.01,
        "workload.output_tokens": 3, "workload.documents": 2, "workload.document_share": 1}
REPLICATE = {"router.policy": "round_robin", "migration.policy": "replicate_hot",
             "migration.hot_count": 1, "migration.hot_replicas": 4}


def answers(record):
    rows = np.sort(record["requests"][:], order=["session_id", "turn"])
    return rows[["session_id", "turn", "logits_digest", "first_token"]]


class Gpus(ClusterTest):
    reference = None

    def setUp(self):
        super().setUp()
        os.environ["COPPICE_CUDA_PLUGIN"] = PLUGIN
        os.environ["COP_EMULATOR_STRICT_LOADING"] = "1"
        self.devices(4)

    def devices(self, count):
        os.environ["COP_EMULATOR_DEVICES"] = str(count)

    def compute_all(self):
        """The answers of one worker without a cache, for all tests."""
        if Gpus.reference is None:
            off = self.run_cluster(1, "off.h5", {**GPUS, "cache.enabled": "false"})
            Gpus.reference = answers(off)
            self.assertGreater(len(np.unique(Gpus.reference["logits_digest"])), 16)
        return Gpus.reference

    def compare(self, name, ranks, settings):
        record = self.run_cluster(ranks, name, {**GPUS, **settings})
        rows = self.check_sums(record)
        self.assertEqual(len(rows), 20)
        self.assertTrue(np.array_equal(answers(record), self.compute_all()),
                        f"{name}: answers differ")
        return record

    def count_moved(self, record):
        moved = record["transfers"][:]
        return int(moved["blocks"][moved["outcome"] == 0].sum())

    def test_moved_blocks_give_the_same_logits(self):
        for name, ranks, settings in (
                ("nccl.h5", 2, {"transport.kv": "nccl"}),
                ("front_end.h5", 4, {"transport.kv": "nccl", "cluster.frontend": "dedicated"}),
                ("staged.h5", 3, {"transport.kv": "mpi", "transport.staging_blocks": 2})):
            record = self.compare(name, ranks, {**REPLICATE, **settings})
            self.assertGreater(self.count_moved(record), 10, name)

    def test_the_host_tier_gives_the_same_logits(self):
        """Alone, and before the slots through which a transport's blocks go."""
        host = {"cache.capacity_blocks": 36, "cache.host_blocks": 24}
        for name, ranks, settings in (
                ("host.h5", 1, {}),
                ("host_staged.h5", 2, {**REPLICATE, "transport.kv": "mpi"})):
            record = self.compare(name, ranks, {**host, **settings})
            self.assertTrue((record["evictions"]["to_host"] == 1).any(), name)
            self.assertGreater(record["requests"]["hit_host_tokens"].sum(), 0, name)

    def test_faults_on_the_way(self):
        record = self.compare("faults.h5", 3, {
            **REPLICATE, "transport.kv": "nccl",
            "fault.transfer_fail_rate": 0.3, "fault.transfer_corrupt_rate": 0.3})
        outcomes = set(record["transfers"]["outcome"])
        self.assertGreater(len(outcomes), 1, outcomes)

    def refuse(self, ranks, settings, *words):
        command = self.command(ranks, self.config(), None, {**GPUS, **settings})
        done = subprocess.run(command, text=True, capture_output=True, timeout=120)
        self.assertNotEqual(done.returncode, 0)
        for word in words:
            self.assertIn(word, done.stderr)

    def test_more_workers_than_gpus(self):
        self.devices(1)
        self.refuse(2, {}, "this host has 1 CUDA device", "device.share")

    def test_two_workers_on_one_gpu(self):
        for kv in ("mpi", "nccl"):
            self.refuse(2, {"device.index": 1, "transport.kv": kv},
                        "ranks 0 and 1 are both on GPU-", "device.share")

    def test_a_shared_gpu(self):
        self.devices(1)
        out = self.path("shared.h5")
        command = self.command(2, self.config(), out, {
            **GPUS, **REPLICATE, "workload.requests": 10, "transport.kv": "nccl",
            "device.share": "true"})
        command.remove("--quiet")
        done = subprocess.run(command, text=True, capture_output=True, timeout=240)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr.count("NCCL_HOSTID"), 1, done.stderr)

    def test_nccl_wants_a_gpu(self):
        self.refuse(2, {"device.kind": "cpu", "device.deterministic": "false",
                        "transport.kv": "nccl"}, "transport.kv nccl", "device.kind cpu")


if __name__ == "__main__":
    unittest.main()
