"""One cluster with everything on, for builds with sanitizers: pulls, replicas, faults, eviction."""
import unittest

from cluster import ClusterTest


class Sanitized(ClusterTest):
    def test_everything_at_once(self):
        settings = {"workload.requests": 120, "workload.rate": 20, "router.policy": "round_robin",
                    "fault.transfer_fail_rate": 0.2, "fault.transfer_corrupt_rate": 0.2}
        for migration in ("pull", "replicate_hot"):
            record = self.run_cluster(3, f"{migration}.h5", {
                **settings, "migration.policy": migration, "migration.hot_count": 3})
            rows = self.check_sums(record)
            self.assertEqual(len(rows), 120)
            self.assertGreater(len(record["evictions"]), 0)
            self.assertTrue((record["transfers"]["outcome"] == 0).any())


if __name__ == "__main__":
    unittest.main()
