"""Whether predictions come true: predicts the step of many lowered plans from a profile, writes that down, then runs them.

    . scripts/env.sh
    python bench/truth.py --prepare build/truth                    # exports, imports and lowers: needs the compiler
    galvatron-profile all build/truth/quickstart.mlir --precision fp32 -o build/fp32   # and for wide.mlir, and bf16
    python bench/truth.py --run build/truth --profile build/fp32/profile.json --profile build/bf16/profile.json \\
        -o bench/results/truth

The default cases are for two ranks on two cores, in fp32 and bf16: data, tensor, sequence and context parallelism, ZeRO,
pipelines (GPipe, 1F1B, uneven), recomputation and mixed layers. `--target cuda` prepares the same plans for two GPUs, where
`--run` works with a profile of the same call and needs no compiler; `--model NAME=model.mlir` adds a model of one's own, whose
plan the search makes. Predictions are made by `galvatron-search --predict` and stand in FOLDER/predictions.json before
anything runs. Each row has its error by cause (`galvatron.report --compare` of predicted and measured traces) where the
program can be traced. Nothing else may run meanwhile. Writes OUTPUT.json and OUTPUT.md.

Unattended: the same command goes on after what it prepared or measured before (FOLDER/measured.json, until predictions
change), --time-limit ends it with what is measured by then, and a program that fails is listed without ending the others.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import time
from pathlib import Path

import measuring
import report
from cpu_speed import MODELS

RANKS = 2
PRECISIONS = ("fp32", "bf16")


def plan(layers: int, strategy: dict, *, micro_batches: int = 1, border: int = 0, schedule: str = "1f1b", **others) -> dict:
    """All layers by one strategy, but for the first half of the blocks where `first` is given; with a `border` two stages,
    which begins with that block."""
    units = []
    for index, path in enumerate(["embedding", *[f"layers.{block}" for block in range(layers)], "head"]):
        block = index - 1
        is_first = "first" in others and 0 <= block < layers // 2
        stage = int(bool(border) and block >= border)
        units.append({"path": path, "stage": stage, "strategy": others["first"] if is_first else strategy})
    stages = 2 if border else 1
    return {
        "ranks": RANKS,
        "pipeline": stages,
        "schedule": schedule,
        "micro_batches": micro_batches,
        "units": units,
    }


def plans(layers: int) -> dict[str, dict]:
    one, half = {"dp": 1}, layers // 2
    return {
        "dp2": plan(layers, {"dp": 2}),
        "dp2-zero2-m2": plan(layers, {"dp": 2, "zero": 2}, micro_batches=2),
        "dp2-zero3": plan(layers, {"dp": 2, "zero": 3}),
        "dp2-recompute": plan(layers, {"dp": 2, "recompute": True}),
        "tp2": plan(layers, {"tp": 2}),
        "tp2-sp-m2": plan(layers, {"tp": 2, "sequence_parallel": True}, micro_batches=2),
        "ulysses2": plan(layers, {"ulysses": 2}),
        "cp2": plan(layers, {"cp": 2}),
        "dp2-tp2-mixed": plan(layers, {"tp": 2}, first={"dp": 2}),
        "pp2-1f1b-m4": plan(layers, one, micro_batches=4, border=half),
        "pp2-gpipe-m4": plan(layers, one, micro_batches=4, border=half, schedule="gpipe"),
        "pp2-uneven-m4": plan(layers, one, micro_batches=4, border=half + 1),
    }


def prepare(folder: Path, arguments: argparse.Namespace) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    cases = []
    for name, config, batch, seq in MODELS:
        (folder / f"{name}.json").write_text(json.dumps(config))
        archive, model = folder / f"{name}.pt", folder / f"{name}.mlir"
        if not model.exists():
            export = [sys.executable, "-m", "galvatron.export", "--config", folder / f"{name}.json", "--weightless"]
            measuring.quietly([*export, "-o", archive])
            measuring.quietly(["galvatron-import", archive, "--batch", str(batch), "--seq", str(seq), "-o", model])
        for number, (title, given) in enumerate(plans(config["num_hidden_layers"]).items()):
            # Either precision of every plan over both models.
            precision = PRECISIONS[(number + MODELS.index((name, config, batch, seq))) % 2]
            case = f"{name}-{title}-{precision}"
            path = folder / f"{case}.json"
            path.write_text(json.dumps(given))
            options = [f"--precision={precision}", f"--target={arguments.target}", f"--global-batch={batch}"]
            if attempt(model, path, folder / case, options):
                cases.append({"case": case, "precision": precision, "vocabulary": config["vocab_size"]})
    for given in arguments.model:
        name, _, file = given.partition("=")
        for precision in PRECISIONS:
            case = f"{name}-searched-{precision}"
            options = [f"--precision={precision}", f"--target={arguments.target}", f"--ranks={RANKS}"]
            measuring.quietly(["galvatron-opt", "--search", "--lower", file, *options, "-o", folder / case])
            cases.append({"case": case, "precision": precision, "vocabulary": 256})
    (folder / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")
    print(f"prepared {len(cases)} plans in {folder}")


def attempt(model: Path, path: Path, folder: Path, options: list[str]) -> bool:
    """Lowers a plan; says why not where the compiler refuses it."""
    command = ["galvatron-opt", f"--plan={path}", "--lower", str(model), *options, "-o", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        print(f"left out {folder.name}: {result.stderr.strip()}", flush=True)
    return result.returncode == 0


def profiles_by_precision(files: list[Path]) -> dict[str, Path]:
    return {json.loads(file.read_text())["precision"]: file for file in files}


def predict(folder: Path, cases: list[dict], profiles: dict[str, Path]) -> list[dict]:
    """All predictions, written before anything runs."""
    rows = []
    for case in cases:
        if case["precision"] not in profiles:
            print(f"left out {case['case']}: no profile of precision {case['precision']}", flush=True)
            continue
        program, profile = folder / case["case"], profiles[case["precision"]]
        command = ["galvatron-search", "--predict", program, "--profile", profile]
        command += [f"--simulate={program / 'predicted.json'}"]
        said = json.loads(measuring.quietly(command))
        rows.append(case | {"predicted_step_seconds": said["predicted_step_seconds"]})
    stamp = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    (folder / "predictions.json").write_text(json.dumps({"written": stamp, "rows": rows}, indent=1) + "\n")
    return rows


def causes(program: Path, data: tuple[Path, str]) -> list[dict]:
    """The largest rows of a comparison of traces; none where the program cannot be traced."""
    plan = json.loads((program / "timetable.json").read_text())
    if plan["target"] != "cpu":
        return []
    trace, compared = program / "measured.json", program / "compared.json"
    measuring.run(program, data, 5, ["--trace", trace])
    command = [sys.executable, "-m", "galvatron.report", "--compare", program / "predicted.json", trace]
    measuring.quietly([*command, "--json", compared, "-o", program / "compared.html"])
    return json.loads(compared.read_text())["rows"][:3]


def measure(folder: Path, rows: list[dict], arguments: argparse.Namespace) -> list[str]:
    """Adds what was measured to rows; what is left out has none, and is said."""
    predictions = {row["case"]: row["predicted_step_seconds"] for row in rows}
    of = {"steps": arguments.steps, "causes": arguments.causes, "predictions": predictions}
    kept, limit = measuring.Kept(folder / "measured.json", of), measuring.TimeLimit(arguments.time_limit)
    left_out = []
    for row in rows:
        case, begin = row["case"], time.monotonic()
        if case not in kept.values and not limit.has_room():
            left_out.append(f"{case}: the time limit of {arguments.time_limit:g} s; the same command goes on from here")
            continue
        try:
            if case not in kept.values:
                kept.keep(case, run(folder / case, row, arguments))
                limit.took(begin)
        except measuring.CommandFailed as error:
            left_out.append(f"{case}: {error}")
            print(f"left out {left_out[-1]}", flush=True)
            continue
        row.update(kept.values[case])
        row["error"] = row["predicted_step_seconds"] / row["measured_step_seconds"] - 1
        print(f"{case}: {100 * row['error']:+.1f} %", flush=True)
    return left_out


def run(program: Path, row: dict, arguments: argparse.Namespace) -> dict:
    data = measuring.tokens_of(program.parent, min(256, row["vocabulary"]))
    steps = measuring.run(program, data, arguments.steps)
    by_cause = causes(program, data) if arguments.causes else []
    return {"steps": steps, "measured_step_seconds": report.median(steps), "causes": by_cause}


def summarize(rows: list[dict]) -> dict:
    errors = [abs(row["error"]) for row in rows]
    return {"plans": len(rows), "mean_error": sum(errors) / len(errors), "largest_error": max(errors)}


def in_words(cause: dict) -> str:
    """A row of a comparison, such as `forward decoder, stage 0 -2.1 %` of the step."""
    return f"{cause['phase']} {cause['layer_type']}, stage {cause['stage']} {100 * cause['share_of_step']:+.1f} %"


def describe(result: dict) -> str:
    summary = result["summary"]
    text = f"# Predictions and what came of them\n\n{result['date']}, {result['hardware']}. {summary['plans']} plans, predicted "
    text += f"from a profile before they ran: mean |error| {100 * summary['mean_error']:.1f} %, largest "
    text += f"{100 * summary['largest_error']:.1f} %.\n\n"
    rows = [
        (
            row["case"],
            f"{1e3 * row['predicted_step_seconds']:.4g}",
            report.spread([1e3 * seconds for seconds in row["steps"]]),
            f"{100 * row['error']:+.1f} %",
            "; ".join(in_words(cause) for cause in row["causes"]),
        )
        for row in result["rows"]
    ]
    text += report.table(["plan", "predicted, ms", "measured, ms", "error", "by cause"], rows)
    return text + "".join(f"\nLeft out: {line.splitlines()[0]}\n" for line in result["left_out"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prepare", type=Path, metavar="FOLDER", help="export, import and lower the cases into it")
    parser.add_argument("--run", type=Path, metavar="FOLDER", help="predict and run what --prepare left there")
    parser.add_argument("--profile", type=Path, action="append", default=[], help="profile.json, one a precision")
    parser.add_argument("--target", choices=["cpu", "cuda"], default="cpu", help="of --prepare")
    parser.add_argument("--model", action="append", default=[], metavar="NAME=model.mlir", help="another one to prepare")
    parser.add_argument("--only", default="", help="run cases whose names hold this")
    parser.add_argument("--steps", type=int, default=7, help="timed steps of a plan (default: 7)")
    parser.add_argument("--causes", action="store_true", help="trace each program once more and compare")
    parser.add_argument("--time-limit", type=float, default=3600, help="seconds of running (default: 3600)")
    parser.add_argument("-o", "--output", type=Path, default=Path("truth"), help="result files, without suffix")
    arguments = parser.parse_args()
    if bool(arguments.prepare) == bool(arguments.run):
        parser.error("expects --prepare FOLDER or --run FOLDER")
    if arguments.prepare:
        prepare(arguments.prepare, arguments)
        return 0
    if not arguments.profile:
        parser.error("expects --profile FILE with --run")
    if not (arguments.run / "cases.json").exists():
        parser.error(f"expects what --prepare left in {arguments.run}, but there is no cases.json")
    cases = [case for case in json.loads((arguments.run / "cases.json").read_text()) if arguments.only in case["case"]]
    rows = predict(arguments.run, cases, profiles_by_precision(arguments.profile))
    if not rows:
        parser.error("expects a profile of a precision that the prepared plans have")
    left_out = measure(arguments.run, rows, arguments)
    measured = [row for row in rows if "error" in row]
    if not measured:
        sys.exit("truth: error: nothing was measured; give a longer --time-limit, or see what failed above")
    result = {"date": str(datetime.date.today()), "hardware": report.hardware(), "summary": summarize(measured)}
    result |= {"rows": measured, "left_out": left_out}
    report.write(result, describe(result), arguments.output)
    return 1 if left_out else 0


if __name__ == "__main__":
    sys.exit(main())
