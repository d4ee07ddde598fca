"""Clusters of every size and front end, all routing policies, a trace, rejected requests."""
import os
import unittest

from cluster import SOURCE, ClusterTest, np

FEW = {"workload.requests": 60, "record.logits_digest": "false"}


class Cluster(ClusterTest):
    def check_run(self, record, count):
        rows = self.check_sums(record)
        self.assertEqual(sorted(rows["request_id"]), list(range(count)))
        self.assertEqual(record.attrs["completed"], 1)
        decisions = record["decisions"][:]
        self.assertEqual(len(decisions), count)
        self.assertEqual(len(record["candidates"]), decisions["candidates"].sum())
        chosen = record["candidates"][:]
        chosen = chosen[chosen["chosen"] == 1]
        self.assertTrue(np.array_equal(chosen["worker"], decisions["worker"]))
        steps = record["steps"][:]
        self.assertEqual(steps["prefill_tokens"].sum(), rows["computed_tokens"].sum())
        self.assertEqual(steps["decode_sequences"].sum(), (rows["output_tokens"] - 1).sum())
        return rows

    def check_choices(self, record, policy):
        """The choice has the lowest (cost, tie_cost); round robin takes turns."""
        decisions, candidates = record["decisions"][:], record["candidates"][:]
        for decision in decisions:
            first = decision["first_candidate"]
            offered = candidates[first:first + decision["candidates"]]
            best = min((c["cost"], c["tie_cost"]) for c in offered)
            chosen = offered[offered["chosen"] == 1][0]
            self.assertEqual((chosen["cost"], chosen["tie_cost"]), best)
        workers = decisions["worker"]
        if policy == "round_robin":
            self.assertTrue((workers[1:] != workers[:-1]).all())
        if policy == "longest_prefix":
            self.assertEqual(set(decisions["match_tokens"] < decisions["best_match_tokens"]),
                             {False})

    def test_one_to_eight_ranks(self):
        for ranks in (1, 2, 3, 5, 8):
            record = self.run_cluster(ranks, f"{ranks}.h5", FEW)
            rows = self.check_run(record, 60)
            self.assertLessEqual(set(rows["worker"]), set(range(ranks)))
            self.assertEqual(record.attrs["workers"], ranks)

    def test_dedicated_front_end(self):
        record = self.run_cluster(3, "d.h5", {**FEW, "cluster.frontend": "dedicated"})
        rows = self.check_run(record, 60)
        self.assertEqual(set(rows["worker"]), {0, 1})

    def test_every_routing_policy(self):
        policies = ("longest_prefix", "random", "round_robin", "least_loaded",
                    "sglang_cache_aware", "estimated_ttft")
        # without the floor of longest_prefix, so that its choice has the best match
        for policy in policies:
            record = self.run_cluster(2, f"{policy}.h5", {
                **FEW, "router.policy": policy, "router.min_match": 0})
            self.check_run(record, 60)
            self.check_choices(record, policy)
            self.assertEqual(record.attrs["config.router.policy"], policy)
            self.assertEqual(record.attrs["config.router.policy.origin"], "command line")

    def test_closed_loop(self):
        record = self.run_cluster(2, "closed.h5", {
            **FEW, "workload.loop": "closed", "workload.users": 5, "workload.think_s": 0.01})
        rows = self.check_run(record, 60)
        events = sorted([(t, 1) for t in rows["arrived_ns"]] +
                        [(t, -1) for t in rows["finished_ns"]])
        running = np.cumsum([step for _, step in events])
        self.assertLessEqual(running.max(), 5)

    def test_mooncake_trace(self):
        record = self.run_cluster(4, "mooncake.h5", {
            "workload.format": "mooncake", "workload.scale": 32, "workload.speedup": 1000,
            "workload.path": os.path.join(SOURCE, "tests/data/mooncake_small.jsonl"),
            "cache.capacity_blocks": 2048})
        rows = self.check_sums(record)
        self.assertEqual(len(rows), len(record["decisions"]))
        self.assertGreater(rows["hit_local_tokens"].sum(), 0)
        self.assertTrue((rows["hit_local_tokens"] + rows["hit_migrated_tokens"] <
                         rows["prompt_tokens"]).all())

    def test_too_long_a_prompt_is_rejected_and_the_run_goes_on(self):
        record = self.run_cluster(2, "reject.h5", {
            **FEW, "cache.capacity_blocks": 14, "scheduler.max_batch": 2})
        rows = record["requests"][:]
        self.assertEqual(len(rows), 60)
        rejected = rows[rows["status"] == 1]
        self.assertGreater(len(rejected), 0)
        self.assertLess(len(rejected), 60)
        self.assertTrue((rejected["prompt_tokens"] + rejected["output_tokens"] > 14 * 16).all())
        self.assertTrue((rejected["worker"] == -1).all())
        self.check_sums(record)


if __name__ == "__main__":
    unittest.main()
