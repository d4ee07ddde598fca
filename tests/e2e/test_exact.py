"""Reuse is exact: every logit of every generated token has the same bits with the cache and without,
whatever was reused, evicted, chunked, batched, migrated, refused or broken on the way."""
import unittest

from cluster import ClusterTest, by_request, np


class Exact(ClusterTest):

    def run_reference(self):
        record = self.run_cluster(1, "off.h5", {"cache.enabled": "false"})
        rows = self.check_sums(record)
        self.assertEqual(len(rows), 300)
        self.assertEqual(rows["computed_tokens"].sum(), rows["prompt_tokens"].sum())
        digests, first = by_request(record, "logits_digest", "first_token")
        self.assertTrue((digests != 0).all())
        self.assertGreater(len(np.unique(digests)), 290)
        return digests, first

    def compare(self, reference, name, ranks, settings):
        record = self.run_cluster(ranks, name, settings)
        rows = self.check_sums(record)
        self.assertEqual(len(rows), 300)
        digests, first = by_request(record, "logits_digest", "first_token")
        self.assertTrue(np.array_equal(digests, reference[0]), f"{name}: logits differ")
        self.assertTrue(np.array_equal(first, reference[1]))
        return record, rows

    def check_transfers(self, record, rows):
        """The times of a transfer and of the request that waited for it tell one story."""
        by_id = {row["request_id"]: row for row in rows}
        waited = 0
        for moved in record["transfers"][:]:
            row = by_id[moved["request_id"]]
            if moved["outcome"] != 0 or row["transfer_id"] != moved["transfer_id"]:
                continue
            self.assertEqual(moved["bytes"], moved["blocks"] * record.attrs["block_bytes"])
            self.assertLessEqual(moved["planned_ns"], moved["posted_ns"])
            self.assertLessEqual(moved["posted_ns"], moved["ended_ns"])
            self.assertFalse(np.isnan(moved["realised_gain_ns"]))
            if row["transfer_end_ns"] > row["queue_end_ns"]:
                waited += 1
                self.assertEqual(row["transfer_end_ns"], moved["ended_ns"])
                self.assertEqual(row["queue_end_ns"], max(row["received_ns"], moved["posted_ns"]))
        self.assertGreater(waited, 5)

    def test_every_request_has_the_same_logits(self):
        reference = self.run_reference()

        record, rows = self.compare(reference, "on.h5", 1, {})
        self.assertGreater(rows["hit_local_tokens"].sum(), rows["prompt_tokens"].sum() // 4)
        self.assertGreater((rows["hit_local_tokens"] % 16 != 0).sum(), 20, "no partial block used")
        self.assertGreater(len(record["evictions"]), 100)
        self.assertGreater(record["steps"]["decode_sequences"].max(), 2, "no mixed batch")

        self.compare_host_tiers(reference)

        for chunk in (1, 7, 100):
            self.compare(reference, f"chunk{chunk}.h5", 2, {"scheduler.chunk_tokens": chunk})

        record, rows = self.compare(reference, "pull.h5", 3, {
            "router.policy": "round_robin", "migration.policy": "pull",
            "transport.link.bandwidth_mb_s": 200})
        self.assertGreater(rows["hit_migrated_tokens"].sum(), 500)
        self.check_transfers(record, rows)

        record, rows = self.compare(reference, "replicate.h5", 3, {
            "router.policy": "least_loaded", "migration.policy": "replicate_hot",
            "migration.hot_count": 3, "migration.hot_replicas": 3})
        moved = record["transfers"][:]
        self.assertTrue(((moved["reason"] == 1) & (moved["outcome"] == 0)).any())

        record, rows = self.compare(reference, "faults.h5", 3, {
            "router.policy": "random", "migration.policy": "pull",
            "fault.transfer_fail_rate": 0.3, "fault.transfer_corrupt_rate": 0.3})
        outcomes = set(record["transfers"]["outcome"])
        self.assertTrue({0, 4, 5} <= outcomes, outcomes)

        record, rows = self.compare(reference, "late.h5", 3, {
            "router.policy": "round_robin", "migration.policy": "pull",
            "transport.link.latency_us": 1500, "migration.timeout_ms": 1})
        waited = rows[rows["transfer_id"] > 0]
        late = waited[(waited["transfer_ns"] + waited["queue_ns"] >= 1000000) &
                      (waited["hit_migrated_tokens"] == 0)]
        self.assertGreater(len(late), 0, "no transfer came late")

    def compare_host_tiers(self, reference):
        """A roomy host tier; one beside transfers, whose sources and destinations have it; and one
        of a single slot below a pool that hardly holds the requests that run."""
        record, rows = self.compare(reference, "host.h5", 1, {"cache.host_blocks": 300})
        self.assertGreater(rows["hit_host_tokens"].sum(), rows["prompt_tokens"].sum() // 10)
        waited = rows[rows["hit_host_tokens"] > 0]
        self.assertGreater((waited["transfer_ns"] > 0).sum(), len(waited) // 2)
        in_vain = (rows["transfer_ns"] > 0) & (rows["hit_host_tokens"] == 0)
        self.assertLess(in_vain.sum(), len(waited) // 10, "what came was not kept")
        left, slots = record["evictions"][:], record["workers"]["host_blocks"]
        kept = left[left["to_host"] == 1]
        self.assertTrue((kept["tier"] == 0).all() and (kept["tokens"] == 16).all())
        self.assertTrue(((left["tier"] == 1) & (left["to_host"] == 0)).any(), "no slot changed hands")
        self.assertTrue(0 < slots.max() <= 300)
        self.assertEqual(record["workers"]["host_hit_tokens"].max(), rows["hit_host_tokens"].sum())
        self.assertGreater(record.attrs["cost.host_beta_ns"], 0)

        record, rows = self.compare(reference, "host_pull.h5", 3, {
            "cache.host_blocks": 40, "workload.speedup": 0.2,
            "router.policy": "round_robin", "migration.policy": "pull",
            "transport.link.bandwidth_mb_s": 200})
        self.assertGreater(rows["hit_host_tokens"].sum(), 500)
        self.assertGreater(rows["hit_migrated_tokens"].sum(), 500)

        record, rows = self.compare(reference, "host_tight.h5", 1, {
            "cache.host_blocks": 1, "cache.capacity_blocks": 48})
        self.assertLessEqual(record["workers"]["host_blocks"].max(), 1)
        self.assertGreater(len(record["evictions"]), 1000)

    def test_float32_and_eviction_policies(self):
        off = self.run_cluster(1, "off32.h5", {"cache.enabled": "false",
                                               "device.precision": "float32"})
        reference = by_request(off, "logits_digest", "first_token")
        for eviction in ("lru", "fifo", "lfu"):
            self.compare(reference, f"{eviction}.h5", 2,
                         {"device.precision": "float32", "cache.eviction": eviction})


if __name__ == "__main__":
    unittest.main()
