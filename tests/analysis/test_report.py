"""report.py: numbers of the known run done by hand, comparisons, errors, live, interpreters."""

import csv
import json
import math
import os
import subprocess
import sys
import time
import unittest

from harness import REPORT, FolderTest

import labels
import make_fixture

MS = make_fixture.MS


class Numbers(FolderTest):
    """TTFT of the known run: 100, 200 (no hit), 60, 20, 40 ms (hit); it lasts exactly 1 s."""

    def setUp(self):
        super().setUp()
        status, out, _ = self.run_report(
            "--json", "--no-figure", "--slo-ttft-ms", "100", "--slo-tpot-ms", "15", self.known()
        )
        self.assertEqual(status, 0)
        self.got = json.loads(out)["runs"][0]

    def agrees(self, got, expected):
        for key, value in expected.items():
            if value is None or isinstance(value, (int, str)):
                self.assertEqual(got[key], value, key)
            else:
                self.assertTrue(math.isclose(got[key], value, rel_tol=1e-12), (key, got[key]))

    def test_provenance(self):
        self.agrees(
            self.got["run"],
            {"state": "completed", "router_policy": "longest_prefix", "migration_policy": "pull",
             "cache_eviction": "lru", "seed": 7, "git_revision": "abc123", "host": "testhost",
             "decisions_digest": "d1g357", "device": None},
        )  # fmt: skip

    def test_counts_and_time(self):
        self.agrees(
            self.got["requests"],
            {"finished": 5, "rejected": 1, "cold": 2, "partial": 1, "full": 2},
        )
        self.assertEqual(self.got["span_ns"], 1000 * MS)
        self.agrees(
            self.got["ttft_ns"]["all"],
            {"n": 5, "mean": 84.0 * MS, "p50": 60.0 * MS, "p90": 160.0 * MS, "p99": 196.0 * MS},
        )
        self.agrees(
            self.got["ttft_ns"]["cold"],
            {"n": 2, "mean": 150.0 * MS, "p50": 150.0 * MS, "p90": 190.0 * MS, "p99": 199.0 * MS},
        )
        self.agrees(
            self.got["ttft_ns"]["hit"],
            {"n": 3, "mean": 40.0 * MS, "p50": 40.0 * MS, "p90": 56.0 * MS, "p99": 59.6 * MS},
        )
        # decode 90 ms / 9, 40 / 4, 80 / 4; the other two have one token
        self.agrees(self.got["tpot_ns"], {"n": 3, "mean": 40 / 3 * MS, "p50": 10.0 * MS})
        self.agrees(self.got["e2e_ns"], {"n": 5, "mean": 126.0 * MS, "p50": 100.0 * MS})

    def test_parts_add_up_to_the_mean(self):
        parts = self.got["ttft_parts_ns"]
        self.agrees(
            parts,
            {"dispatch": 1.0 * MS, "route": 2.0 * MS, "send": 1.0 * MS, "queue": 23.0 * MS,
             "transfer": 2.0 * MS, "prefill_wait": 0.0, "prefill": 54.0 * MS, "return": 1.0 * MS},
        )  # fmt: skip
        self.assertEqual(sum(parts.values()), self.got["ttft_ns"]["all"]["mean"])

    def test_rates(self):
        self.agrees(
            self.got["throughput"],
            {"requests_per_s": 5.0, "prompt_tokens_per_s": 500.0, "output_tokens_per_s": 22.0},
        )
        # TTFT too late: 1; TPOT too late: 3; good: 0, 2 and 4
        self.agrees(self.got["goodput"], {"requests_per_s": 3.0, "share": 0.6})

    def test_tokens_and_hits(self):
        self.agrees(
            self.got["tokens"],
            {"prompt": 500, "output": 22, "computed": 250, "saved": 250, "hit_local": 192,
             "hit_migrated": 48, "hit_host": 10, "ideal_hit": 288, "best_hit": 240,
             "predicted_hit": 192, "resident": 192},
        )  # fmt: skip
        self.agrees(
            self.got["hit"],
            {"token_ratio": 0.5, "request_ratio": 0.6, "local_ratio": 0.384, "host_ratio": 0.02,
             "migrated_ratio": 0.096, "ideal_ratio": 0.576, "best_ratio": 0.48,
             "predicted_ratio": 0.384, "of_ideal": 250 / 288},
        )  # fmt: skip
        self.agrees(self.got["evictions"], {"blocks": 2, "tokens": 23, "demoted_blocks": 1})

    def test_misses(self):
        misses = self.got["misses"]
        self.agrees(misses["cold"], {"requests": 2, "computed_tokens": 200, "share": 0.8})
        self.agrees(misses["capacity"], {"requests": 1, "computed_tokens": 36, "share": 0.144})
        self.agrees(misses["tail"], {"requests": 2, "computed_tokens": 14, "share": 0.056})
        self.agrees(misses["stale"], {"requests": 0, "computed_tokens": 0, "share": 0.0})

    def test_migrations(self):
        moved = self.got["migrations"]
        self.agrees(
            moved,
            {"count": 3, "blocks": 4, "bytes": 4000, "wire_bytes_per_s": 400000.0,
             "wait_ns": 0.5 * MS, "wire_ns": 5.0 * MS, "unpack_ns": 0.5 * MS,
             "time_over_predicted": 1.2, "judged": 2, "predicted_gain_ns": 50.0 * MS,
             "realised_gain_ns": 25.0 * MS, "realised_over_predicted": 0.5, "paid": 1},
        )  # fmt: skip
        self.agrees(moved["reasons"], {"pull": 2, "replicate": 1})
        self.agrees(moved["outcomes"], {"done": 2, "gone": 1, "corrupt": 0})
        self.assertEqual(self.got["cost"]["recompute_transfer_ratio"], 12.5)

    def test_load_counts_the_idle_worker(self):
        load = self.got["load"]
        self.assertEqual([w["requests"] for w in load["per_worker"]], [3, 2, 0])
        self.assertEqual([w["computed_tokens"] for w in load["per_worker"]], [210, 40, 0])
        self.assertEqual([w["hit_tokens"] for w in load["per_worker"]], [90, 160, 0])
        self.assertEqual([w["busy_share"] for w in load["per_worker"]], [0.5, 0.25, 0.0])
        # 3, 2, 0: mean 5/3, variance 14/9; 25 / (3 * 13)
        self.agrees(
            load["requests"],
            {"cv": math.sqrt(14) / 5, "max_over_mean": 9 / 5, "jain": 25 / 39},
        )

    def test_router(self):
        router = self.got["router"]
        self.agrees(router["decision_ns"], {"n": 6, "p50": 3500.0, "p99": 5950.0})
        # predicted / real - 1: +1, -0.5, +0.25, -0.1, +0.1
        self.assertEqual((router["decisions"], router["ties"]), (6, 1))
        self.assertAlmostEqual(router["ttft_error_median"], 0.1, places=12)
        self.assertAlmostEqual(router["ttft_abs_error_median"], 0.25, places=12)


class Output(FolderTest):
    def test_text_says_the_numbers(self):
        status, out, err = self.run_report("--no-figure", self.known())
        self.assertEqual((status, err), (0, ""))
        for line in (
            "all p90                        ms        160.0",
            "hit ratio                      %          50.0",
            "realised, of predicted         %          50.0",
            "decision p50                   us         3.50",
            "PER WORKER         requests     computed        saved   busy %",
        ):
            self.assertIn(line, out)
        self.assertNotIn("goodput", out)  # nobody gave a target

    def test_csv_holds_what_json_holds(self):
        path = self.known()
        _, out, _ = self.run_report("--csv", "--no-figure", path)
        rows = {row["metric"]: row for row in csv.DictReader(out.splitlines())}
        self.assertEqual(float(rows["ttft_ns.all.p90"]["value"]), 160 * MS)
        self.assertEqual(rows["load.per_worker.1.computed_tokens"]["value"], "40")
        self.assertEqual(rows["run.device"]["value"], "")
        self.assertEqual({row["run"] for row in rows.values()}, {"run"})

    def test_comparison_is_labelled_and_has_ratios(self):
        first = self.known("a.h5")

        def halve(tables):
            tables["requests"] = tables["requests"][3:5]  # mean TTFT 30 ms of 84

        second = self.known(
            "b.h5", halve, **{"config.router.policy": "random", "config.workload.rate": 8.0}
        )
        _, out, _ = self.run_report("--no-figure", first, second)
        self.assertIn("[1] longest_prefix: ", out)
        self.assertIn("[2] random: ", out)
        self.assertRegex(out, r"all mean +ms +84\.0 +30\.0 +x0\.36\n")
        self.assertIn("note: the runs differ in workload.rate too: absent, 8.0", out)
        self.assertIn("different numbers of requests", out)

    def test_unfinished_files_say_so(self):
        status, out, _ = self.run_report("--no-figure", self.killed())
        self.assertEqual(status, 0)
        self.assertIn("note: ", out)
        self.assertIn("being written, or killed", out)
        self.assertRegex(out, r"finished +5\n")
        _, out, _ = self.run_report("--json", "--no-figure", self.known(completed=0))
        self.assertEqual(json.loads(out)["runs"][0]["run"]["state"], "cut short")

    def test_nothing_finished(self):
        def drop(tables):
            for name in tables:
                tables[name] = tables[name][5:6] if name == "requests" else []

        rejected = self.known("rejected.h5", drop)
        empty = self.known("empty.h5", lambda tables: tables.clear())
        for path, count in ((rejected, 1), (empty, 0)):
            status, out, err = self.run_report(path)
            self.assertEqual(status, 0, err)
            self.assertIn("has no finished request", out)
            self.assertIn("no figure: no finished request", err)
            self.assertEqual(sorted(os.listdir(self.folder)), ["empty.h5", "rejected.h5"])
            _, out, _ = self.run_report("--json", "--no-figure", path)
            run = json.loads(out)["runs"][0]
            self.assertEqual((run["requests"]["rejected"], run["ttft_ns"]["all"]["p50"]),
                             (count, None))  # fmt: skip
            self.assertIsNone(run["hit"]["token_ratio"])


class Labels(unittest.TestCase):
    class Run:
        def __init__(self, name, **config):
            self.name = name
            self.config = {key.replace("__", "."): value for key, value in config.items()}

    def named(self, *runs):
        return labels.labels(list(runs))

    def test_policies_first_then_settings_then_files(self):
        run = self.Run
        self.assertEqual(self.named(run("a", router__policy="random")), ["a"])
        self.assertEqual(
            self.named(
                run("a", router__policy="random", migration__policy="off", seed=1),
                run("b", router__policy="random", migration__policy="pull", seed=2),
            ),
            ["no migration", "pull"],
        )
        self.assertEqual(self.named(run("a", seed=1), run("b", seed=2)), ["seed 1", "seed 2"])
        self.assertEqual(self.named(run("a", seed=1), run("b", seed=1)), ["a", "b"])
        self.assertEqual(
            self.named(run("a", seed=1, record__path="x"), run("a", seed=1, record__path="y")),
            ["a [1]", "a [2]"],
        )
        self.assertEqual(
            self.named(run("a", cache__enabled=False), run("b", cache__enabled=True)),
            ["cache off", "cache on"],
        )
        self.assertEqual(
            self.named(run("a", cache__enabled="false"), run("b")), ["cache off", "cache on"]
        )


class Errors(FolderTest):
    def test_every_bad_file_is_one_line(self):
        def spoil(tables):
            tables["requests"][2]["ttft_ns"] += 1

        bad = self.known("bad.h5", spoil)
        self.assert_one_error(self.run_report(bad), bad, "row 2", "ttft_ns is 60000001")
        self.assert_one_error(self.run_report(self.path("no.h5")), "no.h5", "No such file")
        self.assert_one_error(self.run_report(REPORT), "not an HDF5 file")
        self.assert_one_error(self.run_report(self.known("good.h5"), bad), "bad.h5")
        self.assertEqual(sorted(os.listdir(self.folder)), ["bad.h5", "good.h5"])

    def test_bad_arguments(self):
        self.assert_one_error(self.run_report(), "RUN.h5")
        self.assert_one_error(self.run_report("--csv", "--json", "x.h5"), "not allowed with")
        self.assert_one_error(self.run_report("--figure", "x.bmp", "x.h5"), ".png, .svg or .pdf")

    def test_unwritable_figure(self):
        status, out, err = self.run_report("-o", self.path("no/where"), self.known())
        self.assertEqual(status, 2)
        self.assertIn("finished without a hit", out)
        self.assertEqual(err.count("\n"), 1, err)
        self.assertIn("no/where.png: No such file or directory: no figure written", err)


class Processes(FolderTest):
    def call(self, *arguments, **environment):
        return subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, check=False,
            env={**os.environ, **environment},
        )  # fmt: skip

    def test_as_a_program_without_traceback(self):
        done = self.call(REPORT, self.path("no.h5"))
        self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (2, "", 1))

    @unittest.skipUnless(os.path.samefile(sys.executable, "/usr/bin/python3"), "system Python only")
    def test_an_interpreter_without_modules_hands_over(self):
        done = self.call("-S", REPORT, "--no-figure", self.known())
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("TIME TO FIRST TOKEN", done.stdout)

    def test_no_interpreter_has_the_modules(self):
        done = self.call("-S", REPORT, "x.h5", COPPICE_ANALYSIS_REEXEC="1")
        self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1))
        self.assertIn("apt install python3-h5py python3-pandas python3-matplotlib", done.stderr)

    def test_live_follows_until_the_run_closes(self):
        path = self.killed("run.h5")
        done = self.known("done.h5")
        with subprocess.Popen(
            [sys.executable, REPORT, "--live", path], stdout=subprocess.PIPE, text=True
        ) as live:
            first = live.stdout.readline()
            os.replace(done, path)
            deadline = time.monotonic() + 60
            rest = live.stdout.read()
            self.assertLess(time.monotonic(), deadline)
        self.assertIn("being written, or killed", first)
        self.assertIn("run.h5: completed", rest)
        self.assertEqual(live.returncode, 0)
        self.assertEqual(os.listdir(self.folder), ["run.h5"])


if __name__ == "__main__":
    unittest.main()
