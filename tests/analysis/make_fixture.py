"""Writes synthetic result files for the tests of analysis/, with the dtypes of tables.def: the
schema stays written once.

    make_fixture.py known OUT.h5          six requests whose every statistic can be done by hand
    make_fixture.py killed OUT.h5         the same, left open in SWMR mode as by kill -9
    make_fixture.py live OUT.h5           the same, a request for each line on stdin
    make_fixture.py demo OUT.h5 [POLICY [REQUESTS [WORKERS [RATE]]]]
                                          a small queueing model of a run, to look at figures
"""

import os
import re
import sys

os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")

import h5py  # noqa: E402
import numpy as np  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TYPES = {"i64": "<i8", "u64": "<u8", "u32": "<u4", "i32": "<i4", "f64": "<f8", "u8": "u1"}
PARTS = ("dispatch", "route", "send", "queue", "transfer", "prefill_wait", "prefill", "return")
STAMPS = (
    "scheduled", "arrived", "routed", "received", "queue_end", "transfer_end", "prefill_start",
    "prefill_end", "first_token",
)  # fmt: skip
MS = 1_000_000


def schema():
    """{table: [(column, dtype, unit, doc)]} as tables.def says."""
    with open(os.path.join(ROOT, "src", "record", "tables.def"), encoding="utf-8") as text:
        lines = re.findall(
            r'^(TABLE|COLUMN)\((\w+), (?:(\w+), "([^"]*)", )?"([^"]*)"\)', text.read(), re.M
        )
    tables = {}
    for kind, first, column, unit, doc in lines:
        if kind == "TABLE":
            current = tables.setdefault(first, [])
        else:
            current.append((column, TYPES[first], unit, doc))
    return tables


def array(table, rows):
    """Rows given as dicts; what they leave out is 0."""
    dtype = np.dtype([(column, kind) for column, kind, _, _ in schema()[table]])
    out = np.zeros(len(rows), dtype)
    for i, row in enumerate(rows):
        for column, value in row.items():
            out[i][column] = value
    return out


def create(file, attributes):
    """All tables, empty, as the writer of records lays them out."""
    for name, value in {"schema_version": 2, "completed": 1, **dict(attributes)}.items():
        if value is not None:  # None leaves a default attribute out
            file.attrs[name] = value
    for name, columns in schema().items():
        dtype = array(name, []).dtype
        dataset = file.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(1024,))
        for column, _, unit, doc in columns:
            dataset.attrs[f"{column}.unit"] = unit
            dataset.attrs[f"{column}.doc"] = doc


def append(file, tables):
    for name, rows in tables.items():
        rows, old = array(name, rows), len(file[name])
        file[name].resize((old + len(rows),))
        file[name][old:] = rows
        file[name].flush()


def write(path, tables, attributes=()):
    with h5py.File(path, "w") as file:
        create(file, attributes)
        append(file, tables)


def write_killed(path, tables, attributes=()):
    """Leaves the file as kill -9 does. Ends the process: call it in one of its own."""
    file = h5py.File(path, "w", libver="latest")
    create(file, {**dict(attributes), "completed": 0})
    file.swmr_mode = True
    append(file, tables)
    os._exit(0)


def write_live(path, tables, attributes=()):
    """A run that goes on: one more request for each line on stdin, answered by a line."""
    with h5py.File(path, "w", libver="latest") as file:
        create(file, {**dict(attributes), "completed": 0})
        file.swmr_mode = True
        for row in tables["requests"]:
            append(file, {"requests": [row]})
            print("ready", flush=True)
            if not sys.stdin.readline():
                break


def request(request_id, scheduled_ns, parts_ns, decode_ns, prompt, hits=(0, 0, 0), **more):
    """A finished request whose identities hold. parts_ns: the eight parts of TTFT."""
    stamps = np.cumsum([scheduled_ns, *parts_ns])
    row = {f"{name}_ns": value for name, value in zip(STAMPS, stamps)}
    row.update({f"{name}_ns": value for name, value in zip(PARTS, parts_ns)})
    row.update(zip(("hit_local_tokens", "hit_migrated_tokens", "hit_host_tokens"), hits))
    row.update(
        request_id=request_id,
        ttft_ns=sum(parts_ns),
        finished_ns=stamps[-1] + decode_ns,
        e2e_ns=sum(parts_ns) + decode_ns,
        prompt_tokens=prompt,
        computed_tokens=prompt - sum(hits),
    )
    row.update(more)
    return row


CONFIG = {
    "config.cluster.workers": 3,
    "config.cache.block_tokens": 16,
    "config.cache.eviction": "lru",
    "config.router.policy": "longest_prefix",
    "config.router.policy.origin": "default",
    "config.migration.policy": "pull",
}


def known_attributes(**more):
    fixed = {"git_revision": "abc123", "host": "testhost", "seed": 7, "decisions_digest": "d1g357"}
    cost = {"cost.recompute_transfer_ratio": 12.5, "clock.offset_error_ns": 50.0}
    return {**CONFIG, **fixed, **cost, **more}


def known_tables():
    """Three workers, one of them idle; six requests, one rejected."""
    part = lambda queue, transfer, prefill: (  # noqa: E731
        1 * MS, 2 * MS, 1 * MS, queue * MS, transfer * MS, 0, prefill * MS, 1 * MS
    )  # fmt: skip
    requests = [
        # cold: TTFT 5 + 0 + 95 = 100 ms
        request(0, 0, part(0, 0, 95), 90 * MS, 100, output_tokens=10, worker=0, miss_class=1,
                predicted_ttft_ns=97 * MS * 2, ideal_hit_tokens=0),
        # cold: 200 ms
        request(1, 10 * MS, part(100, 0, 95), 0, 100, output_tokens=1, worker=0, miss_class=1,
                predicted_ttft_ns=98.5 * MS),
        # partial hit: 60 ms
        request(2, 20 * MS, part(15, 0, 40), 40 * MS, 100, (64, 0, 0), output_tokens=5, worker=1,
                miss_class=2, ideal_hit_tokens=96, best_hit_tokens=64, predicted_hit_tokens=64,
                resident_tokens=64, predicted_ttft_ns=57 * MS * 1.25),
        # full hit (4 computed): 20 ms
        request(3, 300 * MS, part(0, 0, 15), 80 * MS, 100, (96, 0, 0), output_tokens=5, worker=1,
                miss_class=0, ideal_hit_tokens=96, best_hit_tokens=96, predicted_hit_tokens=96,
                resident_tokens=96, predicted_ttft_ns=17 * MS * 0.9),
        # full hit, by migration and host: 40 ms
        request(4, 960 * MS, part(0, 10, 25), 0, 100, (32, 48, 10), output_tokens=1, worker=0,
                miss_class=0, ideal_hit_tokens=96, best_hit_tokens=80, predicted_hit_tokens=32,
                resident_tokens=32, predicted_ttft_ns=37 * MS * 1.1, transfer_id=1),
        {"request_id": 5, "worker": -1, "status": 1, "scheduled_ns": 400 * MS,
         "prompt_tokens": 9999},
    ]  # fmt: skip
    decisions = [
        {"request_id": i, "duration_ns": 1000 * (i + 1), "tie": i == 1} for i in range(6)
    ]
    transfers = [
        dict(transfer_id=1, request_id=4, src=1, dst=0, bytes=3000, blocks=3, reason=0, outcome=0,
             wait_ns=1 * MS, wire_ns=8 * MS, unpack_ns=1 * MS, predicted_transfer_ns=8 * MS,
             predicted_gain_ns=40 * MS, realised_gain_ns=30 * MS),
        dict(transfer_id=2, request_id=2, src=0, dst=1, bytes=0, blocks=0, reason=0, outcome=1,
             predicted_transfer_ns=9 * MS, predicted_gain_ns=10 * MS, realised_gain_ns=-5 * MS),
        dict(transfer_id=3, request_id=2, src=0, dst=1, bytes=1000, blocks=1, reason=1, outcome=0,
             wire_ns=2 * MS, predicted_transfer_ns=2 * MS, predicted_gain_ns=99 * MS,
             realised_gain_ns=np.nan),
    ]  # fmt: skip
    steps = [
        {"worker": 0, "started_ns": 100 * MS, "duration_ns": 500 * MS, "prefill_tokens": 10},
        {"worker": 1, "started_ns": 50 * MS, "duration_ns": 100 * MS, "prefill_tokens": 10},
        {"worker": 1, "started_ns": 150 * MS, "duration_ns": 150 * MS, "prefill_tokens": 10},
    ]
    return {
        "requests": requests,
        "decisions": decisions,
        "transfers": transfers,
        "steps": steps,
        "evictions": [
            {"worker": 0, "tokens": 16, "to_host": 1},
            {"worker": 0, "tokens": 16, "tier": 1},
            {"worker": 0, "tokens": 7},
        ],
        "workers": [{"worker": w, "sampled_ns": 0} for w in range(3)],
    }


def main(kind, path, *more):
    if kind == "demo":
        import demo_run

        demo_run.write_demo(path, *more)
        return
    writers = {"known": write, "killed": write_killed, "live": write_live}
    writers[kind](path, known_tables(), known_attributes())


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in ("known", "killed", "live", "demo"):
        sys.exit(__doc__)
    main(*sys.argv[1:])
