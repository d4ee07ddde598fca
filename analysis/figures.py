"""The figure of a report: how fast, where the time went, what the cache gave, who was busy.

    +-------------------------------+--------------------------+
    | TTFT: no hit | partial | full | where mean TTFT went     |
    +-------------------------------+--------------------------+
    | hit ratio over time           | where prompt tokens      |
    | requests waiting over time    | came from                |
    | busy share, worker by time    |                          |
    +-------------------------------+--------------------------+

1600 x 1000 pixels. metrics.md defines what is drawn."""

import math
import os
import re
import tempfile

# matplotlib wants a folder to cache in, and a home need not be writable
os.environ.setdefault("MPLCONFIGDIR", os.path.join(tempfile.gettempdir(), "coppice-matplotlib"))

import matplotlib  # noqa: E402

matplotlib.use("Agg")

import numpy as np  # noqa: E402
from matplotlib import pyplot  # noqa: E402
from matplotlib.colors import LinearSegmentedColormap  # noqa: E402
from matplotlib.ticker import (  # noqa: E402
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    PercentFormatter,
)

import coppice_record  # noqa: E402
import metrics  # noqa: E402

SIZE_IN, DPI = (16, 10), 100
INK, FAINT = "#1d2329", "#4a525a"
RUN_COLOURS = ("#0b6e8a", "#e07b00", "#7a3b9a", "#3f8f3f", "#c2375b", "#8c6d31", "#5a6472")
RUN_DASHES = ("-", (0, (4, 1.2)), (0, (1.6, 1)), (0, (6, 1, 1.5, 1)))  # equal curves stay visible
PART_COLOURS = {  # overheads grey, waiting warm, work green
    "dispatch": "#3d4450",
    "route": "#6c7683",
    "send": "#98a2ad",
    "queue": "#d9534a",
    "transfer": "#3b7dd8",
    "prefill_wait": "#f2b84b",
    "prefill": "#4a9c5d",
    "return": "#c4cbd2",
}
TOKEN_COLOURS = {
    "hit_local": ("#2b7a4b", "hit, local"),
    "hit_migrated": ("#3b7dd8", "hit, migrated"),
    "hit_host": ("#8f6bc1", "hit, host tier"),
    "computed": ("#d3d8de", "computed"),
}
BUSY_COLOURS = LinearSegmentedColormap.from_list(
    "busy", ("#f3f5f7", "#8fc3cf", "#0b6e8a", "#062c3a")
)
KIND_TITLES = {"cold": "no hit", "partial": "partial hit", "full": "full hit"}
HEATMAPS_SHOWN = 4
WORKER_BARS_SHOWN = 8
TIME_BINS = 120
CURVE_POINTS = 2000
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a939c",
    "axes.labelcolor": "#333a42",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e9ec",
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "legend.frameon": False,
    "svg.hashsalt": "coppice",
}


def write(runs, names, paths):
    with pyplot.rc_context(STYLE):
        figure = draw(runs, names)
        for path in paths:
            stamp = {"Date": None} if path.endswith(".svg") else None
            figure.savefig(path, dpi=DPI, metadata=stamp)
        pyplot.close(figure)


def draw(runs, names):
    figure = pyplot.figure(figsize=SIZE_IN)
    colours = [RUN_COLOURS[i % len(RUN_COLOURS)] for i in range(len(runs))]
    columns = legend_columns(names)
    top = 0.865 - 0.021 * (math.ceil(len(runs) / columns) - 1)
    outer = figure.add_gridspec(
        2, 2, width_ratios=(1.55, 1), height_ratios=(1, 1.5),
        left=0.055, right=0.98, top=top, bottom=0.085, wspace=0.19, hspace=0.36,
    )  # fmt: skip
    write_title(figure, runs, names, colours, columns)
    draw_ttft(figure, outer[0, 0], runs, colours)
    draw_parts(figure.add_subplot(outer[0, 1]), part_rows(runs, names, colours))
    draw_timeline(figure, outer[1, 0], runs, colours)
    draw_tokens(figure.add_subplot(outer[1, 1]), token_rows(runs, names, colours))
    return figure


def run_lines(colours):
    return [
        {"color": colour, "linestyle": RUN_DASHES[i % len(RUN_DASHES)]}
        for i, colour in enumerate(colours)
    ]


def write_title(figure, runs, names, colours, columns):
    """One line of facts for a single run; with several, the legend that holds for every panel."""
    if len(runs) == 1:
        run, finished = runs[0], runs[0].finished
        keys = (("router", "router.policy"), ("migration", "migration.policy"),
                ("eviction", "cache.eviction"))  # fmt: skip
        told = [f"{word} {run.config[key]}" for word, key in keys if key in run.config]
        share = metrics.hit_ratios(finished)["token_ratio"] or 0
        count = f"{len(finished):,} requests on {run.worker_count()} workers, {share:.1%} hit"
        figure.suptitle(names[0], x=0.055, y=0.975, ha="left", weight="bold", size=15)
        figure.text(0.055, 0.923, ", ".join([count, *told, run.state]), color=FAINT, size=11)
        return
    title = f"{len(runs)} runs compared"
    figure.suptitle(title, x=0.055, y=0.975, ha="left", weight="bold", size=15)
    marks = [
        pyplot.Line2D([], [], color=colour, linewidth=4, label=legend_label(run, name))
        for run, name, colour in zip(runs, names, colours)
    ]
    figure.legend(
        handles=marks, loc="upper left", bbox_to_anchor=(0.047, 0.951),
        ncol=columns, fontsize=11, columnspacing=2.4, handlelength=1.4,
    )  # fmt: skip


def legend_columns(names):
    return max(1, min(len(names), 4, 150 // (max(map(len, names)) + 6)))


def legend_label(run, name):
    return name if run.state == coppice_record.COMPLETED else f"{name} ({run.state})"


# -- TTFT ---------------------------------------------------------------------------------------


def draw_ttft(figure, place, runs, colours):
    grid = place.subgridspec(1, 3, wspace=0.08)
    axes = grid.subplots(sharex=True, sharey=True)
    for axis, kind in zip(axes, metrics.HIT_KINDS):
        draw_ttft_kind(axis, kind, runs, colours)
    axes[0].set_ylabel("share of requests")
    axes[0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes[0].set_ylim(0, 1.02)
    axes[1].set_xlabel("time to first token, ms (log scale)")
    low, high = axes[0].get_xlim()
    if high / low < 50:  # few decades: label 1, 2, 5
        axes[0].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for axis in axes:
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


def draw_ttft_kind(axis, kind, runs, colours):
    counts = []
    axis.set_xscale("log")
    for run, line in zip(runs, run_lines(colours)):
        finished = run.finished
        ttft_ms = np.sort(finished["ttft_ns"][metrics.hit_kind(run, finished) == kind]) / 1e6
        counts.append(len(ttft_ms))
        if len(ttft_ms):
            axis.step(*distribution_steps(ttft_ms), where="post", linewidth=1.8, **line)
    axis.set_title("TTFT, " + KIND_TITLES[kind], pad=10)
    for i, (count, colour) in enumerate(zip(counts, colours)):
        axis.text(
            0.97, 0.04 + 0.075 * (len(counts) - 1 - i), f"n = {count:,}", color=colour, ha="right",
            size=9, transform=axis.transAxes,
        )  # fmt: skip


def distribution_steps(values):
    """(x, y) of the empirical distribution of sorted values. Of many, evenly spread ranks and the
    whole tail: the curve is the same to the pixel, the SVG stays small."""
    n = len(values)
    ranks = np.arange(1, n + 1)
    if n > CURVE_POINTS:
        spread = np.linspace(1, n, CURVE_POINTS).round().astype(int)
        ranks = np.union1d(spread, ranks[-CURVE_POINTS // 10 :])
    x = np.concatenate(([values[0]], values[ranks - 1]))
    return x, np.concatenate(([0], ranks / n))


# -- where the time and the tokens went -----------------------------------------------------------


def part_rows(runs, names, colours):
    """[(name, colour, requests)], a bar each: runs side by side, or one run by kind of hit."""
    if len(runs) > 1:
        return [(n, c, run.finished) for n, c, run in zip(names, colours, runs)]
    finished = runs[0].finished
    kinds = metrics.hit_kind(runs[0], finished)
    rows = [(KIND_TITLES[kind], None, finished[kinds == kind]) for kind in metrics.HIT_KINDS]
    return [("all requests", None, finished), *[row for row in rows if len(row[2])]]


def token_rows(runs, names, colours):
    """[(name, colour, requests)]: runs side by side, or one run by worker while they are few."""
    workers = runs[0].worker_count()
    if len(runs) > 1 or not 1 < workers <= WORKER_BARS_SHOWN:
        label = names if len(runs) > 1 else ["all workers"]
        return [(n, c, run.finished) for n, c, run in zip(label, colours, runs)]
    finished = runs[0].finished
    return [(f"worker {w}", None, finished[finished["worker"] == w]) for w in range(workers)]


def bar_places(axis, rows, facts):
    """One horizontal bar per row, the first on top, each under a line that names it and tells its
    numbers. Returns the height of a bar."""
    axis.set_yticks([])
    axis.set_ylim(len(rows) - 0.6, -0.62)
    axis.grid(axis="y", visible=False)
    axis.spines["left"].set_visible(False)
    at = axis.get_yaxis_transform()
    for i, ((name, colour, _), fact) in enumerate(zip(rows, facts)):
        name, fact = fit_caption(name, fact)
        axis.text(0, i - 0.29, name, transform=at, color=colour or INK, weight="bold", va="bottom")
        axis.text(1, i - 0.29, fact, transform=at, color=FAINT, size=9, va="bottom", ha="right")
    return 0.46


def fit_caption(name, fact):
    """Name and facts share a line: facts give way first, from the last to the one before the
    colon or the first comma, then the end of the name."""
    width, name_glyph, fact_glyph = 515, 8.7, 6.6  # pixels: panel, bold 10 pt, plain 9 pt
    while len(name) * name_glyph + len(fact) * fact_glyph > width and re.search("[:,]", fact):
        fact = re.sub("[:,][^:,]*$", "", fact)
    room = int((width - len(fact) * fact_glyph) / name_glyph)
    return (name if len(name) <= room else name[: room - 1] + "\u2026"), fact


def legend_below(axis, columns, points=35):
    """A legend some points under the axes, whatever their height."""
    height_points = axis.get_position().height * SIZE_IN[1] * 72
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -points / height_points), ncol=columns,
                fontsize=9, handlelength=0.9, handletextpad=0.4, columnspacing=0.95)  # fmt: skip


def draw_parts(axis, rows):
    means = [
        {part: requests[f"{part}_ns"].mean() / 1e6 if len(requests) else 0 for part in PART_COLOURS}
        for _, _, requests in rows
    ]
    height = bar_places(axis, rows, [describe_parts(mean) for mean in means])
    left = np.zeros(len(rows))
    for part, colour in PART_COLOURS.items():
        part_ms = np.array([mean[part] for mean in means])
        label = part.replace("_", " ")
        axis.barh(range(len(rows)), part_ms, height, left, color=colour, label=label)
        left += part_ms
    axis.set_xlim(0, max(left.max() * 1.02, 1e-6))
    axis.set_title("Where TTFT went: mean of each part", pad=10)
    axis.set_xlabel("ms")
    legend_below(axis, len(PART_COLOURS))


def describe_parts(mean):
    """'122 ms: prefill 64 %, queue 27 %': legible also where one bar dwarfs another."""
    total = sum(mean.values())
    if not total:
        return "no finished request"
    largest = sorted(mean, key=mean.get, reverse=True)[:3]
    named = [f"{p.replace('_', ' ')} {mean[p] / total:.0%}" for p in largest
             if mean[p] / total >= 0.01]  # fmt: skip
    return f"{short_ms(total)} ms: {', '.join(named)}"


def short_ms(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def draw_tokens(axis, rows):
    totals = [metrics.tokens(requests) for _, _, requests in rows]
    height = bar_places(axis, rows, [describe_tokens(total) for total in totals])
    left = np.zeros(len(rows))
    for key, (colour, label) in TOKEN_COLOURS.items():
        count = np.array([float(total[key]) for total in totals])
        axis.barh(range(len(rows)), count, height, left, color=colour, label=label)
        left += count
    for i, total in enumerate(totals):
        ideal = axis.plot(
            [total["ideal_hit"]] * 2, [i - height / 2, i + height / 2 + 0.05],
            color=INK, linewidth=2, linestyle=(0, (2.5, 1.2)),
        )  # fmt: skip
    ideal[0].set_label("all hits of an infinite cache")
    axis.set_xlim(0, max(left.max() * 1.02, 1))
    axis.xaxis.set_major_formatter(FuncFormatter(short_count))
    axis.set_title("Where prompt tokens came from", pad=10)
    axis.set_xlabel("prompt tokens of finished requests")
    legend_below(axis, len(TOKEN_COLOURS) + 1)


def describe_tokens(total):
    if not total["prompt"]:
        return "no prompt token"
    hit, ideal = total["saved"] / total["prompt"], total["ideal_hit"] / total["prompt"]
    return f"{hit:.1%} hit, {ideal:.1%} in an infinite cache"


def short_count(value, _=None):
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


# -- over time ------------------------------------------------------------------------------------


def draw_timeline(figure, place, runs, colours):
    shown = runs[:HEATMAPS_SHOWN]
    grid = place.subgridspec(3, 1, height_ratios=(1, 1, 2.5), hspace=0.38)
    rows = grid[2].subgridspec(len(shown), 1, hspace=0.14)
    end_s = max((metrics.run_end_ns(r) - metrics.run_start_ns(r)) / 1e9 for r in runs)
    end_s = max(end_s, 1e-6)
    hit_axis = figure.add_subplot(grid[0])
    queue_axis = figure.add_subplot(grid[1], sharex=hit_axis)
    window_s = end_s / 20
    for run, line in zip(runs, run_lines(colours)):
        draw_hit_ratio(hit_axis, run, line, end_s, window_s)
        draw_waiting(queue_axis, run, line, end_s)
    hit_axis.set_xlim(0, end_s)
    hit_axis.set_ylim(0, 1.03)
    hit_axis.set_yticks((0, 0.5, 1))
    hit_axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    hit_axis.set_title(f"Hit ratio by tokens, sliding window of {window_s:.2g} s")
    queue_axis.set_ylim(bottom=0)
    queue_axis.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    queue_axis.set_title("Requests whose prefill has not begun, all workers")
    heatmaps = []
    for i, run in enumerate(shown):
        axis = figure.add_subplot(rows[i], sharex=hit_axis)
        image = draw_busy(axis, run, end_s, len(shown))
        heatmaps.append(axis)
        if len(shown) > 1:
            mark_run(axis, colours[i])
    title_busy(heatmaps[0], len(runs))
    for axis in (hit_axis, queue_axis, *heatmaps[:-1]):
        axis.tick_params(labelbottom=False)
    heatmaps[-1].set_xlabel("seconds since the first scheduled arrival")
    add_colour_bar(figure, heatmaps, image)


def title_busy(axis, run_count):
    title = "Engine busy share, one row per worker"
    if run_count > HEATMAPS_SHOWN:
        title += f" (first {HEATMAPS_SHOWN} runs)"
    axis.set_title(title)


def mark_run(axis, colour):
    """A bar in the run's colour ties a heatmap to the legend on top."""
    axis.add_patch(
        pyplot.Rectangle((-0.012, 0), 0.006, 1, transform=axis.transAxes, color=colour,
                         clip_on=False)
    )  # fmt: skip
    axis.tick_params(axis="y", pad=11)


def add_colour_bar(figure, axes, image):
    top, bottom = axes[0].get_position().y1, axes[-1].get_position().y0
    right = axes[0].get_position().x1
    place = figure.add_axes((right + 0.006, bottom, 0.006, top - bottom))
    bar = figure.colorbar(image, cax=place)
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    bar.ax.tick_params(labelsize=8, length=2)
    bar.outline.set_visible(False)


def seconds(run, stamps_ns):
    return (np.asarray(stamps_ns, dtype=float) - metrics.run_start_ns(run)) / 1e9


def draw_hit_ratio(axis, run, line, end_s, window_s):
    """Tokens hit over prompt tokens of the requests routed in the window that ends there."""
    finished = run.finished.sort_values("routed_ns")
    at_s = seconds(run, finished["routed_ns"])
    hit = np.concatenate(([0], metrics.hit_tokens(finished).cumsum()))
    prompt = np.concatenate(([0], finished["prompt_tokens"].astype("int64").cumsum()))
    times = np.linspace(0, end_s, 2 * TIME_BINS)
    last = np.searchsorted(at_s, times, side="right")
    first = np.searchsorted(at_s, times - window_s, side="right")
    asked = prompt[last] - prompt[first]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(asked > 0, (hit[last] - hit[first]) / asked, np.nan)
    axis.plot(times, share, linewidth=1.6, **line)


def draw_waiting(axis, run, line, end_s):
    """Exact at each instant: requests scheduled whose prefill has not begun."""
    finished = run.finished
    times = np.linspace(0, end_s, 4 * TIME_BINS)
    came = np.searchsorted(np.sort(seconds(run, finished["scheduled_ns"])), times, side="right")
    began = np.searchsorted(np.sort(seconds(run, finished["prefill_start_ns"])), times, "right")
    axis.plot(times, came - began, linewidth=1.4, drawstyle="steps-post", **line)


def draw_busy(axis, run, end_s, shown):
    workers = max(run.worker_count(), 1)
    edges = np.linspace(0, end_s, TIME_BINS + 1)
    shares = np.zeros((workers, TIME_BINS))
    for worker, steps in run.steps.groupby("worker"):
        shares[int(worker)] = busy_shares(run, steps, edges)
    image = axis.imshow(
        shares, aspect="auto", cmap=BUSY_COLOURS, vmin=0, vmax=1, interpolation="nearest",
        extent=(0, end_s, workers - 0.5, -0.5),
    )  # fmt: skip
    axis.grid(False)
    axis.yaxis.set_major_locator(MaxNLocator(6 if shown == 1 else 2, integer=True))
    if shown == 1:
        axis.set_ylabel("worker")
    if not len(run.steps):
        axis.text(0.5, 0.5, "no engine steps recorded", transform=axis.transAxes, ha="center",
                  va="center", color=FAINT)  # fmt: skip
    return image


def busy_shares(run, steps, edges):
    """Share of each bin that the worker's steps cover: differences of the busy-time integral."""
    steps = steps.sort_values("started_ns")
    start = seconds(run, steps["started_ns"])
    length = steps["duration_ns"].to_numpy() / 1e9
    knots = np.column_stack((start, start + length)).ravel()
    total = np.concatenate(([0], np.repeat(np.cumsum(length), 2)[:-1]))
    busy = np.interp(edges, np.maximum.accumulate(knots), total)
    return np.clip(np.diff(busy) / np.diff(edges), 0, 1)
