"""coppice_record: every state a file can be in, every identity it must hold, the schema."""

import os
import re
import subprocess
import sys
import unittest

from harness import FIXTURE, FolderTest

import coppice_record
import make_fixture
import h5py
import numpy as np

MS = make_fixture.MS


class States(FolderTest):
    def test_completed(self):
        run = coppice_record.load(self.known())
        self.assertEqual(run.state, coppice_record.COMPLETED)
        self.assertEqual(len(run.requests), 6)
        self.assertEqual(len(run.finished), 5)
        self.assertEqual(run.requests["ttft_ns"].dtype, np.int64)
        self.assertEqual(run.config["router.policy"], "longest_prefix")
        self.assertEqual(run.origin["router.policy"], "default")
        self.assertEqual(run.attributes["cost.recompute_transfer_ratio"], 12.5)
        self.assertEqual(run.units["requests"]["ttft_ns"], "ns")
        self.assertIn("time to first token", run.docs["requests"]["ttft_ns"])

    def test_every_state_has_its_name(self):
        cut = self.known("cut.h5", completed=0)
        salvaged = self.known("salvaged.h5", completed=0, salvaged=1)
        unsaid = self.known("unsaid.h5", completed=None)
        states = [coppice_record.load(path).state for path in (cut, salvaged, unsaid)]
        expected = [coppice_record.CUT_SHORT, coppice_record.SALVAGED, coppice_record.CUT_SHORT]
        self.assertEqual(states, expected)

    def test_killed_file_gives_every_flushed_row(self):
        run = coppice_record.load(self.killed())
        self.assertEqual(run.state, coppice_record.OPEN)
        self.assertEqual([len(run.requests), len(run.steps)], [6, 3])

    def test_grows_while_it_is_written(self):
        path = self.path("live.h5")
        writer = subprocess.Popen(
            [sys.executable, FIXTURE, "live", path],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with writer:
            for rows in range(1, 5):
                self.assertEqual(writer.stdout.readline(), "ready\n")
                run = coppice_record.load(path)
                self.assertEqual((run.state, len(run.requests)), (coppice_record.OPEN, rows))
                writer.stdin.write("\n")
                writer.stdin.flush()
            writer.stdout.readline()
            writer.stdin.close()
        self.assertEqual(writer.returncode, 0)
        self.assertEqual(coppice_record.load(path).state, coppice_record.CUT_SHORT)

    def test_candidates_only_on_request(self):
        path = self.known()
        self.assertNotIn("candidates", coppice_record.load(path).tables)
        self.assertEqual(len(coppice_record.load(path, candidates=True).candidates), 0)

    def test_idle_workers_count(self):
        self.assertEqual(coppice_record.load(self.known()).worker_count(), 3)
        no_config = self.known("a.h5", **{"config.cluster.workers": 0})
        self.assertEqual(coppice_record.load(no_config).worker_count(), 3)  # /workers knows it


class Refusals(FolderTest):
    def refuses(self, path, *words):
        with self.assertRaises(coppice_record.RecordError) as caught:
            coppice_record.load(path)
        text = str(caught.exception)
        self.assertTrue(text.startswith(path + ": "), text)
        self.assertNotIn("\n", text)
        for word in words:
            self.assertIn(word, text)

    def spoiled(self, row, column, delta, **attributes):
        def change(tables):
            tables["requests"][row][column] = tables["requests"][row].get(column, 0) + delta

        return self.known(f"{column}{delta}.h5", change, **attributes)

    def test_files_that_are_none(self):
        with open(self.path("text.h5"), "w", encoding="utf-8") as text:
            text.write("not HDF5 at all\n")
        with open(self.path("empty.h5"), "w", encoding="utf-8"):
            pass
        with h5py.File(self.path("other.h5"), "w") as other:
            other["x"] = [1, 2]
        self.refuses(self.path("missing.h5"), "No such file")
        self.refuses(self.folder, "Is a directory")
        self.refuses(self.path("text.h5"), "not an HDF5 file")
        self.refuses(self.path("empty.h5"), "empty file")
        self.refuses(self.path("other.h5"), "not a coppice result file", "schema_version")

    def test_truncated_file(self):
        path = self.known()
        os.truncate(path, os.path.getsize(path) // 2)
        self.refuses(path, "truncated")

    def test_missing_table(self):
        path = self.known()
        with h5py.File(path, "a") as file:
            del file["steps"]
        self.refuses(path, "no table /steps")

    def test_missing_column(self):
        path = self.known()
        with h5py.File(path, "a") as file:
            del file["steps"]
            file["steps"] = np.zeros(1, [("worker", "<i4")])
        self.refuses(path, "/steps has no column started_ns")

    def test_other_schema(self):
        self.refuses(self.known(schema_version=99), "schema version 99", "version 2")

    def test_parts_must_sum_to_ttft(self):
        self.refuses(
            self.spoiled(2, "ttft_ns", 1), "row 2", "request_id 2",
            "sum to 60000000 ns", "ttft_ns is 60000001 ns",
        )  # fmt: skip

    def test_parts_must_be_differences_of_stamps(self):
        def change(tables):  # the sum still holds
            tables["requests"][3]["queue_ns"] += 5
            tables["requests"][3]["prefill_ns"] -= 5

        self.refuses(self.known(change=change), "row 3", "queue_ns is 5 ns", "is 0 ns")

    def test_end_to_end(self):
        self.refuses(self.spoiled(0, "e2e_ns", -1), "row 0", "e2e_ns is 189999999 ns")

    def test_hit_classes_must_sum_to_prompt(self):
        self.refuses(self.spoiled(4, "hit_host_tokens", 1), "row 4", "sum to 101", "is 100")

    def test_stamps_never_go_back(self):
        def change(tables):
            row = tables["requests"][1]
            for column in ("transfer_end_ns", "transfer_ns"):
                row[column] -= 1
            row["prefill_wait_ns"] += 1

        self.refuses(self.known(change=change), "row 1", "transfer_end_ns", "before queue_end_ns")

    def test_no_part_is_negative(self):
        def sent_before_routed(tables):
            row = tables["requests"][1]
            shift = row["send_ns"] + 1
            row["send_ns"] -= shift
            row["received_ns"] -= shift
            row["queue_ns"] += shift

        self.refuses(self.known(change=sent_before_routed), "row 1", "received_ns", "routed_ns")

    def test_unknown_codes_and_twins(self):
        self.refuses(self.spoiled(1, "status", 7), "row 1", "status is 7")
        self.refuses(self.spoiled(1, "miss_class", 8), "row 1", "miss_class is 9")
        self.refuses(self.spoiled(1, "request_id", -1), "row 1", "occurs twice")

    def test_wild_worker(self):
        def change(tables):
            tables["steps"][1]["worker"] = 1 << 30

        self.refuses(self.known(change=change), "/steps row 1", "worker is 1073741824")

    def test_large_ids_are_told_exactly(self):
        def change(tables):
            tables["requests"][1].update(request_id=2**64 - 3, status=9)

        self.refuses(self.known(change=change), "row 1", f"request_id {2**64 - 3})")

    def test_rejected_requests_need_no_stamps(self):
        run = coppice_record.load(self.spoiled(5, "ttft_ns", 12345))
        self.assertEqual(len(run.requests), 6)


class Schema(unittest.TestCase):
    """What the reader knows by name is what tables.def says."""

    def setUp(self):
        self.tables = make_fixture.schema()

    def test_tables_and_columns_exist(self):
        self.assertEqual(set(coppice_record.COLUMNS), set(self.tables))
        for table, columns in coppice_record.COLUMNS.items():
            known = [column for column, *_ in self.tables[table]]
            self.assertEqual([c for c in columns if c not in known], [], table)

    def test_parts_follow_ttft(self):
        columns = [column for column, *_ in self.tables["requests"]]
        first = columns.index("ttft_ns") + 1
        parts = [f"{part}_ns" for part in coppice_record.TTFT_PARTS]
        self.assertEqual(columns[first : first + len(parts)], parts)

    def test_codes_mean_what_the_table_says(self):
        def codes(table, column):
            doc = next(d for c, _, _, d in self.tables[table] if c == column)
            return [re.sub("[ -]", "_", text) for text in re.findall(r"\d ([a-z -]+)", doc)]

        misses = [name.replace("stale_view", "stale") for name in codes("requests", "miss_class")]
        self.assertEqual(misses, list(coppice_record.MISS_CLASSES))
        self.assertEqual(codes("transfers", "outcome"), list(coppice_record.OUTCOMES))
        self.assertEqual(codes("transfers", "reason"), list(coppice_record.REASONS))


if __name__ == "__main__":
    unittest.main()
