"""Whether the plan that was chosen is the best of those that were listed: runs each of them, in turn, several rounds.

    . scripts/env.sh
    galvatron-profile all model.mlir -o profile
    python bench/regret.py model.mlir --profile profile/profile.json --plans 10 -o bench/results/regret

`galvatron-opt --list-plans` lists and orders them by the profile; each is lowered, and all take turns, a few steps each a
round. Regret: the chosen one's median over rounds ÷ the least median - 1. With `--prepare FOLDER` plans are listed and
lowered and nothing runs; `--prepared FOLDER` runs what stands there: so GPUs' programs come from a profile of an earlier
call, and a machine without a compiler runs them. Nothing else may run meanwhile. Writes OUTPUT.json and OUTPUT.md.

Unattended: with `--prepared FOLDER` the same command goes on after the turns that it ran before (FOLDER/measured.json), and
--time-limit ends it after whole rounds: at least one.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tempfile
import time
from pathlib import Path

import measuring
import report


def prepare(arguments: argparse.Namespace, folder: Path) -> None:
    options = [f"--profile={arguments.profile}", f"--target={arguments.target}"]
    options += [f"--precision={arguments.precision}"] if arguments.precision else []
    search = ["galvatron-opt", "--search", f"--list-plans={arguments.plans}", arguments.model, *options, "-o", folder]
    search += [f"--memory={arguments.memory}"] if arguments.memory else []
    search += [f"--global-batch={arguments.global_batch}"] if arguments.global_batch else []
    print(measuring.quietly(search), end="", flush=True)
    for plan in sorted((folder / "plans").glob("*.json")):
        measuring.lower(arguments.model, plan, folder / plan.stem, options)


def measure(folder: Path, arguments: argparse.Namespace) -> list[dict]:
    plans = sorted((folder / "plans").glob("*.json"))
    data = measuring.tokens_of(folder, arguments.vocabulary)
    rows = [
        {
            "plan": plan.stem,
            "predicted_step_seconds": json.loads(plan.read_text())["predicted_step_seconds"],
            "rounds": [],
        }
        for plan in plans
    ]
    of = {"steps": arguments.steps, "predictions": [row["predicted_step_seconds"] for row in rows]}
    kept, limit = measuring.Kept(folder / "measured.json", of), measuring.TimeLimit(arguments.time_limit)
    for turn in range(arguments.rounds):
        begin = time.monotonic()
        if turn and not limit.has_room():
            print(f"the time limit of {arguments.time_limit:g} s left {arguments.rounds - turn} rounds out", flush=True)
            break
        # The other way round every second time: what warms up or slows down meets first and last alike.
        for row in rows if turn % 2 == 0 else reversed(rows):
            name = f"round {turn + 1}, plan {row['plan']}"
            if name not in kept.values:
                kept.keep(name, report.median(measuring.run(folder / row["plan"], data, arguments.steps)))
            row["rounds"].append(kept.values[name])
            print(f"{name}: {row['rounds'][-1]:.4g} s a step", flush=True)
        limit.took(begin)
    for row in rows:
        row["measured_step_seconds"] = report.median(row["rounds"])
    return rows


def summarize(rows: list[dict]) -> dict:
    measured = [row["measured_step_seconds"] for row in rows]
    predicted = [row["predicted_step_seconds"] for row in rows]
    return {
        "plans": len(rows),
        "chosen": rows[0]["plan"],
        "best": rows[measured.index(min(measured))]["plan"],
        "regret": measured[0] / min(measured) - 1,
        "rank_correlation": measuring.rank_correlation(predicted, measured),
    }


def describe(result: dict) -> str:
    summary = result["summary"]
    text = f"# Regret: {result['model']}\n\n{result['date']}, {result['hardware']}, target {result['target']}; profile "
    text += f"{result['profile']}. {summary['plans']} plans took turns, {result['rounds']} rounds of {result['steps']} steps. "
    text += f"The chosen one is within {100 * summary['regret']:.1f} % of the best measured, {summary['best']}; rank "
    text += f"correlation of predicted and measured {summary['rank_correlation']:.2f}.\n\n"
    rows = [
        (
            row["plan"],
            f"{1e3 * row['predicted_step_seconds']:.4g}",
            report.spread([1e3 * seconds for seconds in row["rounds"]]),
            f"{100 * (row['predicted_step_seconds'] / row['measured_step_seconds'] - 1):+.1f} %",
        )
        for row in result["rows"]
    ]
    return text + report.table(["plan", "predicted, ms", "measured, ms", "error"], rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="model.mlir")
    parser.add_argument("--profile", type=Path, required=True, help="profile.json of this machine")
    parser.add_argument("--plans", type=int, default=10, help="how many are listed (default: 10)")
    parser.add_argument("--target", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", help="as galvatron-opt takes it")
    parser.add_argument("--memory", help="budget of one device, as galvatron-opt takes it")
    parser.add_argument("--global-batch", type=int)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each plan (default: 5)")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of a turn (default: 5)")
    parser.add_argument("--time-limit", type=float, default=3600, help="seconds of running (default: 3600)")
    parser.add_argument("--vocabulary", type=int, default=256, help="tokens are below this (default: 256)")
    parser.add_argument("--prepare", type=Path, metavar="FOLDER", help="list and lower into it; run nothing")
    parser.add_argument("--prepared", type=Path, metavar="FOLDER", help="run what --prepare left there")
    parser.add_argument("-o", "--output", type=Path, default=Path("regret"), help="result files, without suffix")
    arguments = parser.parse_args()
    if arguments.prepare:
        prepare(arguments, arguments.prepare)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.prepared or Path(temporary) / "regret"
        if not arguments.prepared:
            prepare(arguments, folder)
        rows = measure(folder, arguments)
    result = {
        "date": str(datetime.date.today()),
        "hardware": report.hardware(),
        "model": arguments.model.stem,
        "profile": str(arguments.profile),
        "target": arguments.target,
        "rounds": len(rows[0]["rounds"]),
        "steps": arguments.steps,
        "summary": summarize(rows),
        "rows": rows,
    }
    report.write(result, describe(result), arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
