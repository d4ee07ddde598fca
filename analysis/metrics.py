"""Every number of the report, computed from one run. metrics.md holds the definitions; a key here
and its entry there carry the same name. Missing numbers (no such requests) are None."""

import math

import numpy as np

from coppice_record import HIT_CLASSES, MISS_CLASSES, OUTCOMES, REASONS, REJECTED, TTFT_PARTS

HIT_KINDS = ("cold", "partial", "full")


def summarise(run, slo_ttft_ms=None, slo_tpot_ms=None):
    """All metrics of a coppice_record.Record as nested dicts of plain numbers, ready for JSON."""
    finished = run.finished
    span_ns = run_span_ns(run)
    return {
        "run": provenance(run),
        "requests": request_counts(run),
        "span_ns": number(span_ns),
        "ttft_ns": ttft(run),
        "ttft_parts_ns": {part: mean(finished[f"{part}_ns"]) for part in TTFT_PARTS},
        "e2e_ns": distribution(finished["e2e_ns"]),
        "tpot_ns": distribution(tpot_ns(finished)),
        "throughput": throughput(finished, span_ns),
        "goodput": goodput(finished, span_ns, slo_ttft_ms, slo_tpot_ms),
        "tokens": tokens(finished),
        "hit": hit_ratios(finished),
        "misses": misses(finished),
        "migrations": migrations(run.transfers),
        "load": load_balance(run, span_ns),
        "router": router(run),
        "evictions": evictions(run.evictions),
        "cost": {"recompute_transfer_ratio": attribute(run, "cost.recompute_transfer_ratio")},
    }


def number(value):
    """A plain int or float; None for what has no value."""
    if value is None:
        return None
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def mean(values):
    return number(np.mean(np.asarray(values, dtype=float))) if len(values) else None


def ratio(part, whole):
    return number(float(part) / float(whole)) if whole else None


def distribution(values):
    """n, mean and percentiles, interpolated linearly between ranks (metrics.md: Percentiles)."""
    values = np.asarray(values, dtype=float)
    if not len(values):
        return {"n": 0, "mean": None, "p50": None, "p90": None, "p99": None}
    p50, p90, p99 = np.percentile(values, [50, 90, 99])
    return {
        "n": len(values),
        "mean": number(values.mean()),
        "p50": number(p50),
        "p90": number(p90),
        "p99": number(p99),
    }


def attribute(run, name):
    value = run.attributes.get(name)
    return number(float(value)) if isinstance(value, (int, float)) else None


def provenance(run):
    named = ("git_revision", "host", "device", "mpi", "hdf5", "compiler", "seed")
    return {
        "path": run.path,
        "state": run.state,
        "router_policy": run.config.get("router.policy"),
        "migration_policy": run.config.get("migration.policy"),
        "cache_eviction": run.config.get("cache.eviction"),
        "decisions_digest": run.attributes.get("decisions_digest"),
        "clock_offset_error_ns": attribute(run, "clock.offset_error_ns"),
        **{name: run.attributes.get(name) for name in named},
    }


def hit_tokens(requests):
    """Tokens per request that came from any cache."""
    return requests[list(HIT_CLASSES)].astype("int64").sum(axis=1)


def hit_kind(run, requests):
    """Per request: cold (no token hit), full (at most one block computed), partial (between)."""
    hit = hit_tokens(requests).to_numpy()
    full = requests["computed_tokens"].to_numpy() <= run.block_tokens
    return np.where(hit == 0, "cold", np.where(full, "full", "partial"))


def tpot_ns(requests):
    """Mean time between a request's tokens; requests with one token have none."""
    several = requests[requests["output_tokens"] > 1]
    return (several["finished_ns"] - several["first_token_ns"]) / (several["output_tokens"] - 1.0)


def run_start_ns(run):
    return int(run.requests["scheduled_ns"].min()) if len(run.requests) else 0


def run_end_ns(run):
    ends = [run.finished["finished_ns"], run.steps["started_ns"] + run.steps["duration_ns"]]
    return max([int(end.max()) for end in ends if len(end)], default=0)


def run_span_ns(run):
    span = run_end_ns(run) - run_start_ns(run)
    return span if len(run.requests) and span > 0 else None


def request_counts(run):
    kinds = hit_kind(run, run.finished)
    return {
        "finished": len(run.finished),
        "rejected": number((run.requests["status"] == REJECTED).sum()),
        **{kind: number((kinds == kind).sum()) for kind in HIT_KINDS},
    }


def ttft(run):
    finished = run.finished
    kinds = hit_kind(run, finished)
    ttft_ns = finished["ttft_ns"]
    return {
        "all": distribution(ttft_ns),
        "cold": distribution(ttft_ns[kinds == "cold"]),
        "hit": distribution(ttft_ns[kinds != "cold"]),
    }


def throughput(finished, span_ns):
    seconds = span_ns / 1e9 if span_ns else 0
    return {
        "requests_per_s": ratio(len(finished), seconds),
        "prompt_tokens_per_s": ratio(finished["prompt_tokens"].sum(), seconds),
        "output_tokens_per_s": ratio(finished["output_tokens"].sum(), seconds),
    }


def goodput(finished, span_ns, slo_ttft_ms, slo_tpot_ms):
    """None without a target: there is no default SLO."""
    if slo_ttft_ms is None and slo_tpot_ms is None:
        return None
    good = np.ones(len(finished), dtype=bool)
    if slo_ttft_ms is not None:
        good &= finished["ttft_ns"].to_numpy() <= slo_ttft_ms * 1e6
    if slo_tpot_ms is not None:
        late = tpot_ns(finished)
        good &= ~finished.index.isin(late.index[late > slo_tpot_ms * 1e6])
    return {
        "slo_ttft_ms": slo_ttft_ms,
        "slo_tpot_ms": slo_tpot_ms,
        "requests_per_s": ratio(good.sum(), span_ns / 1e9 if span_ns else 0),
        "share": ratio(good.sum(), len(finished)),
    }


def tokens(finished):
    columns = ("prompt", "output", "computed", "hit_local", "hit_migrated", "hit_host")
    total = {name: number(finished[f"{name}_tokens"].sum()) for name in columns}
    total["saved"] = total["hit_local"] + total["hit_migrated"] + total["hit_host"]
    for name in ("ideal", "best", "predicted"):
        total[f"{name}_hit"] = number(finished[f"{name}_hit_tokens"].sum())
    total["resident"] = number(finished["resident_tokens"].sum())
    return total


def hit_ratios(finished):
    total = tokens(finished)
    prompt = total["prompt"]
    return {
        "token_ratio": ratio(total["saved"], prompt),
        "request_ratio": ratio((hit_tokens(finished) > 0).sum(), len(finished)),
        "local_ratio": ratio(total["hit_local"], prompt),
        "migrated_ratio": ratio(total["hit_migrated"], prompt),
        "host_ratio": ratio(total["hit_host"], prompt),
        "ideal_ratio": ratio(total["ideal_hit"], prompt),
        "best_ratio": ratio(total["best_hit"], prompt),
        "predicted_ratio": ratio(total["predicted_hit"], prompt),
        "resident_ratio": ratio(total["resident"], prompt),
        "of_ideal": ratio(total["saved"], total["ideal_hit"]),
    }


def misses(finished):
    computed_in_all = finished["computed_tokens"].sum()
    out = {}
    for number_of_class, name in enumerate(MISS_CLASSES):
        rows = finished[finished["miss_class"] == number_of_class]
        computed = rows["computed_tokens"].sum()
        out[name] = {
            "requests": len(rows),
            "computed_tokens": number(computed),
            "share": ratio(computed, computed_in_all),
        }
    return out


def migrations(transfers):
    done = transfers[transfers["outcome"] == OUTCOMES.index("done")]
    judged = transfers[transfers["realised_gain_ns"].notna()]
    taken_ns = done["wait_ns"] + done["wire_ns"] + done["unpack_ns"]
    wire_s = done["wire_ns"].sum() / 1e9
    return {
        "count": len(transfers),
        "reasons": {
            name: number((transfers["reason"] == i).sum()) for i, name in enumerate(REASONS)
        },
        "outcomes": {
            name: number((transfers["outcome"] == i).sum()) for i, name in enumerate(OUTCOMES)
        },
        "blocks": number(done["blocks"].sum()),
        "bytes": number(done["bytes"].sum()),
        "wire_bytes_per_s": ratio(done["bytes"].sum(), wire_s),
        "wait_ns": mean(done["wait_ns"]),
        "wire_ns": mean(done["wire_ns"]),
        "unpack_ns": mean(done["unpack_ns"]),
        "time_over_predicted": ratio(taken_ns.sum(), done["predicted_transfer_ns"].sum()),
        "judged": len(judged),
        "predicted_gain_ns": number(judged["predicted_gain_ns"].sum()) if len(judged) else None,
        "realised_gain_ns": number(judged["realised_gain_ns"].sum()) if len(judged) else None,
        "realised_over_predicted": ratio(
            judged["realised_gain_ns"].sum(), judged["predicted_gain_ns"].sum()
        ),
        "paid": number((judged["realised_gain_ns"] > 0).sum()),
    }


def balance(values):
    """Load balance over workers; those with nothing count as 0."""
    x = np.asarray(values, dtype=float)
    if not len(x) or x.sum() == 0:
        return {"cv": None, "max_over_mean": None, "jain": None}
    return {
        "cv": number(x.std() / x.mean()),
        "max_over_mean": number(x.max() / x.mean()),
        "jain": number(x.sum() ** 2 / (len(x) * (x**2).sum())),
    }


def load_balance(run, span_ns):
    workers = range(run.worker_count())
    finished = run.finished.groupby("worker")
    requests = finished.size().reindex(workers, fill_value=0)
    computed = finished["computed_tokens"].sum().reindex(workers, fill_value=0)
    saved = hit_tokens(run.finished).groupby(run.finished["worker"]).sum()
    saved = saved.reindex(workers, fill_value=0)
    busy_ns = run.steps.groupby("worker")["duration_ns"].sum().reindex(workers, fill_value=0)
    measured = len(run.steps) > 0 and span_ns
    return {
        "workers": len(workers),
        "per_worker": [
            {
                "worker": w,
                "requests": number(requests[w]),
                "computed_tokens": number(computed[w]),
                "hit_tokens": number(saved[w]),
                "busy_share": ratio(busy_ns[w], span_ns) if measured else None,
            }
            for w in workers
        ],
        "busy_share": ratio(busy_ns.mean(), span_ns) if measured else None,
        "requests": balance(requests),
        "computed_tokens": balance(computed),
        "busy": balance(busy_ns),
    }


def router(run):
    finished = run.finished
    after_decision_ns = finished["ttft_ns"] - finished["dispatch_ns"] - finished["route_ns"]
    known = np.isfinite(finished["predicted_ttft_ns"]) & (after_decision_ns > 0)
    error = finished["predicted_ttft_ns"][known] / after_decision_ns[known] - 1
    return {
        "decisions": len(run.decisions),
        "decision_ns": distribution(run.decisions["duration_ns"]),
        "ties": number((run.decisions["tie"] != 0).sum()),
        "ttft_error_median": number(error.median()) if len(error) else None,
        "ttft_abs_error_median": number(error.abs().median()) if len(error) else None,
    }


def evictions(rows):
    gone = rows[rows["to_host"] == 0]
    return {
        "blocks": len(gone),
        "tokens": number(gone["tokens"].sum()),
        "demoted_blocks": len(rows) - len(gone),
    }
