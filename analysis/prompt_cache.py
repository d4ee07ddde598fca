#!/usr/bin/env python3
"""Draws the CSV of `coppice bench prompt_cache`: time to first token with the system prompt cached
and cold, and the speed-up beside its bounds.

    coppice bench prompt_cache --set model.preset=small --set bench.csv=prompt_cache.csv
    python3 analysis/prompt_cache.py prompt_cache.csv            # prompt_cache.png, .svg

Bound: operations cold over operations of a hit. Reading: a hit takes no less than a step of one
token, which reads every weight once."""

import argparse
import csv
import os
import sys

import interpreter

FIGURES = (
    "users", "repeats", "system_tokens", "computed_tokens", "cold_ms", "hit_ms", "speedup",
    "bound", "reading_bound", "step_ms",
)  # fmt: skip


class BadTable(Exception):
    """The file is no table of the bench; the text says why."""


def read(path):
    """[{column: value}], figures as numbers, in order of the system prompt's length."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise BadTable(f"{path}: no rows")
    for number, row in enumerate(rows, 2):
        for name in FIGURES:
            try:
                row[name] = float(row[name])
            except (KeyError, TypeError, ValueError):
                raise BadTable(f"{path}:{number}: no number in column '{name}'") from None
    return sorted(rows, key=lambda row: row["system_tokens"])


def column(rows, name):
    return [row[name] for row in rows]


def draw(rows):
    from matplotlib import pyplot

    first = rows[0]
    figure, (times, ratios) = pyplot.subplots(1, 2, figsize=(12, 5))
    figure.subplots_adjust(left=0.065, right=0.975, top=0.8, bottom=0.13, wspace=0.2)
    figure.suptitle("Prompt cache: time to first token, system prompt cached and cold",
                    x=0.065, y=0.965, ha="left", weight="bold", size=15)  # fmt: skip
    figure.text(
        0.065, 0.885,
        f"{first['model']}, {first['device']}; own part of {first['computed_tokens']:g} tokens, "
        f"medians over {first['users'] * first['repeats']:g} prompts",
        color="#4a525a", size=11,
    )  # fmt: skip
    draw_times(times, rows)
    draw_ratios(ratios, rows)
    for axis in (times, ratios):
        scale_axis(axis, rows)
    return figure


def scale_axis(axis, rows):
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.xaxis.set_major_locator(FixedLocator(column(rows, "system_tokens")))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("tokens of the system prompt")


def draw_times(axis, rows):
    x = column(rows, "system_tokens")
    axis.plot(x, column(rows, "cold_ms"), "o-", color="#e07b00", linewidth=1.8, label="cold")
    axis.plot(x, column(rows, "hit_ms"), "o-", color="#0b6e8a", linewidth=1.8, label="cached")
    axis.axhline(rows[0]["step_ms"], color="#5a6472", linewidth=1.4, linestyle=(0, (1.6, 1)),
                 label="step of one token")  # fmt: skip
    axis.set_title("TTFT, ms", pad=10)
    axis.legend(loc="upper left")


def draw_ratios(axis, rows):
    x = column(rows, "system_tokens")
    axis.plot(x, column(rows, "bound"), color="#1d2329", linewidth=1.4, linestyle=(0, (4, 1.2)),
              label="bound: operations saved")  # fmt: skip
    axis.plot(x, column(rows, "reading_bound"), color="#5a6472", linewidth=1.4,
              linestyle=(0, (1.6, 1)), label="reading: weights read once")  # fmt: skip
    axis.plot(x, column(rows, "speedup"), "o-", color="#0b6e8a", linewidth=1.8, label="measured")
    for row in rows:
        axis.annotate(
            f"{row['speedup']:.1f}x, {row['speedup'] / row['bound']:.0%}",
            (row["system_tokens"], row["speedup"]), xytext=(4, -13), textcoords="offset points",
            size=9, color="#0b6e8a",
        )  # fmt: skip
    axis.set_title("Speed-up of the first token, and its share of the bound", pad=10)
    axis.legend(loc="upper left")
    axis.margins(x=0.16, y=0.09)


def write(rows, paths):
    import figures
    from matplotlib import pyplot

    with pyplot.rc_context(figures.STYLE):
        figure = draw(rows)
        for path in paths:
            stamp = {"Date": None} if path.endswith(".svg") else None
            figure.savefig(path, dpi=100, metadata=stamp)
        pyplot.close(figure)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("csv", help="file that bench.csv named")
    parser.add_argument("-o", metavar="BASE", help="BASE.png, BASE.svg; default: beside the CSV")
    options = parser.parse_args(arguments)
    base = options.o or os.path.splitext(options.csv)[0]
    paths = [base + ".png", base + ".svg"]
    try:
        write(read(options.csv), paths)
    except (BadTable, OSError) as error:
        print(f"prompt_cache.py: error: {error}", file=sys.stderr)
        return 2
    print(f"figure: {', '.join(paths)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    interpreter.ensure_modules()
    sys.exit(main())
