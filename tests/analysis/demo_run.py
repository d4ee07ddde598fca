"""A small queueing model of a run, so that figures can be looked at without a cluster: sessions of
several turns, workers that serve one prompt at a time and keep the last sessions they saw. It
imitates no machine; its numbers mean nothing beyond having the shape of a record."""

import numpy as np

from make_fixture import CONFIG, known_attributes, request, write

MS = 1_000_000
BLOCK = 16
TOKEN_NS, LAUNCH_NS, DECODE_NS, WIRE_NS = 300_000, 3 * MS, 4 * MS, 45_000
POLICIES = ("random", "longest_prefix", "estimated_ttft")


class Worker:
    def __init__(self, index, capacity):
        self.index, self.capacity = index, capacity
        self.free_ns = 0
        self.held = {}  # session -> tokens, least recently used first

    def touch(self, session, tokens):
        self.held.pop(session, None)
        self.held[session] = tokens
        while sum(self.held.values()) > self.capacity:
            self.held.pop(next(iter(self.held)))


def arrivals(rng, count, rate):
    """[(scheduled_ns, session, turn, prompt tokens, output tokens)] in order of time."""
    out, session, start_s = [], 0, 0.0
    while len(out) < count:
        start_s += rng.exponential(1 / rate)
        at_s, prompt = start_s, int(rng.choice([128, 256, 256, 512]))
        for turn in range(1 + rng.geometric(0.22)):
            prompt += int(rng.integers(8, 96))
            output = int(rng.integers(4, 32))
            out.append((int(at_s * 1e9), session, turn, prompt, output))
            prompt += output
            at_s += 0.6 + rng.exponential(1.2)
        session += 1
    return sorted(out)[:count]


def choose(policy, rng, workers, now_ns, session, prompt):
    """(worker, source of a migration or None)"""
    if policy == "random":
        return workers[rng.integers(len(workers))], None
    match = np.array([w.held.get(session, 0) for w in workers])
    wait = np.array([max(0, w.free_ns - now_ns) for w in workers])
    if policy == "longest_prefix":
        return workers[int(np.lexsort((wait, -match))[0])], None
    best = int(match.argmax())
    alone = wait + TOKEN_NS * (prompt - match)
    fetch = wait + WIRE_NS * (match[best] - match) + TOKEN_NS * (prompt - match[best])
    chosen = int(np.minimum(alone, fetch).argmin())
    pull = fetch[chosen] < alone[chosen] and match[best] - match[chosen] >= BLOCK
    return workers[chosen], workers[best] if pull else None


def serve(tables, rng, i, arrival, worker, source, seen, workers):
    at_ns, session, turn, prompt, output = arrival
    local = min(worker.held.get(session, 0), prompt - 1)
    best = max(w.held.get(session, 0) for w in workers) // BLOCK * BLOCK
    ideal = min(seen.get(session, 0), prompt - 1) // BLOCK * BLOCK
    migrated = 0
    if source:
        migrated = max(0, min(source.held[session], prompt - 1) // BLOCK * BLOCK - local)
    computed = prompt - local - migrated
    overhead = [int(x) for x in rng.gamma(2, 30_000, 3)]
    ready_ns = at_ns + sum(overhead)
    wire_ns = int(migrated * WIRE_NS * rng.gamma(20, 1 / 20))
    queue_ns = 0 if migrated else max(0, worker.free_ns - ready_ns)
    wait_ns = max(0, worker.free_ns - ready_ns - wire_ns) if migrated else 0
    prefill_ns = int((LAUNCH_NS + computed * TOKEN_NS) * rng.gamma(60, 1 / 60))
    parts = [*overhead, queue_ns, wire_ns, wait_ns, prefill_ns, 40_000]
    start_ns = ready_ns + queue_ns + wire_ns + wait_ns
    miss = 0 if computed <= BLOCK else 1
    if ideal - local - migrated >= BLOCK:
        miss = 3 if best - local - migrated >= BLOCK else 2
    tables["requests"].append(
        request(i, at_ns, parts, output * DECODE_NS, prompt, (local, migrated, 0), turn=turn,
                session_id=session, output_tokens=output, worker=worker.index, miss_class=miss,
                ideal_hit_tokens=ideal, best_hit_tokens=best,
                predicted_hit_tokens=local // BLOCK * BLOCK, resident_tokens=local,
                transfer_id=len(tables["transfers"]) + 1 if source else 0,
                predicted_ttft_ns=sum(parts[2:]) * rng.gamma(40, 1 / 40))
    )  # fmt: skip
    tables["decisions"].append({"request_id": i, "duration_ns": overhead[1] // 4})
    if source:
        record_transfer(tables, rng, i, source, worker, migrated, wire_ns)
    tables["steps"].append(
        dict(worker=worker.index, started_ns=start_ns, duration_ns=prefill_ns + output * MS,
             prefill_tokens=computed)
    )  # fmt: skip
    worker.free_ns = start_ns + prefill_ns + output * MS
    worker.touch(session, prompt + output)
    seen[session] = prompt + output


def record_transfer(tables, rng, i, source, worker, migrated, wire_ns):
    saved_ns = migrated * TOKEN_NS
    tables["transfers"].append(
        dict(transfer_id=len(tables["transfers"]) + 1, request_id=i, src=source.index,
             dst=worker.index, bytes=migrated * 12288, blocks=migrated // BLOCK,
             outcome=0 if migrated else 1, wire_ns=wire_ns, unpack_ns=wire_ns // 20,
             predicted_transfer_ns=migrated * WIRE_NS, predicted_saved_ns=saved_ns,
             predicted_gain_ns=saved_ns - migrated * WIRE_NS,
             realised_gain_ns=saved_ns * rng.gamma(30, 1 / 30) - wire_ns * 1.05)
    )  # fmt: skip


def demo_tables(policy, count, worker_count, rate, seed):
    rng = np.random.default_rng(seed)
    arrived = arrivals(rng, count, rate)
    workers = [Worker(w, 7000) for w in range(worker_count)]
    tables, seen = {"requests": [], "decisions": [], "transfers": [], "steps": []}, {}
    for i, arrival in enumerate(arrived):
        chosen, source = choose(policy, rng, workers, arrival[0], arrival[1], arrival[3])
        source = source if source is not chosen else None
        serve(tables, rng, i, arrival, chosen, source, seen, workers)
    return tables


def write_demo(path, policy="estimated_ttft", count=1200, workers=4, rate=5.0):
    if policy not in POLICIES:
        raise SystemExit(f"demo policies: {', '.join(POLICIES)}")
    tables = demo_tables(policy, int(count), int(workers), float(rate), seed=11)
    more = {
        **CONFIG,
        "config.cluster.workers": int(workers),
        "config.router.policy": policy,
        "config.migration.policy": "pull" if policy == "estimated_ttft" else "off",
    }
    write(path, tables, known_attributes(**more))
