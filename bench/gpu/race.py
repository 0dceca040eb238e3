"""Races what prepare.py built against plain PyTorch on the same GPUs, in turn, in one call.

    python3 bench/gpu/race.py build/gpu-bench --out results --rows llama2-7b-8l,gpt2-1558m

For every row that the GPUs here can hold: our program under each of its plans, then torch_llama.py with the settings that
were fastest for it (rows without such a peer are compared with the figure measured earlier, and say so). Same shapes, tokens of a
step, AdamW with fp32 masters and moments, clipping, random tokens. Medians of --steps steps after --warmup; tokens/s of one
GPU; ours from the log, theirs from CUDA events. The row's best plan counts. Clocks and power are read, never set.

--profile adds torch.profiler's table of a peer's step. --breakdown runs the row's best plan and its peer once more, for a few
steps, with every kernel recorded (breakdown.py), and says where their steps' time goes.
Writes race.json and race.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import breakdown  # noqa: E402
import programs  # noqa: E402
import report  # noqa: E402
import running  # noqa: E402

# Steps of a recorded run: the first ones tune and compile, the last ones are counted.
TRACED = {"--warmup": 5, "--steps": 4}
COUNTED = 3


class Race:
    def __init__(self, arguments: argparse.Namespace):
        self.arguments, self.folder, self.out = arguments, arguments.folder.resolve(), arguments.out.resolve()
        self.index = programs.read_index(self.folder)
        self.devices = running.Devices()
        self.on_gpu = self.index["device"] == "cuda"
        self.gpus = arguments.gpus or (self.devices.count if self.on_gpu else 4)
        self.runner = running.Runner(self.gpus, self.out / "race-logs", self.devices)
        self.env = running.environment(self.folder / "lib")
        self.began = time.monotonic()
        self.results: list[dict] = []

    def run(self, name: str, command: list, ranks: int, env: dict) -> running.Result | None:
        left = self.arguments.deadline - (time.monotonic() - self.began)
        if left < 10:
            print(f"{name}: not run, no time left", flush=True)
            return None
        print(f"{time.monotonic() - self.began:6.1f} s {name} ...", flush=True)
        result = self.runner.run(name, command, ranks, min(left, self.arguments.timeout), env)
        if not result.passed:
            print(f"{name}: FAILED after {result.seconds:.0f} s: {result.why}", flush=True)
        return result

    def conditions(self, result: running.Result) -> dict:
        """What the first device said while the program ran."""
        used = max(result.used, default=0)
        return {"wall_s": round(result.seconds, 1), "used_bytes": used} | (
            {key: result.state(key) for key in ("sm_mhz", "watts", "celsius")} if result.states else {}
        )

    def our_command(self, program: dict, steps: int) -> list:
        return ["sh", self.folder / program["folder"] / "launch", "--steps", steps, *programs.RACE]

    def their_command(self, row: programs.Row, warmup: int, steps: int) -> list:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", row.ranks]
        return command + [HERE / "torch_llama.py", *row.peer, "--warmup", warmup, "--steps", steps]

    def their_env(self) -> dict[str, str]:
        return self.env | {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}

    def ours(self, row: programs.Row, program: dict) -> dict:
        name = f"{row.name}-{program['plan']}"
        log = self.out / f"{name}.csv"
        log.unlink(missing_ok=True)
        command = [*self.our_command(program, self.arguments.warmup + self.arguments.steps), "--log", log]
        result = self.run(f"ours-{name}", command, program["ranks"], self.env)
        entry = {
            "plan": program["plan"],
            "precision": program["precision"],
            "planned_bytes": max(program["peak_bytes"]),
        }
        plan = json.loads((self.folder / program["folder"] / "plan.json").read_text())
        entry["predicted_ms"] = 1000 * plan["predicted_step_seconds"]
        if not result:
            return entry | {"error": "not run"}
        entry |= self.conditions(result)
        arena, reserved = program["peak_bytes"], program["reserved_bytes"]
        if all(result.used):
            tied = programs.is_tied(row.config)
            entry["memory"] = {"plan": program["plan"], "tied": tied, "arena": arena, "reserved": reserved}
            entry["memory"]["used"] = result.used
        said = [own + beside for own, beside in zip(arena, reserved)]
        entry["said_over_used"] = [all_of_it / used - 1 for all_of_it, used in zip(said, result.used) if used > 0]
        rates = [float(line["tokens_per_second"]) for line in running.read_log(log)][self.arguments.warmup :]
        if not result.passed or not rates:
            return entry | {"error": result.why if not result.passed else "no steps in the log"}
        tokens = row.batch * row.seq
        entry["steps_ms"] = [round(1000 * tokens / rate, 3) for rate in rates]
        entry["step_ms"] = statistics.median(entry["steps_ms"])
        entry["tok_s_gpu"] = tokens / entry["step_ms"] * 1000 / program["ranks"]
        entry["loss"] = running.read_log(log)[-1]["loss"]
        self.say(f"ours {name}", entry)
        return entry

    def say(self, name: str, entry: dict) -> None:
        extra = f"{entry.get('watts', 0):.0f} W {entry.get('sm_mhz', 0):.0f} MHz, {entry['used_bytes'] / 2**30:.1f} GiB in use"
        if "predicted_ms" in entry:
            extra += f", predicted {entry['predicted_ms']:.1f} ms"
        if shares := entry.get("said_over_used"):
            extra += ", planned and reserved " + " ".join(f"{100 * share:+.2f}" for share in shares) + " % of that"
        print(f"    {name}: {entry['step_ms']:.1f} ms, {entry['tok_s_gpu']:.0f} tok/s/GPU, {extra}", flush=True)

    def theirs(self, row: programs.Row) -> dict:
        if not row.peer or not self.on_gpu or self.arguments.ours_only:
            return {}
        command = self.their_command(row, self.arguments.warmup, self.arguments.steps)
        if self.arguments.profile:
            command += ["--profile", self.out / f"{row.name}-peer-kernels.txt"]
        result = self.run(f"peer-{row.name}", command, row.ranks, self.their_env())
        if not result:
            return {"error": "not run"}
        lines = [line for line in result.output.splitlines() if line.startswith("RESULT ")]
        # The line is printed before the end, where a collective may still hang.
        if not lines:
            return {"error": result.why}
        entry = json.loads(lines[-1].removeprefix("RESULT ")) | self.conditions(result)
        self.say(f"peer {row.name}", entry)
        return entry

    def traced(self, name: str, command: list, ranks: int, env: dict) -> dict[str, dict]:
        """Where the time of its steps goes, by rank; empty where nothing was recorded."""
        library, folder = self.folder / "lib" / breakdown.LIBRARY, self.out / "traces"
        if not library.exists():
            print(f"{name}: no {breakdown.LIBRARY} in {library.parent.name}/, so no table", flush=True)
            return {}
        folder.mkdir(exist_ok=True)
        files = [folder / f"{name}.{rank}" for rank in range(ranks)]
        for file in files:
            file.unlink(missing_ok=True)
        env = env | {"CUDA_INJECTION64_PATH": str(library), "GALVATRON_TRACE_FILE": str(folder / f"{name}.%r")}
        self.run(f"{name}-traced", command, ranks, env)
        there = [file for file in files if file.exists()]
        return breakdown.analyse_files(there, steps=COUNTED)

    def where_time_goes(self, row: programs.Row, best: dict | None, peer: dict) -> dict:
        found = {}
        warmup, steps = TRACED.values()
        if best:
            found["ours"] = self.traced(f"ours-{row.name}", self.our_command(best, warmup + steps), row.ranks, self.env)
        if "tok_s_gpu" in peer and self.arguments.breakdown == "both":
            command = self.their_command(row, warmup, steps)
            found["peer"] = self.traced(f"peer-{row.name}", command, row.ranks, self.their_env())
        return found

    def race(self, row: programs.Row) -> None:
        listed = [program for program in self.index["race"] if program["model"] == row.name]
        chosen = [program for program in listed if not self.arguments.plans or program["plan"] in self.arguments.plans]
        total = self.devices.memory(0)[1] if self.devices.count else 0
        tried = []
        for program in chosen:
            if total and max(program["peak_bytes"]) > total:
                gib = max(program["peak_bytes"]) / 2**30
                print(f"{row.name}-{program['plan']}: not run, plans {gib:.1f} GiB of {total / 2**30:.1f}", flush=True)
                continue
            tried.append(self.ours(row, program))
        peer = self.theirs(row)
        measured = [entry for entry in tried if "tok_s_gpu" in entry]
        best = max(measured, key=lambda entry: entry["tok_s_gpu"], default=None)
        raced = "tok_s_gpu" in peer
        reference = peer["tok_s_gpu"] if raced else row.figure
        result = {"row": row.name, "title": row.title, "ranks": row.ranks, "tokens": row.batch * row.seq}
        result |= {"must": row.must, "goal": row.goal, "source": row.source, "raced": raced, "figure": row.figure}
        result |= {"ours": tried, "peer": peer, "reference": reference, "best": best and best["plan"]}
        result["ratio"] = best["tok_s_gpu"] / reference if best and reference else None
        if self.arguments.breakdown and self.on_gpu:
            program = next((program for program in chosen if best and program["plan"] == best["plan"]), None)
            result["breakdown"] = self.where_time_goes(row, program, peer)
        self.results.append(result)
        self.write()
        print(self.table(self.results[-1:]), flush=True)

    def table(self, results: list[dict]) -> str:
        header = ["row", "plan", "ours ms", "tok/s/GPU", "peer ms", "tok/s/GPU", "ratio", "must", "goal"]
        lines = []
        for result in results:
            best = next((entry for entry in result["ours"] if entry["plan"] == result["best"]), {})
            their = f"{result['peer']['step_ms']:.1f}" if result["raced"] else result["source"]
            mine = [f"{best['step_ms']:.1f}", f"{best['tok_s_gpu']:.0f}"] if best else ["failed", ""]
            ratio = f"{result['ratio']:.3f}" if result["ratio"] else ""
            reference = f"{result['reference']:.0f}"
            if not result["raced"]:
                reference += " (not raced)"
            plan = f"{best['plan']} {best['precision']}" if best else ""
            bars = [f"{result['must']:.2f}", f"{result['goal']:.2f}"]
            lines.append([result["title"], plan, *mine, their, reference, ratio, *bars])
        return report.table(header, lines)

    def write(self) -> None:
        """After every row, so that a call that is cut off leaves what it measured."""
        settings = {"ours": programs.RACE, "peers": {row.name: row.peer for row in programs.ROWS}}
        settings |= {"warmup": self.arguments.warmup, "steps": self.arguments.steps, "NCCL_NVLS_ENABLE": "0"}
        written = {"date": str(datetime.date.today()), "hardware": self.devices.describe(), "versions": versions()}
        written |= {"settings": settings, "rows": self.results}
        (self.out / "race.json").write_text(json.dumps(written, indent=1) + "\n")
        hardware = written["hardware"]
        text = f"# Race\n\n{written['date']}, {hardware.get('count')} x {hardware.get('name')}, driver "
        text += (
            f"{hardware.get('driver')}. Medians of {self.arguments.steps} steps after {self.arguments.warmup}; both "
        )
        text += "programs in one call, in turn, except where not raced.\n\n"
        text += self.table(self.results) + "".join(self.breakdown_text(result) for result in self.results)
        (self.out / "race.md").write_text(text)

    def breakdown_text(self, result: dict) -> str:
        """Tables of the first and the last rank of both programs."""
        columns, kernels = {}, ""
        for side, by_rank in result.get("breakdown", {}).items():
            names = list(by_rank)
            for name in dict.fromkeys([*names[:1], *names[-1:]]):
                title = side if result["ranks"] == 1 else f"{side}, rank {name.rpartition('.')[2]}"
                columns[title] = by_rank[name]
            if names:
                kernels += f"\n### {result['row']}, {side}: kernels\n\n{breakdown.kernels_of(by_rank[names[0]])}"
        return (
            f"\n## Where the time goes: {result['title']}\n\n{breakdown.table_of(columns)}{kernels}" if columns else ""
        )

    def all(self) -> bool:
        running.make_executable(self.folder)
        chosen = [row for row in programs.rows(self.index["size"]) if row.name in self.arguments.rows]
        for row in chosen:
            if row.ranks <= self.gpus:
                self.race(row)
            else:
                print(f"{row.name}: needs {row.ranks} GPUs, there are {self.gpus}", flush=True)
        print(self.table(self.results), flush=True)
        return bool(self.results) and all(
            result["ratio"] is not None and result["ratio"] >= result["must"] for result in self.results
        )


def versions() -> dict[str, str]:
    """Of PyTorch and what it came with; asked of another process, so that none of the memory is taken here."""
    script = "import torch; print(torch.__version__, torch.version.cuda, torch.backends.cudnn.version())"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    found = result.stdout.split()
    return dict(zip(("torch", "cuda", "cudnn"), found))


def main() -> int:
    names = [row.name for row in programs.ROWS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("folder", type=Path, help="what prepare.py wrote")
    add("--out", type=Path, default=Path("gpu-race"), help="results and logs (default: gpu-race)")
    add("--rows", default=",".join(names), help=f"some of {','.join(names)} (default: all)")
    add("--plans", default="", help="only these plans of ours (default: all that fit)")
    add("--gpus", type=int, default=0, help="use so many (default: all)")
    add("--ours-only", action="store_true", help="compare with the figures measured earlier")
    add("--profile", action="store_true", help="a table of the peer's kernels as well")
    sides = ("ours", "both")
    add("--breakdown", nargs="?", choices=sides, const="both", help="record kernels of more steps: where time goes")
    add("--warmup", type=int, default=5, help="steps not counted (default: 5)")
    add("--steps", type=int, default=15, help="steps counted (default: 15)")
    add("--timeout", type=float, default=150, help="seconds of one program (default: 150)")
    add("--deadline", type=float, default=560, help="seconds after which nothing runs any more (default: 560)")
    arguments = parser.parse_args()
    arguments.rows = arguments.rows.split(",")
    arguments.plans = arguments.plans.split(",") if arguments.plans else []
    unknown = sorted(set(arguments.rows) - set(names))
    if unknown:
        parser.error(f"no row {unknown[0]}; there are {', '.join(names)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    return 0 if Race(arguments).all() else 1


if __name__ == "__main__":
    sys.exit(main())
