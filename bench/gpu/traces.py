"""Traces of programs on GPUs: complete, in order, and no slower to record than allowed.

    . scripts/env.sh
    python bench/gpu/traces.py prepare -o build/gpu-traces               # here: builds everything
    python3 bench/gpu/traces.py check build/gpu-traces --out results     # there: runs each program with --trace and without

check judges of every program that its losses are those of the run without --trace, digit for digit; that each traced step of each
rank has every entry of timetable.json, with its name, stream, category and bytes; that every message arrives and none before it
was sent, within clock_error_us; that what compute runs does not overlap and, with sums and update, lasts as long as the step; and of
programs whose steps are long enough to tell (--least-ms) that a traced step takes at most 3 % longer. Writes traces.json, traces.txt
and the traces; exit code 1 if anything failed. --target cpu makes programs that run here, to try it all.
"""

from __future__ import annotations

import argparse
import collections
import json
import shutil
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.append(str(Path(__file__).resolve().parents[2] / "python"))

import programs  # noqa: E402
import running  # noqa: E402
from galvatron.report_page.timetables import read_timetable  # noqa: E402

STEPS, FIRST, LAST = 16, 6, 10
# Untraced steps to compare with: the first ones measure things, and of the one after the traced steps the GPU has done some.
PLAIN = (3, 4, 5, 13, 14, 15, 16)
SLOWER = 0.03  # share that a traced step may take longer
COVERED = 0.9  # share of a step that the trace accounts for, at least, where steps are long
MICROSECOND = 1e-6

SMALL = ("one", "dp2", "tp2", "sp2", "zero3", "ring2", "pp2-gpipe", "pp2-1f1b", "values2")
# Eight layers with a step of some 100 ms; the second stage begins in the middle.
LARGE = {
    "one": programs.Layout(),
    "dp2": programs.Layout(2),
    "tp2": programs.Layout(2, tp=2),
    "pp2": programs.Layout(2, cut=5, micro_batches=4),
}


def prepare(arguments: argparse.Namespace) -> int:
    import prepare as building  # needs the compiler's environment

    shutil.rmtree(arguments.output, ignore_errors=True)
    builder = building.Builder(arguments)
    index = []
    small = next(model for model in programs.models("full" if arguments.target == "cuda" else "tiny") if model.name == "llama")
    cases = [(small.name, small.config, small.batch, small.seq, {plan: programs.PLANS[plan] for plan in SMALL}, "fp32")]
    if arguments.target == "cuda":
        row = programs.ROWS[0]
        cases.append((row.name, row.config, row.batch, row.seq, LARGE, "bf16"))
    for name, config, batch, seq, plans, precision in cases:
        program = builder.imported(name, config, batch, seq)
        recomputed = {}
        for plan, layout in plans.items():
            if layout.ranks > arguments.most_ranks:
                continue
            by_hand = layout.plan(programs.units(config), batch, recomputed)
            entry = {"model": name, "precision": precision, "plan": plan, "folder": f"programs/{name}-{plan}"}
            builder.add(index, program=program, layout=by_hand, **entry)
            if plan == "one":
                recomputed = recomputable(arguments.output / entry["folder"])
    shutil.rmtree(builder.work)
    (arguments.output / programs.INDEX).write_text(json.dumps({"device": arguments.target, "programs": index}, indent=1) + "\n")
    for failure in builder.failures:
        print(f"traces: error: {failure}", file=sys.stderr)
    return 1 if builder.failures else 0


def recomputable(folder: Path) -> dict[str, list[str]]:
    plan = json.loads((folder / "plan.json").read_text())
    return {unit["path"]: plan["recomputable_values"].get(unit["layer_type"], []) for unit in plan["units"]}


class Trace:
    """One file. What is wrong with it is found by the methods, one line each."""

    def __init__(self, file: Path, timetable: dict):
        text = json.loads(file.read_text())
        self.head, self.events, self.timetable = text["galvatron"], text["traceEvents"], timetable
        self.threads = {
            (event["pid"], event["tid"]): event["args"]["name"] for event in self.events if event["name"] == "thread_name"
        }
        self.spans = collections.defaultdict(list)  # by rank and step, as written: entries by number, then sums and update
        for event in self.events:
            if event["ph"] == "X":
                self.spans[event["pid"], event["args"]["step"]].append(event)

    def stream(self, event: dict) -> str:
        return self.threads[event["pid"], event["tid"]]

    def incomplete(self) -> str:
        devices = self.timetable["devices_per_stage"]
        ranks = devices * len(self.timetable["stages"])
        wanted = {(rank, step) for rank in range(ranks) for step in range(FIRST, LAST + 1)}
        if set(self.spans) != wanted:
            return f"has steps of ranks {sorted(self.spans)[:5]}…"
        for (rank, step), spans in self.spans.items():
            entries = self.timetable["stages"][rank // devices]["entries"]
            expected = [
                (number, entry["name"], entry.get("stream", "compute"), entry.get("category", "compute"), entry.get("bytes", 0))
                for number, entry in enumerate(entries)
            ]
            found = [(e["args"]["entry"], e["name"], self.stream(e), e["cat"], e["args"]["bytes"]) for e in spans[:-2]]
            if found != expected:
                first = next((pair for pair in zip(found, expected) if pair[0] != pair[1]), (len(found), len(expected)))
                return f"rank {rank}, step {step}: {first[0]} in place of {first[1]}"
            if [span["name"] for span in spans[-2:]] != ["loss and gradient norm", "update"]:
                return f"rank {rank}, step {step} ends with {spans[-1]['name']}"
        return ""

    def messages(self) -> dict:
        return {ph: {e["id"]: e for e in self.events if e["ph"] == ph} for ph in "sf"}

    def out_of_order(self) -> str:
        arrows = self.messages()
        if arrows["s"].keys() != arrows["f"].keys():
            return f"{len(arrows['s'])} sends, {len(arrows['f'])} receives"
        for key, start in arrows["s"].items():
            early = start["ts"] - arrows["f"][key]["ts"]
            if early > self.head["clock_error_us"]:
                return f"message {key} arrives {early:.1f} us before it is sent"
        return ""

    def overlapping(self) -> str:
        for (rank, step), spans in self.spans.items():
            compute = [span for span in spans if self.stream(span) == "compute" or span is spans[-2]]
            for first, second in zip(compute, compute[1:]):
                over = first["ts"] + first["dur"] - second["ts"]
                # Two clocks meet where the entries end.
                if over > (self.head["clock_error_us"] if second is spans[-2] else 0) + 0.002:
                    return f"rank {rank}, step {step}: {second['name']} begins {over:.1f} us before {first['name']} ends"
        return ""

    def lengths(self) -> dict[int, float]:
        """By step, from its first entry to its update's end, in seconds; of rank 0."""
        return {
            step: (max(s["ts"] + s["dur"] for s in spans) - min(s["ts"] for s in spans)) * MICROSECOND
            for (rank, step), spans in self.spans.items()
            if rank == 0
        }


class Checker:
    def __init__(self, arguments: argparse.Namespace):
        self.arguments, self.folder = arguments, arguments.folder.resolve()
        self.index = json.loads((self.folder / programs.INDEX).read_text())
        self.devices = running.Devices()
        self.gpus = self.devices.count if self.index["device"] == "cuda" else 2
        self.runner = running.Runner(self.gpus, arguments.out / "traces-logs", self.devices)
        # Attention's atomics would make two runs of long sequences differ in their last digits.
        self.env = running.environment(self.folder / "lib") | {"GALVATRON_DETERMINISTIC": "1"}
        self.rows: list[dict] = []

    def run(self, name: str, program: dict, kind: str, *options) -> list[dict]:
        log = self.arguments.out / f"{name}-{kind}.csv"
        log.unlink(missing_ok=True)
        command = ["sh", self.folder / program["folder"] / "launch", "--steps", STEPS, "--log", log, *options]
        result = self.runner.run(f"{name}-{kind}", command, program["ranks"], self.arguments.timeout, self.env)
        if not result.passed:
            raise RuntimeError(f"{kind}: {result.why}")
        return running.read_log(log)

    def judge(self, program: dict) -> dict:
        name = f"{program['model']}-{program['precision']}-{program['plan']}"
        row = {"name": name, "problems": []}
        wrong = row["problems"].append
        file = self.arguments.out / f"{name}.trace.json"
        try:
            plain = self.run(name, program, "plain")
            traced = self.run(name, program, "traced", "--trace", file, "--trace-steps", f"{FIRST}:{LAST}")
        except RuntimeError as error:
            wrong(str(error))
            return row
        timetable = read_timetable(str(self.folder / program["folder"] / "timetable.json"))
        trace, tokens = Trace(file, timetable), timetable["global_batch"] * timetable["sequence"]
        if [r["loss"] for r in plain] != [r["loss"] for r in traced]:
            wrong("other losses than without --trace")
        for method in (trace.incomplete, trace.out_of_order, trace.overlapping):
            if problem := method():
                wrong(f"{method.__name__}: {problem}")
        unheard, seconds = ({int(r["step"]): tokens / float(r["tokens_per_second"]) for r in rows} for rows in (plain, traced))
        alone = statistics.median(unheard[step] for step in PLAIN)
        beside = statistics.median(seconds[step] for step in PLAIN)
        inside = statistics.median(seconds[step] for step in range(FIRST, LAST + 1))
        lengths = trace.lengths()
        covered = statistics.median(lengths[step] / seconds[step] for step in lengths)
        row |= {"seconds": alone, "untraced_beside": beside / alone - 1, "traced": inside / beside - 1, "covered": covered}
        row |= {"clock_error_us": trace.head["clock_error_us"], "messages": len(trace.messages()["s"])}
        row |= {"entries": sum(len(spans) - 2 for spans in trace.spans.values()), "bytes": file.stat().st_size}
        if any(length > seconds[step] + trace.head["clock_error_us"] * MICROSECOND for step, length in lengths.items()):
            wrong("the trace of a step is longer than the step")
        if alone * 1e3 >= self.arguments.least_ms:
            if inside > beside * (1 + SLOWER):
                wrong(f"a traced step takes {row['traced']:.1%} longer")
            if covered < COVERED:
                wrong(f"the trace covers {covered:.1%} of a step")
        return row

    def all(self) -> bool:
        for program in self.index["programs"]:
            if program["ranks"] > self.gpus:
                continue
            row = self.judge(program)
            self.rows.append(row)
            figures = ""
            if "traced" in row:
                figures = f"{row['seconds'] * 1e3:8.2f} ms  traced {row['traced']:+6.1%}  untraced {row['untraced_beside']:+6.1%}"
                figures += f"  covered {row['covered']:6.1%}  clocks {row['clock_error_us']:5.1f} us"
                figures += f"  {row['entries']} entries, {row['messages']} messages"
            verdict = "FAILED" if row["problems"] else "passed"
            line = f"{verdict}  {row['name']:28} {figures}{''.join(f'; {problem}' for problem in row['problems'])}"
            print(line, flush=True)
            with (self.arguments.out / "traces.txt").open("a") as file:
                file.write(line + "\n")
        failed = sum(bool(row["problems"]) for row in self.rows)
        report = {"device": self.devices.describe(), "programs": self.rows}
        (self.arguments.out / "traces.json").write_text(json.dumps(report, indent=1) + "\n")
        print(f"{len(self.rows) - failed} of {len(self.rows)} passed", flush=True)
        return not failed and bool(self.rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="action", required=True)
    add = commands.add_parser("prepare", help="builds everything into one folder").add_argument
    add("-o", "--output", type=Path, default=Path("build/gpu-traces"), help="default: build/gpu-traces")
    add("--target", choices=("cuda", "cpu"), default="cuda", help="device of the programs (default: cuda)")
    add("--most-ranks", type=int, default=1 << 20, help="leave out plans for more (default: all)")
    add = commands.add_parser("check", help="runs and judges what was prepared").add_argument
    add("folder", type=Path, help="what prepare wrote")
    add("--out", type=Path, default=Path("gpu-traces"), help="results, logs and traces (default: gpu-traces)")
    add("--timeout", type=float, default=90, help="seconds of one run (default: 90)")
    add("--least-ms", type=float, default=20, help="steps of so many ms are judged by their time (default: 20)")
    arguments = parser.parse_args()
    if arguments.action == "prepare":
        arguments.output = arguments.output.resolve()
        return prepare(arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "traces.txt").unlink(missing_ok=True)
    return 0 if Checker(arguments).all() else 1


if __name__ == "__main__":
    sys.exit(main())
