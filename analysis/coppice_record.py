"""The one reader of coppice result files.

    import coppice_record
    run = coppice_record.load("run.h5")
    run.requests                 pandas DataFrame, one per table; columns as in tables.def
    run.config["router.policy"]  the effective configuration; run.origin: where from
    run.attributes               everything else at the root: git_revision, host, cost.*, ...
    run.state                    COMPLETED, CUT_SHORT, SALVAGED or OPEN

A file may be completed, being written, or left by a kill: the latter two are in SWMR mode, and hold
every row that was flushed. What is read is checked before anybody sees it: each identity that
tables.def promises (TTFT parts, hit classes, order of stamps) holds in every row, or load raises a
RecordError that names the file, the row and the two numbers. metrics.md defines what is computed
from it.
"""

import os

# Before h5py: we only read, and a lock may be refused (NFS, a read-only folder, a live writer).
os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")

import h5py  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

SCHEMA_VERSION = 2

COMPLETED = "completed"
CUT_SHORT = "cut short"
SALVAGED = "salvaged after a kill"
OPEN = "being written, or killed"

FINISHED, REJECTED = 0, 1
MISS_CLASSES = ("tail", "cold", "capacity", "elsewhere", "stale", "self_inflicted")
OUTCOMES = ("done", "gone", "needless", "no_room", "corrupt", "refused")
REASONS = ("pull", "replicate")

# part of TTFT: (stamp it starts at, stamp it ends at); consecutive, so that they sum to ttft_ns
TTFT_PARTS = {
    "dispatch": ("scheduled_ns", "arrived_ns"),
    "route": ("arrived_ns", "routed_ns"),
    "send": ("routed_ns", "received_ns"),
    "queue": ("received_ns", "queue_end_ns"),
    "transfer": ("queue_end_ns", "transfer_end_ns"),
    "prefill_wait": ("transfer_end_ns", "prefill_start_ns"),
    "prefill": ("prefill_start_ns", "prefill_end_ns"),
    "return": ("prefill_end_ns", "first_token_ns"),
}
HIT_CLASSES = ("hit_local_tokens", "hit_migrated_tokens", "hit_host_tokens")

MAX_WORKERS = 65536  # of cluster.workers
WORKER_COLUMNS = (
    ("requests", "worker"), ("steps", "worker"), ("workers", "worker"),
    ("transfers", "src"), ("transfers", "dst"),
)  # fmt: skip

# Columns that the analysis uses. More may be in the file; one of these missing is an error.
COLUMNS = {
    "requests": (
        "request_id", "worker", "status", "miss_class", "scheduled_ns", "arrived_ns", "routed_ns",
        "received_ns", "queue_end_ns", "transfer_end_ns", "prefill_start_ns", "prefill_end_ns",
        "first_token_ns", "finished_ns", "ttft_ns", "e2e_ns", "predicted_ttft_ns",
        "prompt_tokens", "output_tokens", "computed_tokens", "predicted_hit_tokens",
        "best_hit_tokens", "ideal_hit_tokens", "resident_tokens", *HIT_CLASSES,
        *(f"{part}_ns" for part in TTFT_PARTS),
    ),
    "decisions": ("request_id", "duration_ns", "tie"),
    "candidates": ("request_id", "worker", "cost", "chosen"),
    "transfers": (
        "transfer_id", "src", "dst", "bytes", "blocks", "reason", "outcome", "wait_ns", "wire_ns",
        "unpack_ns", "predicted_transfer_ns", "predicted_gain_ns", "realised_gain_ns",
    ),
    "evictions": ("worker", "tokens", "to_host"),
    "steps": ("worker", "started_ns", "duration_ns", "prefill_tokens"),
    "workers": ("worker", "sampled_ns"),
}  # fmt: skip


class RecordError(Exception):
    """One line that says what is wrong with which file."""


class Record:
    """A loaded result file. Tables are attributes: run.requests, run.steps, ..."""

    def __init__(self, path, attributes, state, tables, units, docs):
        self.path = path
        self.state = state
        self.units = units  # {table: {column: unit}}
        self.docs = docs  # {table: {column: text}}
        self.tables = tables
        self.config, self.origin, self.attributes = {}, {}, {}
        for name, value in attributes.items():
            if not name.startswith("config."):
                self.attributes[name] = value
            elif name.endswith(".origin"):
                self.origin[name[len("config.") : -len(".origin")]] = value
            else:
                self.config[name[len("config.") :]] = value

    def __getattr__(self, name):
        try:
            return self.__dict__["tables"][name]
        except KeyError:
            raise AttributeError(f"no table or attribute '{name}'") from None

    @property
    def name(self):
        return os.path.splitext(os.path.basename(self.path))[0]

    @property
    def finished(self):
        return self.requests[self.requests["status"] == FINISHED]

    @property
    def block_tokens(self):
        return int(self.config.get("cache.block_tokens", 16))

    def worker_count(self):
        """Workers of the run, those that got no request included: a worker that idles is load
        imbalance, not absence."""
        count = int(self.attributes.get("workers", 0) or self.config.get("cluster.workers", 0))
        for table, column in WORKER_COLUMNS:
            values = self.tables[table][column]
            if len(values):
                count = max(count, int(values.max()) + 1)
        return count


def load(path, candidates=False):
    """Reads and checks a result file. /candidates is large and read only on request."""
    path = os.fspath(path)
    with _open(path) as (file, swmr):
        try:
            attributes = {name: _plain(value) for name, value in file.attrs.items()}
            _check_schema(path, attributes)
            wanted = [name for name in COLUMNS if candidates or name != "candidates"]
            tables, units, docs = {}, {}, {}
            for name in wanted:
                tables[name] = _read_table(path, file, name)
                notes = {key: _plain(value) for key, value in file[name].attrs.items()}
                units[name] = _notes_of(notes, ".unit")
                docs[name] = _notes_of(notes, ".doc")
        except (OSError, RuntimeError) as error:
            raise RecordError(f"{path}: damaged: {_first_line(error)}") from None
    run = Record(path, attributes, _state(attributes, swmr), tables, units, docs)
    check_workers(path, tables)
    check_requests(path, run.requests)
    return run


class _open:
    """Context manager: (file, in SWMR mode). Plain first; a file left in SWMR mode refuses that."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        _check_is_hdf5(self.path)
        try:
            self.file = h5py.File(self.path, "r")
            return self.file, False
        except OSError as error:
            if "open for write" not in str(error):
                raise RecordError(f"{self.path}: cannot be read: {_first_line(error)}") from None
        try:
            self.file = h5py.File(self.path, "r", swmr=True, libver="latest")
            return self.file, True
        except OSError:
            raise RecordError(
                f"{self.path}: opened for writing, and not ready for readers yet"
            ) from None

    def __exit__(self, *exception):
        self.file.close()


def _check_is_hdf5(path):
    try:
        with open(path, "rb") as raw:
            signature = raw.read(8)
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}") from None
    if not signature:
        raise RecordError(f"{path}: empty file")
    if signature != b"\x89HDF\r\n\x1a\n":
        raise RecordError(f"{path}: not an HDF5 file")


def _check_schema(path, attributes):
    version = attributes.get("schema_version")
    if version is None:
        raise RecordError(
            f"{path}: HDF5, but not a coppice result file (no attribute schema_version)"
        )
    if version != SCHEMA_VERSION:
        raise RecordError(
            f"{path}: schema version {version}; this reader knows version {SCHEMA_VERSION}"
        )


def _read_table(path, file, name):
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.names is None:
        raise RecordError(f"{path}: no table /{name}")
    for column in COLUMNS[name]:
        if column not in dataset.dtype.names:
            raise RecordError(f"{path}: table /{name} has no column {column}")
    rows = dataset[:]
    return pd.DataFrame({column: rows[column] for column in rows.dtype.names})


def _plain(value):
    """Attribute values as str, int, float, whatever width and shape the writer gave them."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").rstrip("\0")
    return value.item() if isinstance(value, np.generic) else value


def _notes_of(notes, suffix):
    return {key[: -len(suffix)]: text for key, text in notes.items() if key.endswith(suffix)}


def _state(attributes, swmr):
    if attributes.get("salvaged"):
        return SALVAGED
    if swmr:
        return OPEN
    return COMPLETED if attributes.get("completed") else CUT_SHORT


def _first_line(error):
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def check_workers(path, tables):
    """Per-worker numbers are made for 0 ... the largest id, so a wild one must not get through."""
    for table, column in WORKER_COLUMNS:
        values = tables[table][column].to_numpy()
        rows = np.flatnonzero((values < -1) | (values >= MAX_WORKERS))
        if len(rows):
            raise RecordError(
                f"{path}: /{table} row {rows[0]}: {column} is {values[rows[0]]}, not a worker"
                f" (-1 to {MAX_WORKERS - 1})"
            )


def check_requests(path, requests):
    """Raises a RecordError at the first row that breaks an identity of tables.def.

    Rejected requests have no stamps beyond the decision, so only finished rows are checked."""

    def fail_if(bad, describe):
        rows = np.flatnonzero(np.asarray(bad))
        if len(rows):
            # column by column: a row of mixed types would pass through float64 and lose digits
            row = {column: requests[column].iloc[rows[0]] for column in requests}
            raise RecordError(
                f"{path}: /requests row {rows[0]} (request_id {int(row['request_id'])}):"
                f" {describe(row)}"
            )

    fail_if(requests["request_id"].duplicated(), lambda row: "request_id occurs twice")
    fail_if(
        ~requests["status"].isin((FINISHED, REJECTED)),
        lambda row: f"status is {int(row['status'])}, neither 0 (finished) nor 1 (rejected)",
    )
    fail_if(
        requests["miss_class"] >= len(MISS_CLASSES),
        lambda row: f"miss_class is {int(row['miss_class'])}, the last known is"
        f" {len(MISS_CLASSES) - 1}",
    )
    finished = requests["status"] == FINISHED
    _check_tokens(requests, finished, fail_if)
    _check_times(requests, finished, fail_if)


def _check_tokens(requests, finished, fail_if):
    classes = [*HIT_CLASSES, "computed_tokens"]
    total = requests[classes].astype("int64").sum(axis=1)
    fail_if(
        finished & (total != requests["prompt_tokens"]),
        lambda row: f"hit classes and computed_tokens sum to {sum(int(row[c]) for c in classes)},"
        f" prompt_tokens is {int(row['prompt_tokens'])}",
    )


def _check_times(requests, finished, fail_if):
    parts = [f"{part}_ns" for part in TTFT_PARTS]
    fail_if(
        finished & (requests[parts].sum(axis=1) != requests["ttft_ns"]),
        lambda row: f"TTFT parts sum to {sum(int(row[p]) for p in parts)} ns,"
        f" ttft_ns is {int(row['ttft_ns'])} ns",
    )
    for part, (start, end) in TTFT_PARTS.items():
        _check_difference(requests, finished, fail_if, f"{part}_ns", start, end)
    _check_difference(requests, finished, fail_if, "e2e_ns", "scheduled_ns", "finished_ns")
    order = dict(TTFT_PARTS, decode=("first_token_ns", "finished_ns"))
    for start, end in order.values():
        fail_if(
            finished & (requests[end] < requests[start]),
            lambda row, start=start, end=end: f"{end} {int(row[end])} comes before"
            f" {start} {int(row[start])}",
        )


def _check_difference(requests, finished, fail_if, column, start, end):
    fail_if(
        finished & (requests[end] - requests[start] != requests[column]),
        lambda row: f"{column} is {int(row[column])} ns, {end} - {start} is"
        f" {int(row[end]) - int(row[start])} ns",
    )
