"""Renders summaries (metrics.summarise) as aligned text, CSV or JSON."""

import csv
import io
import json

from coppice_record import MISS_CLASSES, OUTCOMES, TTFT_PARTS

MS, US, PERCENT, PLAIN = "ms", "us", "%", ""
SCALES = {MS: 1e-6, US: 1e-3, PERCENT: 100, "MB": 1e-6, "MB/s": 1e-6, "s": 1e-9}
IDLE = {"0", "0.000", "-"}
WORKERS_SHOWN, LIVE_WORKERS_SHOWN = 16, 4  # of a run in the text; --csv and --json have all


def layout():
    """[(section, [(label, unit, path into the summary)])]: the text table from top to bottom."""
    percentiles = ("p50", "p90", "p99", "mean")
    return [
        (
            "requests",
            [(kind, PLAIN, ("requests", kind)) for kind in ("finished", "rejected")]
            + [("finished without a hit", PLAIN, ("requests", "cold"))]
            + [("with a partial hit", PLAIN, ("requests", "partial"))]
            + [("with a full hit", PLAIN, ("requests", "full"))]
            + [("duration", "s", ("span_ns",))],
        ),
        (
            "time to first token",
            [
                (f"{title} {p}", MS, ("ttft_ns", group, p))
                for title, group in (("all", "all"), ("no hit", "cold"), ("hit", "hit"))
                for p in percentiles
            ],
        ),
        (
            "where TTFT went (mean)",
            [(part.replace("_", " "), MS, ("ttft_parts_ns", part)) for part in TTFT_PARTS],
        ),
        ("after the first token", decode_rows()),
        ("prompt tokens", token_rows()),
        (
            "computed tokens by main miss",
            [
                (name.replace("_", "-"), PERCENT, ("misses", name, "share"))
                for name in MISS_CLASSES
            ],
        ),
        ("migrations", migration_rows()),
        ("load over workers", load_rows()),
        ("router", router_rows()),
    ]


def live_layout():
    """What fits a terminal while a run goes on."""
    return [
        (
            "so far",
            [
                ("finished", PLAIN, ("requests", "finished")),
                ("rejected", PLAIN, ("requests", "rejected")),
                ("duration", "s", ("span_ns",)),
                ("TTFT p50", MS, ("ttft_ns", "all", "p50")),
                ("TTFT p90", MS, ("ttft_ns", "all", "p90")),
                ("TTFT p99", MS, ("ttft_ns", "all", "p99")),
                ("TTFT p50, no hit", MS, ("ttft_ns", "cold", "p50")),
                ("TTFT p50, hit", MS, ("ttft_ns", "hit", "p50")),
                ("hit ratio", PERCENT, ("hit", "token_ratio")),
                ("ideal (infinite cache)", PERCENT, ("hit", "ideal_ratio")),
                ("saved", PLAIN, ("tokens", "saved")),
                ("migrations", PLAIN, ("migrations", "count")),
                ("output tokens", "1/s", ("throughput", "output_tokens_per_s")),
                ("busy share (mean)", PERCENT, ("load", "busy_share")),
            ],
        )
    ]


def decode_rows():
    return [
        ("time per output token p50", MS, ("tpot_ns", "p50")),
        ("time per output token p99", MS, ("tpot_ns", "p99")),
        ("end to end p50", MS, ("e2e_ns", "p50")),
        ("end to end p99", MS, ("e2e_ns", "p99")),
        ("output tokens", "1/s", ("throughput", "output_tokens_per_s")),
        ("requests", "1/s", ("throughput", "requests_per_s")),
        ("goodput", "1/s", ("goodput", "requests_per_s")),
        ("requests within the SLO", PERCENT, ("goodput", "share")),
    ]


def token_rows():
    return [
        ("prompt", PLAIN, ("tokens", "prompt")),
        ("computed", PLAIN, ("tokens", "computed")),
        ("saved", PLAIN, ("tokens", "saved")),
        ("hit ratio", PERCENT, ("hit", "token_ratio")),
        ("  local", PERCENT, ("hit", "local_ratio")),
        ("  migrated", PERCENT, ("hit", "migrated_ratio")),
        ("  host tier", PERCENT, ("hit", "host_ratio")),
        ("requests with a hit", PERCENT, ("hit", "request_ratio")),
        ("ideal (infinite cache)", PERCENT, ("hit", "ideal_ratio")),
        ("best worker, router's view", PERCENT, ("hit", "best_ratio")),
        ("chosen worker, router's view", PERCENT, ("hit", "predicted_ratio")),
        ("at the worker on receipt", PERCENT, ("hit", "resident_ratio")),
        ("hit of ideal", PERCENT, ("hit", "of_ideal")),
        ("evicted blocks", PLAIN, ("evictions", "blocks")),
        ("blocks kept on the host", PLAIN, ("evictions", "demoted_blocks")),
    ]


def migration_rows():
    return [
        ("planned", PLAIN, ("migrations", "count")),
        *[(name.replace("_", " "), PLAIN, ("migrations", "outcomes", name)) for name in OUTCOMES],
        ("moved", "MB", ("migrations", "bytes")),
        ("rate on the wire", "MB/s", ("migrations", "wire_bytes_per_s")),
        ("wait for the link (mean)", MS, ("migrations", "wait_ns")),
        ("wire (mean)", MS, ("migrations", "wire_ns")),
        ("unpack (mean)", MS, ("migrations", "unpack_ns")),
        ("time, of predicted", PERCENT, ("migrations", "time_over_predicted")),
        ("predicted gain", MS, ("migrations", "predicted_gain_ns")),
        ("realised gain", MS, ("migrations", "realised_gain_ns")),
        ("realised, of predicted", PERCENT, ("migrations", "realised_over_predicted")),
        ("recompute / transfer", PLAIN, ("cost", "recompute_transfer_ratio")),
    ]


def load_rows():
    return [
        ("busy share (mean)", PERCENT, ("load", "busy_share")),
        ("requests: max / mean", PLAIN, ("load", "requests", "max_over_mean")),
        ("requests: CV", PLAIN, ("load", "requests", "cv")),
        ("requests: Jain index", PLAIN, ("load", "requests", "jain")),
        ("computed tokens: max / mean", PLAIN, ("load", "computed_tokens", "max_over_mean")),
        ("computed tokens: CV", PLAIN, ("load", "computed_tokens", "cv")),
        ("computed tokens: Jain index", PLAIN, ("load", "computed_tokens", "jain")),
    ]


def router_rows():
    return [
        ("decision p50", US, ("router", "decision_ns", "p50")),
        ("decision p99", US, ("router", "decision_ns", "p99")),
        ("ties", PLAIN, ("router", "ties")),
        ("TTFT prediction, median error", PERCENT, ("router", "ttft_error_median")),
        ("  median of |error|", PERCENT, ("router", "ttft_abs_error_median")),
    ]


def lookup(summary, path):
    for key in path:
        summary = summary[key] if summary is not None else None
    return summary


def show(value, unit):
    if value is None:
        return "-"
    value = value * SCALES.get(unit, 1)
    if isinstance(value, int):
        return f"{value:,}"
    size = abs(value)
    decimals = 0 if size >= 1000 else 1 if size >= 10 or unit == PERCENT else 2 if size >= 1 else 3
    return f"{value:,.{decimals}f}"


def show_ratio(value, first):
    if value is None or not first or value < 0 or first < 0:  # of signed errors it says nothing
        return ""
    times = value / first
    return f"x{times:.2f}" if abs(times) < 100 else f"x{times:,.0f}"


def text(summaries, names, notes=(), sections=None, workers_shown=WORKERS_SHOWN):
    """The report: one column per run, and beside each but the first its ratio to the first."""
    lines = header(summaries, names)
    lines += [f"note: {note}" for note in notes]
    many = len(names) > 1
    heads = [f"[{i + 1}]" if many else "" for i in range(len(names))]
    for section, rows in sections or layout():
        body = [row_cells(summaries, row) for row in rows]
        body = [cells for cells in body if any(cell not in ("-", "") for cell in cells[2:])]
        if not body:
            continue
        if section == "migrations":  # outcomes that nobody had say nothing
            body = body[:1] + [c for c in body[1:] if set(c[2::2]) - IDLE]
        lines += ["", *aligned(section, heads, body)]
    for summary, head in zip(summaries, heads):
        lines += ["", *worker_lines(summary, head, workers_shown)]
    return "\n".join(lines) + "\n"


def header(summaries, names):
    lines = []
    for i, (summary, name) in enumerate(zip(summaries, names)):
        run = summary["run"]
        policies = [run["router_policy"], run["migration_policy"], run["cache_eviction"]]
        kinds = ("router", "migration", "eviction")
        told = ", ".join(f"{k} {p}" for k, p in zip(kinds, policies) if p is not None)
        mark = f"[{i + 1}] " if len(names) > 1 else ""
        lines.append(f"{mark}{name}: {run['path']}: {run['state']}")
        facts = [told] if told else []
        facts += [f"seed {run['seed']}"] if run["seed"] is not None else []
        facts += [f"git {run['git_revision']}"] if run["git_revision"] else []
        facts += [f"host {run['host']}"] if run["host"] else []
        lines.append(" " * len(mark) + "; ".join(facts))
    return lines


def row_cells(summaries, row):
    label, unit, path = row
    values = [lookup(summary, path) for summary in summaries]
    cells = [label, unit]
    for i, value in enumerate(values):
        cells += [show(value, unit), show_ratio(value, values[0]) if i else ""]
    return cells


def aligned(title, heads, body):
    """Label and unit to the left, numbers to the right, in columns shared by a section."""
    columns = list(zip(*body))
    widths = [max(map(len, column)) for column in columns]
    widths[0], widths[1] = max(30, widths[0]), 4
    for i in range(len(heads)):
        widths[2 + 2 * i] = max(10, widths[2 + 2 * i])
        widths[3 + 2 * i] = max(6, widths[3 + 2 * i]) if i else 0
    title_cells = [title.upper(), ""]
    for head in heads:
        title_cells += [head, ""]
    return [line(cells, widths) for cells in [title_cells, *body]]


def line(cells, widths):
    left = f"{cells[0]:<{widths[0]}}"
    overflow = max(0, len(cells[0]) - widths[0])
    left += f" {cells[1]:<{max(0, widths[1] - overflow)}}"
    right = [f"{c:>{w}}" for c, w in zip(cells[2:], widths[2:]) if w]
    return (left + " " + " ".join(right)).rstrip()


def worker_lines(summary, head, shown):
    rows = summary["load"]["per_worker"]
    title = f"PER WORKER {head}".rstrip()
    lines = [f"{title:<16} {'requests':>10} {'computed':>12} {'saved':>12} {'busy %':>8}"]
    for row in rows[:shown]:
        lines.append(
            f"{row['worker']:<16} {row['requests']:>10,} {row['computed_tokens']:>12,}"
            f" {row['hit_tokens']:>12,} {show(row['busy_share'], PERCENT):>8}"
        )
    if len(rows) > shown:
        lines.append(f"... and {len(rows) - shown} more: see --csv")
    return lines


def flatten(summary, path=()):
    """(dotted name, value) of every leaf; names carry their unit (_ns, _ratio, tokens, ...)."""
    for key, value in summary.items():
        if isinstance(value, dict):
            yield from flatten(value, (*path, key))
        elif isinstance(value, list):
            for row in value:
                named = {k: v for k, v in row.items() if k != "worker"}
                yield from flatten(named, (*path, key, str(row["worker"])))
        else:
            yield ".".join((*path, key)), value


def csv_text(summaries, names):
    """Tidy: one line per run and metric."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", "metric", "value"])
    for summary, name in zip(summaries, names):
        for metric, value in flatten(summary):
            writer.writerow([name, metric, "" if value is None else value])
    return out.getvalue()


def json_text(summaries, names, notes=()):
    runs = [{"label": name, **summary} for name, summary in zip(names, summaries)]
    return json.dumps({"runs": runs, "notes": list(notes)}, indent=2, allow_nan=False) + "\n"
