"""Shows a plan, its program and the runs that followed it: in the terminal, or as a page.

    python -m galvatron.report build/llama/plan.json log.csv
    python -m galvatron.report build/llama one=log.csv measured.json -o report.html
    python -m galvatron.report --compare predicted.json measured.json -o compare.html

In the terminal the last line is `final loss X.XXXX`: the loss of the last step, a mean over its global batch. `--compare` says
instead where a step that was predicted (`--simulate`) and one that was measured (`--trace`) differ, and draws both.
docs/report.md says what the page shows.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys

from galvatron import outputs, timelines, timelines_page
from galvatron.report_page import curves, inputs, page

CURVE_WIDTH, CURVE_HEIGHT = 72, 14


def strategy_text(strategy: dict) -> str:
    """`dp 2, tp 2, recompute`: what differs from doing nothing."""
    words = [
        key if value is True else f"{key} {value}"
        for key, value in strategy.items()
        if value is True or (key == "zero" and value == 1) or (value is not False and value not in (0, 1, None))
    ]
    return ", ".join(word.replace("_", " ") for word in words) or "-"


def grouped_units(units: list[dict]) -> list[tuple[str, str, int, str]]:
    """(paths, layer type, stage, strategy) of runs of neighbours that are treated alike."""
    groups: list[list] = []
    for unit in units:
        kind = (unit.get("layer_type", ""), unit.get("stage", 0), strategy_text(unit.get("strategy", {})))
        if groups and groups[-1][1] == kind:
            groups[-1][0].append(unit["path"])
        else:
            groups.append([[unit["path"]], kind])
    return [(paths[0] if len(paths) == 1 else f"{paths[0]} … {paths[-1]}", *kind) for paths, kind in groups]


def describe_plan(plan: dict) -> list[str]:
    ranks = plan["ranks"]
    stages = max((unit.get("stage", 0) for unit in plan["units"]), default=0) + 1
    lines = [
        f"plan: {ranks} ranks in {stages} pipeline stage{'s' if stages > 1 else ''}, global batch "
        f"{plan['global_batch']} in {plan['micro_batches']} micro-batches"
        + (f", schedule {plan['schedule']}" if plan.get("schedule") else "")
    ]
    rows = [("stage", "layers", "type", "strategy")]
    rows += [(str(stage), paths, kind, strategy) for paths, kind, stage, strategy in grouped_units(plan["units"])]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines += ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    peaks = plan.get("peak_bytes_per_rank", [])
    if peaks:
        lines.append("memory per rank: " + ", ".join(f"{peak / 2**20:.1f}" for peak in peaks) + " MiB")
    if plan.get("predicted_step_seconds"):
        lines.append(f"predicted step: {plan['predicted_step_seconds']:.3f} s")
    return lines


def curve(values: list[float], width: int = CURVE_WIDTH, height: int = CURVE_HEIGHT) -> list[str]:
    """A curve of `values` over their index; where there are more values than columns, a column is the mean of its share."""
    width = min(width, len(values))
    edges = [column * len(values) // width for column in range(width + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in zip(edges, edges[1:])]
    low, high = min(means), max(means)
    scale = (height - 1) / (high - low) if high > low else 0
    rows = [round((high - mean) * scale) for mean in means]
    lines = []
    for row in range(height):
        label = f"{high - row / scale:8.3f}" if scale else f"{high:8.3f}"
        lines.append(f"{label} |" + "".join("*" if rows[column] == row else " " for column in range(width)).rstrip())
        if not scale:
            break
    lines.append(" " * 9 + "+" + "-" * width)
    last = str(len(values))
    lines.append(" " * 10 + "1" + last.rjust(width - 1) if width > len(last) else " " * 10 + last)
    return lines


def write_whole(path: str, text: str) -> None:
    """The file takes its place at once: where it cannot be written, an older one stays.

    What is there but no file, as /dev/stdout, stays what it is, and so does a link.
    """
    if outputs.is_stream(path):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return
    path = outputs.follow(path)
    part = f"{path}.part"
    try:
        with open(part, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(part, path)
    except (OSError, ValueError):
        if os.path.exists(part):
            os.remove(part)
        raise


def check_output(path: str) -> None:
    """Whether a file can be there, before anything is read."""
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path):
        raise ValueError(f"cannot write {path}: it is a folder; name a file in it")
    if not os.path.isdir(folder):
        raise ValueError(f"cannot write {path}: there is no folder {folder}; make it first, or name another")


def files_read(options: argparse.Namespace) -> list[str]:
    """All that may be read: of an output folder what the page takes of it, of NAME=FILE the file."""
    files = [*(options.compare or ()), *options.inputs]
    files += [word.partition("=")[2] for word in options.inputs if "=" in word]
    for plan in filter(None, (options.plan, options.against)):
        folder = plan if os.path.isdir(plan) else os.path.dirname(plan) or "."
        files += [plan, *(os.path.join(folder, name) for name in ("plan.json", "timetable.json"))]
    return files


def check_outputs(options: argparse.Namespace) -> None:
    """Before anything is read: each can be written, and none takes the place of what is read, or of the other."""
    given = [(flag, path) for flag, path in (("-o", options.output), ("--json", options.json)) if path]
    for flag, path in given:
        check_output(path)
        for file in files_read(options):
            if os.path.isfile(path) and os.path.exists(file) and os.path.samefile(path, file):
                raise ValueError(f"{flag} {path} would take the place of {file}, which is read; name another file")
    if len(given) == 2 and os.path.realpath(given[0][1]) == os.path.realpath(given[1][1]):
        raise ValueError(f"-o and --json are both {given[0][1]}; name two files")


def fail(error: OSError | ValueError) -> int:
    told = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
    if isinstance(error, FileNotFoundError):
        told += "; name a file that is there"
    elif isinstance(error, IsADirectoryError):
        told += "; name a file in it"
    print(f"galvatron.report: error: {told}", file=sys.stderr)
    return 1


def compare_traces(options: argparse.Namespace) -> int:
    try:
        check_outputs(options)
        predicted, measured = (timelines.read_trace(path) for path in options.compare)
        result = timelines.compare(predicted, measured)
        if options.json:
            write_whole(options.json, json.dumps(result, indent=1) + "\n")
        if options.output:
            write_whole(options.output, timelines_page.write_page(predicted, measured, result, options.top))
    except (OSError, ValueError) as error:
        return fail(error)
    print("\n".join(timelines.describe(result, options.top)))
    return 0


def print_log(log: inputs.Log) -> None:
    losses = [loss for loss in log.columns["loss"] if loss is not None and math.isfinite(loss)]
    print(f"measured: {curves.mean_rate(log):.0f} tokens/s over {len(log)} steps\n\nloss")
    if losses:
        print("\n".join(curve(losses)))
    bad = [step for step, loss in zip(log.steps, log.columns["loss"]) if loss is not None and not math.isfinite(loss)]
    if bad:
        print(f"\nno finite loss in {len(bad)} of {len(log)} steps, the first of them step {bad[0]:g}")
    last = next((loss for loss in reversed(log.columns["loss"]) if loss is not None), math.nan)
    print(f"\nfinal loss {last:.4f}")


def show_plan(options: argparse.Namespace) -> int:
    """In the terminal, unless a page is asked for; --json goes with either."""
    try:
        check_outputs(options)
        program = inputs.read_program(options.plan)
        given = inputs.read_inputs(options.inputs)
        inputs.check_traces(given, program)
        against = inputs.read_program(options.against) if options.against else None
        if against:
            inputs.check_against(program, against)
        if options.output or options.json:
            report = page.Report(program, given, against)
            if options.json:
                write_whole(options.json, json.dumps(report.data(), indent=1, allow_nan=False) + "\n")
            if options.output:
                write_whole(options.output, page.write(report))
    except (OSError, ValueError) as error:
        return fail(error)
    if options.output:
        print(f"wrote {options.output}")
        return 0
    print("\n".join(describe_plan(program.plan)))
    for number, log in enumerate(given.logs):
        if len(given.logs) > 1:
            print(("\n" if number else "") + f"run {log.name}")
        print_log(log)
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="galvatron.report", description="Shows a plan, its program and its runs.")
    parser.add_argument("plan", nargs="?", metavar="PLAN", help="plan.json, or the output folder in which it is")
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="logs (--log; NAME=FILE names a run) and traces (--trace, --simulate)",
    )
    parser.add_argument("--against", metavar="PLAN", help="a second plan of the same model, shown beside the first")
    parser.add_argument(
        "--compare", nargs=2, metavar=("PREDICTED", "MEASURED"), help="traces of --simulate and of --trace, of one plan"
    )
    parser.add_argument(
        "-o", dest="output", metavar="FILE", help="a page instead of text; with --compare of both timelines"
    )
    parser.add_argument("--json", metavar="FILE", help="all figures")
    parser.add_argument("--top", type=int, default=10, metavar="N", help="with --compare: rows of the table (10)")
    options = parser.parse_intermixed_args(arguments)
    if options.top < 1:
        parser.error(f"--top expects at least 1, but got {options.top}")
    if options.compare:
        if options.plan or options.against:
            parser.error("--compare takes two traces and nothing else")
        return compare_traces(options)
    if not options.plan:
        parser.error("expects a plan.json or an output folder, or --compare with two traces")
    return show_plan(options)


if __name__ == "__main__":
    sys.exit(main())
