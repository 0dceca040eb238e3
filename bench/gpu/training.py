"""What training for real costs on a GPU: checkpoints, deadlines, events, data, evaluation, documents.

    . scripts/env.sh
    python bench/gpu/training.py prepare -o build/gpu-training                    # here
    python3 bench/gpu/training.py run build/gpu-training --out results            # there, on one GPU

8 layers of Llama-2-7B in bf16 (4 sequences of 4096 a micro-batch), against themselves, in turn on the same GPU:

stall8       the steps that take a checkpoint and those while it is written, against the median of the others; 8 micro-batches
stall        the same with one micro-batch, where the copy outlasts a step
beside       deadlines, events, TensorBoard and data read ahead, all at once, against none of them
evaluation   a batch of it against a step
documents    a program with --documents that does not use them, and one whose rows are four documents each, against one without

Writes training.json and training.txt. Exit code 1 if something could not be run or is above what is allowed.
--target cpu --size tiny makes programs that run here, to try it: their ratios mean nothing.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy

sys.path.insert(0, str(Path(__file__).resolve().parent))

import programs  # noqa: E402
import running  # noqa: E402

END_OF_DOCUMENT = 2
DOCUMENTS_A_ROW = 4
# Of what each part may cost, as a ratio.
ALLOWED = {"stall 8 micro-batches": 1.01, "beside": 1.005, "evaluation": 0.4, "documents unused": 1.01, "documents used": 1.0}
PARTS = ("stall8", "stall", "beside", "evaluation", "documents")


def sizes(size: str) -> tuple[dict, int, int]:
    """The model, sequences of a micro-batch, tokens of a sequence."""
    if size == "tiny":
        return programs.llama(128, 256, 4, 8, 8, 64, 512), 4, 64
    return programs.LLAMA2_7B | {"num_hidden_layers": 8}, 4, 4096


def prepare(arguments: argparse.Namespace) -> int:
    import prepare as tools

    shutil.rmtree(arguments.output, ignore_errors=True)
    builder = tools.Builder(arguments)
    config, batch, seq = sizes(arguments.size)
    index = {"device": arguments.target, "size": arguments.size, "batch": batch, "seq": seq, "programs": {}}
    index["vocabulary"] = config["vocab_size"]
    for name, micro_batches, options in (("plain", 1, ()), ("plain8", 8, ()), ("documents", 1, ("--documents",))):
        program = builder.imported(name, config, batch * micro_batches, seq, *options)
        layout = programs.Layout(micro_batches=micro_batches).plan(programs.units(config), batch * micro_batches)
        known = builder.compiled(program, layout, arguments.target, "bf16", arguments.output / name)
        index["programs"][name] = known | {"micro_batches": micro_batches}
        print(f"{name:10} {max(known['peak_bytes']) / 2**30:8.3f} GiB  compiled in {known['seconds']} s", flush=True)
    shutil.rmtree(builder.work)
    (arguments.output / programs.INDEX).write_text(json.dumps(index, indent=1) + "\n")
    return 0


def write_tokens(file: Path, vocabulary: int, seq: int, rows: int) -> None:
    """Random ones; a document ends DOCUMENTS_A_ROW times a row, nowhere else."""
    tokens = numpy.random.default_rng(0).integers(END_OF_DOCUMENT + 1, vocabulary, rows * seq, dtype=numpy.uint16)
    tokens[seq // DOCUMENTS_A_ROW - 1 :: seq // DOCUMENTS_A_ROW] = END_OF_DOCUMENT
    file.write_bytes(tokens.tobytes())


class Training:
    def __init__(self, arguments: argparse.Namespace):
        self.arguments, self.folder, self.out = arguments, arguments.folder.resolve(), arguments.out.resolve()
        self.index = programs.read_index(self.folder)
        self.devices = running.Devices()
        self.runner = running.Runner(1, self.out / "training-logs", self.devices)
        self.env = running.environment(self.folder / "lib")
        self.work = Path(tempfile.mkdtemp(prefix="galvatron-training-", dir=arguments.scratch))
        self.tokens = self.work / "tokens.u16"
        write_tokens(self.tokens, self.index["vocabulary"], self.index["seq"], 256)
        self.data = ["--data", self.tokens, "--data-dtype", "u16"]
        self.rows: list[dict] = []
        self.began = time.monotonic()

    def steps(self, name: str, program: str, steps: int, *options) -> tuple[list[float], str]:
        """Seconds of each step, and what the program printed; [] where it failed, which is told."""
        log = self.out / f"{name}.csv"
        log.unlink(missing_ok=True)
        command = ["sh", self.folder / program / "launch", "--steps", steps, *programs.RACE, "--log", log, *options]
        left = self.arguments.deadline - (time.monotonic() - self.began)
        result = self.runner.run(name, command, 1, min(left, self.arguments.timeout), self.env)
        rows = running.read_log(log)
        known = self.index["programs"][program]
        tokens = self.index["batch"] * known["micro_batches"] * self.index["seq"]
        seconds = [tokens / float(row["tokens_per_second"]) for row in rows]
        if not result.passed:
            print(f"{name}: FAILED after {result.seconds:.0f} s and {len(rows)} steps: {result.why}", flush=True)
            return [], result.output
        median = statistics.median(seconds[self.arguments.warmup :])
        conditions = f"{result.state('watts'):.0f} W {result.state('sm_mhz'):.0f} MHz" if result.states else ""
        print(f"{time.monotonic() - self.began:6.1f} s  {name}: {1000 * median:.2f} ms, loss {rows[-1]['loss']} {conditions}", flush=True)
        return seconds, result.output

    def tell(self, name: str, ratio: float | None, detail: str = "", **figures) -> None:
        allowed = ALLOWED.get(name)
        passed = None if ratio is None or allowed is None else ratio <= allowed
        passed = False if ratio is None else passed
        self.rows.append({"name": name, "ratio": ratio, "allowed": allowed, "passed": passed, "detail": detail, **figures})
        shown = "failed" if ratio is None else f"{ratio:.4f}" + (f" of {allowed}" if allowed else "")
        print(f"{'FAIL' if passed is False else 'ok  ' if passed else '    '} {name}: {shown}  {detail}", flush=True)

    def stall(self, program: str, steps: int) -> None:
        """One checkpoint in the middle, one at the end, which no step waits for."""
        micro_batches = self.index["programs"][program]["micro_batches"]
        name, at = f"stall {micro_batches} micro-batch{'es' if micro_batches > 1 else ''}", steps // 2
        save, events = self.work / program, self.work / f"{program}-events"
        options = ["--save", save, "--save-every", at, "--keep", 1, "--events", events]
        seconds, output = self.steps(name.replace(" ", "-"), program, steps, *self.data, *options)
        shutil.rmtree(save, ignore_errors=True)
        if not seconds:
            return self.tell(name, None)
        told = [json.loads(line) for line in (events / "rank_00000.jsonl").read_text().splitlines()]
        saved = next((line for line in told if line["event"] == "saved"), None)
        ends = {line["step"]: line["time"] for line in told if line["event"] == "step"}
        writing = [step for step, time in ends.items() if step > at and saved and str(time) <= str(saved["time"])]
        beside = [seconds[step - 1] for step in (at, *writing, max([at, *writing]) + 1) if step <= len(seconds)]
        others = seconds[self.arguments.warmup : at - 1] + seconds[max([at, *writing]) + 1 :]
        median = statistics.median(others)
        longest = max(others) / median
        detail = f"step {1000 * median:.1f} ms; with a checkpoint, then while it is written, longest {1000 * max(beside):.1f} ms of "
        detail += f"{len(beside)} steps ({', '.join(f'{1000 * s:.1f}' for s in beside[:4])} …); longest of the others {longest:.4f}"
        synchronous = [line for line in output.splitlines() if "synchronous" in line or "--save-sync" in line]
        self.tell(name, max(beside) / median, detail + "".join(f"; {line}" for line in synchronous), steps=seconds, at=at)

    def in_turn(self, sides: dict[str, tuple], steps: int) -> dict[str, float] | None:
        """Median seconds of a step of each, over two rounds on the same device."""
        found: dict[str, list[float]] = {name: [] for name in sides}
        for turn in (1, 2):
            for name, (program, *options) in sides.items():
                seconds, _ = self.steps(f"{name.replace(' ', '-')}-{turn}", program, steps, *options)
                if not seconds:
                    return None
                found[name] += seconds[self.arguments.warmup :]
        return {name: statistics.median(seconds) for name, seconds in found.items()}

    def beside(self) -> None:
        told = ["--timeout", 300, "--events", self.work / "events", "--tensorboard", self.work / "tensorboard", "--shuffle"]
        sides = {"beside nothing": ("plain", "--timeout", 0), "beside all": ("plain", *told, *self.data)}
        found = self.in_turn(sides, self.arguments.steps)
        if not found:
            return self.tell("beside", None)
        none, everything = found.values()
        self.tell("beside", everything / none, f"{1000 * none:.2f} and {1000 * everything:.2f} ms", seconds=found)

    def evaluation(self) -> None:
        batches, every = 8, self.arguments.warmup + 5
        options = ["--eval-every", every, "--eval-batches", batches, "--eval-data", self.tokens, *self.data]
        seconds, output = self.steps("evaluation", "plain", 2 * every, *options)
        took = [float(word) for word in re.findall(r"^evaluation +step .* in (\S+) s$", output, re.MULTILINE)]
        if not seconds or len(took) != 2:
            return self.tell("evaluation", None, f"{len(took)} evaluations were told of")
        step = statistics.median(seconds[self.arguments.warmup :])
        detail = f"a batch {1000 * took[1] / batches:.1f} ms, a step {1000 * step:.1f}; the first, with its capture, {took[0]} s in all"
        self.tell("evaluation", took[1] / batches / step, detail, seconds=took)

    def documents(self) -> None:
        reset = ["--reset-at-documents", "--eod", END_OF_DOCUMENT]
        sides = {"documents none": ("plain", *self.data), "documents unused": ("documents", *self.data)}
        sides["documents used"] = ("documents", *self.data, *reset)
        found = self.in_turn(sides, self.arguments.steps)
        if not found:
            return self.tell("documents", None)
        for name in ("documents unused", "documents used"):
            detail = f"{1000 * found[name]:.2f} ms, without {1000 * found['documents none']:.2f}"
            self.tell(name, found[name] / found["documents none"], detail)

    def all(self) -> bool:
        running.make_executable(self.folder)
        parts = {
            "stall8": lambda: self.stall("plain8", self.arguments.stall_steps // 4),
            "stall": lambda: self.stall("plain", self.arguments.stall_steps),
            "beside": self.beside,
            "evaluation": self.evaluation,
            "documents": self.documents,
        }
        try:
            for name in self.arguments.parts:
                parts[name]()
        finally:
            shutil.rmtree(self.work, ignore_errors=True)
            written = {"date": str(datetime.date.today()), "hardware": self.devices.describe(), "rows": self.rows}
            (self.out / "training.json").write_text(json.dumps(written, indent=1) + "\n")
        return bool(self.rows) and all(row["passed"] is not False for row in self.rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="action", required=True)
    add = commands.add_parser("prepare", help="builds the programs into one folder").add_argument
    add("-o", "--output", type=Path, default=Path("build/gpu-training"), help="default: build/gpu-training")
    add("--target", choices=("cuda", "cpu"), default="cuda", help="device of the programs (default: cuda)")
    add("--size", choices=("full", "tiny"), default="full", help="tiny: for a machine without a GPU")
    add = commands.add_parser("run", help="runs and judges what was prepared").add_argument
    add("folder", type=Path, help="what prepare wrote")
    add("--out", type=Path, default=Path("gpu-training"), help="results and logs (default: gpu-training)")
    add("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)} (default: all)")
    add("--scratch", type=Path, default=None, help="where checkpoints are written, 50 GB (default: the system's)")
    add("--warmup", type=int, default=5, help="steps not counted (default: 5)")
    add("--steps", type=int, default=25, help="steps of a run, but of stall (default: 25)")
    add("--stall-steps", type=int, default=160, help="of stall with one micro-batch; a quarter with 8 (default: 160)")
    add("--timeout", type=float, default=240, help="seconds of one program (default: 240)")
    add("--deadline", type=float, default=560, help="seconds after which nothing runs any more (default: 560)")
    return running.prepare_or_judge(parser, PARTS, prepare, Training)


if __name__ == "__main__":
    sys.exit(main())
