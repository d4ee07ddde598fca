"""One cluster with everything on, for builds with sanitizers: pulls, replicas, faults, eviction, a
host tier; and one that replays conversations."""
import unittest

from cluster import ClusterTest
from test_text import TEXT, TOKENIZER


class Sanitized(ClusterTest):
    def test_everything_at_once(self):
        settings = {"workload.requests": 90, "workload.rate": 5, "router.policy": "round_robin",
                    "fault.transfer_fail_rate": 0.2, "fault.transfer_corrupt_rate": 0.2}
        done = evicted = 0
        for migration, blocks, host in (("pull", 400, 0), ("replicate_hot", 60, 30)):
            record = self.run_cluster(3, f"{migration}.h5", {
                **settings, "migration.policy": migration, "migration.hot_count": 3,
                "cache.capacity_blocks": blocks, "cache.host_blocks": host})
            rows = self.check_sums(record)
            self.assertEqual(len(rows), 90)
            evicted += len(record["evictions"])
            self.assertEqual((record["evictions"]["to_host"] == 1).any(), host > 0)
            done += (record["transfers"]["outcome"] == 0).sum()
        self.assertGreater(evicted, 0)
        self.assertGreater(done, 0)

    def test_conversations(self):
        record = self.run_cluster(2, "text.h5", {**TEXT, "model.tokenizer": TOKENIZER})
        self.assertEqual(len(self.check_sums(record)), 55)


if __name__ == "__main__":
    unittest.main()
