#!/usr/bin/env python3
"""Tables and a figure of coppice runs.

    report.py RUN.h5                 table on stdout, figure beside the run (RUN.png, RUN.svg)
    report.py A.h5 B.h5 C.h5         the same, side by side, with ratios to A
    report.py --json RUN.h5          every number (metrics.md says what each one is)
    report.py --live RUN.h5          redraws a short table each second while the run goes on
"""

import argparse
import os
import sys
import time

import interpreter

interpreter.ensure_modules()

import coppice_record  # noqa: E402
import labels  # noqa: E402
import metrics  # noqa: E402
import tables  # noqa: E402

LIVE_PERIOD_S = 1.0
LIVE_PATIENCE_S = 5.0  # a run that closes renames its file: it may be unreadable for a moment


class OneLineParser(argparse.ArgumentParser):
    def error(self, message):
        fail(message)


def fail(message):
    print(f"report.py: error: {message}", file=sys.stderr)
    sys.exit(2)


def parse(arguments):
    parser = OneLineParser(
        prog="report.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN.h5", help="result files of coppice")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="run, metric, value: a line per number")
    form.add_argument("--json", action="store_true", help="the same numbers as one JSON object")
    form.add_argument("--live", action="store_true", help="redraw a short table as a run goes on")
    figure = parser.add_mutually_exclusive_group()
    figure.add_argument("-o", metavar="PREFIX", dest="prefix", help="write PREFIX.png, PREFIX.svg")
    figure.add_argument("--figure", metavar="FILE", help="write FILE (.png, .svg or .pdf)")
    figure.add_argument("--no-figure", action="store_true", help="the table only")
    parser.add_argument("--slo-ttft-ms", type=float, metavar="MS", help="TTFT target of goodput")
    parser.add_argument("--slo-tpot-ms", type=float, metavar="MS", help="TPOT target of goodput")
    return parser.parse_args(arguments)


def figure_paths(options):
    if options.no_figure or options.live:
        return []
    if options.figure:
        if os.path.splitext(options.figure)[1] not in (".png", ".svg", ".pdf"):
            fail(f"{options.figure}: a figure's name ends in .png, .svg or .pdf")
        return [options.figure]
    prefix = options.prefix or os.path.splitext(options.runs[0])[0]
    return [f"{prefix}.png", f"{prefix}.svg"]


def notes_on(runs):
    """What a reader of the comparison should know before believing it."""
    notes = []
    for run in runs:
        if run.state != coppice_record.COMPLETED:
            notes.append(f"{run.path} is {run.state}: it holds what was flushed, not a whole run")
    others = [key for key in labels.differing_keys(runs) if key not in labels.POLICY_KEYS]
    for key in others if len(runs) > 1 else []:
        values = ", ".join(str(run.config.get(key, "absent")) for run in runs)
        notes.append(f"the runs differ in {key} too: {values}")
    counts = {len(run.requests) for run in runs}
    if len(counts) > 1:
        notes.append("the runs hold different numbers of requests: compare ratios, not totals")
    for run in runs:
        if not len(run.finished):
            notes.append(f"{run.path} has no finished request")
    return notes


def render(runs, options):
    names = labels.labels(runs)
    summaries = [metrics.summarise(r, options.slo_ttft_ms, options.slo_tpot_ms) for r in runs]
    notes = notes_on(runs)
    if options.csv:
        return tables.csv_text(summaries, names)
    if options.json:
        return tables.json_text(summaries, names, notes)
    if options.live:
        live_form = {"sections": tables.live_layout(), "workers_shown": tables.LIVE_WORKERS_SHOWN}
        return tables.text(summaries, names, **live_form)
    return tables.text(summaries, names, notes)


def draw(runs, paths):
    if not any(len(run.finished) for run in runs):
        print("report.py: no figure: no finished request to draw", file=sys.stderr)
        return
    import figures

    try:
        figures.write(runs, labels.labels(runs), paths)
    except OSError as error:
        fail(f"{error.filename or paths[0]}: {error.strerror}: no figure written (-o says where)")
    print(f"figure: {', '.join(paths)}", file=sys.stderr)


def live(options):
    """Until every run is closed, or Ctrl-C. Reads the files anew: simple, and safe with renames."""
    last_good_s = time.monotonic()
    while True:
        try:
            runs = [coppice_record.load(path) for path in options.runs]
        except coppice_record.RecordError:
            if time.monotonic() - last_good_s > LIVE_PATIENCE_S:
                raise
        else:
            last_good_s = time.monotonic()
            clear = "\x1b[H\x1b[J" if sys.stdout.isatty() else ""
            print(clear + render(runs, options), flush=True)
            if all(run.state != coppice_record.OPEN for run in runs):
                return
        time.sleep(LIVE_PERIOD_S)


def main(arguments):
    options = parse(arguments)
    paths = figure_paths(options)
    try:
        if options.live:
            live(options)
            return 0
        runs = [coppice_record.load(path) for path in options.runs]
        sys.stdout.write(render(runs, options))
        sys.stdout.flush()
        if paths:
            draw(runs, paths)
    except coppice_record.RecordError as error:
        fail(str(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `report.py ... | head` is no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
