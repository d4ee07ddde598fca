"""Reads with h5py what the recorder writes: values, units, docs; while it writes; after a kill,
also one that falls into the closing.

usage: record_check.py values|live|kill|close WRITER TABLES_DEF
"""
import os
import random
import re
import subprocess
import sys
import tempfile
import time

try:
    import h5py
    import numpy as np
except ImportError as error:
    print(f"SKIP: {error} (Debian: python3-h5py)")
    sys.exit(77)

TYPES = {"i64": "<i8", "u64": "<u8", "i32": "<i4", "u32": "<u4", "f64": "<f8", "u8": "|u1"}
SEED = 20240607


def read_tables_def(path):
    """tables.def -> [(name, doc, [(column, type, unit, doc), ...]), ...]"""
    string = r'"((?:[^"\\]|\\.)*)"'
    tables = []
    for line in open(path, encoding="utf-8"):
        table = re.match(rf"TABLE\((\w+), {string}\)", line)
        column = re.match(rf"COLUMN\((\w+), (\w+), {string}, {string}\)", line)
        if table:
            tables.append((table[1], table[2], []))
        elif column:
            tables[-1][2].append((column[2], column[1], column[3], column[4]))
    assert len(tables) >= 7 and sum(len(t[2]) for t in tables) > 100, "tables.def not understood"
    return tables


def pattern(table, column, first, count, kind):
    """pattern.h's function for rows first .. first + count of one column."""
    with np.errstate(over="ignore"):
        v = np.arange(first + 1, first + count + 1, dtype=np.uint64)
        v = v * np.uint64(0x9E3779B97F4A7C15)
        v += np.uint64((column + 1) * 0xBF58476D1CE4E5B9 % 2**64)
        v += np.uint64((table + 1) * 0x94D049BB133111EB % 2**64)
    v ^= v >> np.uint64(29)
    if kind == "f64":
        return (v >> np.uint64(11)).astype(np.float64) / 2**20
    return v.astype(TYPES[kind])


def check_rows(file, tables):
    """Every row that is there is right; returns the row counts."""
    counts = []
    for t, (name, _, columns) in enumerate(tables):
        rows = file[name][:]
        for c, (column, kind, _, _) in enumerate(columns):
            want = pattern(t, c, 0, len(rows), kind)
            wrong = np.flatnonzero(rows[column] != want)
            assert wrong.size == 0, f"/{name} {column}: row {wrong[0]} of {len(rows)} is wrong"
        counts.append(len(rows))
    return counts


def padding_is_zero(dataset):
    rows = dataset[:]
    raw = rows.view(np.uint8).reshape(len(rows), rows.dtype.itemsize)
    used = np.zeros(rows.dtype.itemsize, bool)
    for kind, offset in (field[:2] for field in rows.dtype.fields.values()):
        used[offset : offset + kind.itemsize] = True
    return not raw[:, ~used].any(), int((~used).sum())


def check_schema(file, tables):
    assert sorted(file.keys()) == sorted(t[0] for t in tables)
    for name, doc, columns in tables:
        data = file[name]
        assert data.ndim == 1 and data.chunks and data.maxshape == (None,), name
        assert data.attrs["doc"] == doc, name
        assert data.dtype.names == tuple(c[0] for c in columns), name
        assert len(data.attrs) == 1 + 2 * len(columns), name
        for column, kind, unit, column_doc in columns:
            assert data.dtype[column] == np.dtype(TYPES[kind]), (name, column)
            assert data.attrs[f"{column}.unit"] == unit, (name, column)
            assert data.attrs[f"{column}.doc"] == column_doc, (name, column)


def check_values(writer, tables, folder):
    path = os.path.join(folder, "whole.h5")
    for rows in (0, 1, 5000):
        subprocess.run([writer, "whole", path, str(rows)], check=True, capture_output=True)
        with h5py.File(path, "r") as file:
            check_schema(file, tables)
            assert check_rows(file, tables) == [rows + t for t in range(len(tables))]
            padded = 0
            for name, _, _ in tables:
                data = file[name]
                assert data.shuffle and data.compression == "gzip", name
                clean, holes = padding_is_zero(data)
                assert clean, f"/{name}: padding holds something"
                padded += holes
            assert padded > 0, "no table has padding: nothing was checked"
            a = file.attrs
            assert a["config"] == "cluster:\n  workers: 2  # \u00e9t\u00e9\n" and a["empty"] == ""
            assert (a["seed"], a["decision_digest"], a["clock_error_ns"]) == (8, 42, 0.125)
            assert (a["completed"], a["schema_version"]) == (1, 2) and "salvaged" not in a
        assert os.listdir(folder) == ["whole.h5"], "something was left beside the record"
    check_reader_keeps_old(writer, tables, folder)
    print("values: 3 records of", len(tables), "tables match")


def check_reader_keeps_old(writer, tables, folder):
    """A new run may take the name of a record that somebody has open."""
    path = os.path.join(folder, "whole.h5")
    with h5py.File(path, "r") as old:
        subprocess.run([writer, "whole", path, "3"], check=True, capture_output=True)
        assert check_rows(old, tables) == [5000 + t for t in range(len(tables))]
    with h5py.File(path, "r") as new:
        assert check_rows(new, tables) == [3 + t for t in range(len(tables))]


def start_endless(writer, path, seed):
    process = subprocess.Popen([writer, "endless", path, str(seed)], stdout=subprocess.PIPE)
    first = process.stdout.readline()
    assert first, "the writer ended at once"
    return process, first


def check_live(writer, tables, folder):
    path = os.path.join(folder, "live.h5")
    process, line = start_endless(writer, path, SEED)
    seen = []
    try:
        acknowledged = [int(n) for n in line.split()]
        with h5py.File(path, "r", libver="latest", swmr=True) as file:
            for _ in range(5):
                for name, _, _ in tables:
                    file[name].refresh()
                counts = check_rows(file, tables)
                assert all(c >= a for c, a in zip(counts, acknowledged)), (counts, acknowledged)
                seen.append(sum(counts))
                acknowledged = [int(n) for n in process.stdout.readline().split()]
        assert process.poll() is None, "the writer died under a reader"
    finally:
        process.kill()
        process.wait()
    assert seen == sorted(seen) and seen[-1] > seen[0], f"the reader saw no growth: {seen}"
    print("live: rows seen while it wrote:", *seen)


def kill_once(writer, path, draw):
    """Kills a writer at a random moment; returns what it acknowledged last."""
    process, line = start_endless(writer, path, draw.randrange(2**31))
    until = time.monotonic() + draw.uniform(0, 0.04)
    while time.monotonic() < until:
        line = process.stdout.readline()
    process.kill()
    lines = [line] + process.stdout.read().splitlines(keepends=True)
    process.wait()
    return [int(n) for n in [l for l in lines if l.endswith(b"\n")][-1].split()]


def check_kill(writer, tables, folder):
    print("seed", SEED)
    draw = random.Random(SEED)
    killed, plain = os.path.join(folder, "killed.h5"), os.path.join(folder, "plain.h5")
    extra = 0
    for trial in range(20):
        acknowledged = kill_once(writer, killed, draw)
        with h5py.File(killed, "r", libver="latest", swmr=True) as file:
            check_schema(file, tables)
            counts = check_rows(file, tables)
            assert file.attrs["completed"] == 0 and file.attrs["seed"] == -7
        assert all(c >= a for c, a in zip(counts, acknowledged)), (trial, counts, acknowledged)
        told = subprocess.run([writer, "salvage", killed, plain], check=True, capture_output=True)
        assert [int(n) for n in told.stdout.split()] == counts, (trial, told.stdout, counts)
        with h5py.File(plain, "r") as file:
            check_schema(file, tables)
            assert check_rows(file, tables) == counts
            assert file.attrs["completed"] == 0 and file.attrs["salvaged"] == 1
            assert file.attrs["config"].startswith("cluster:")
        extra += sum(counts) - sum(acknowledged)
        print(f"kill {trial}: acknowledged {sum(acknowledged)} rows, found {sum(counts)}")
    assert sorted(os.listdir(folder)) == ["killed.h5", "plain.h5"]
    print("kill: 20 of 20, rows beyond the last acknowledged flush:", extra)


def check_close(writer, tables, folder):
    """A kill while the record is closed: PATH is the live file or the finished one, never neither."""
    print("seed", SEED)
    draw = random.Random(SEED)
    path, rows, finished = os.path.join(folder, "closing.h5"), 8000, 0
    for trial in range(11):
        process = subprocess.Popen([writer, "whole", path, str(rows)], stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"closing\n"
        begin = time.monotonic()
        if trial == 0:
            process.wait()
            close_s = time.monotonic() - begin
        else:
            time.sleep(draw.uniform(0, 1.2 * close_s))
        process.kill()
        process.wait()
        with h5py.File(path, "r", libver="latest", swmr=True) as file:
            assert check_rows(file, tables) == [rows + t for t in range(len(tables))]
            finished += int(file.attrs["completed"])
        subprocess.run([writer, "salvage", path, path + ".plain"], check=True, capture_output=True)
        with h5py.File(path + ".plain", "r") as file:
            assert check_rows(file, tables) == [rows + t for t in range(len(tables))]
    print(f"close: 11 of 11 readable, {finished} finished")


def main():
    check, writer, tables_def = sys.argv[1:]
    checks = {"values": check_values, "live": check_live, "kill": check_kill, "close": check_close}
    with tempfile.TemporaryDirectory() as folder:
        checks[check](writer, read_tables_def(tables_def), folder)


main()
