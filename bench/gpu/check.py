"""Checks what prepare.py built, on a machine with GPUs: Python with PyTorch and numpy, and Open MPI, are all it needs.

    python3 bench/gpu/check.py build/gpu-bench --out results

equality   three steps of every program that the GPUs here can hold. One GPU against the CPU program's recorded losses and
           gradients (fp32); every other plan against one GPU (fp32 1e-4, bf16 and fp16 1e-2)
twice      the same binary again: the losses in the log are the same to the last digit
evaluation by forwards alone, of what the steps before trained on at a learning rate of 0: the mean of their losses (1e-6)
text       200 steps in bf16 on licence texts against PyTorch's bf16, from the same weights, on the same windows: within 1 %
memory     what plan.json says of each rank, arena and reserve, against what the device had in use: never under, at most 1 %
           over
faults     no GPU, a driver too old, fewer GPUs than ranks, less free memory than planned, an error of NCCL, a rank that is
           killed, and one that is asked to end: non-zero in time, with a message; then test/Runtime/cuda_test.py's stage binary, whose kernel fails

Programs run side by side on as many GPUs as there are, each for at most --timeout seconds, and nothing is started after --deadline.
Writes check.json. Exit code 1 if anything failed or could not be run.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy

sys.path.insert(0, str(Path(__file__).resolve().parent))

import gradients  # noqa: E402
import programs  # noqa: E402
import running  # noqa: E402

PARTS = ("equality", "twice", "evaluation", "text", "memory", "faults")
# fp32: sums in another order. bf16 has 8 bits: every rounding that falls differently is an error of up to 4e-3 of its element
# (fp16, with 11, 5e-4).
TOLERANCE = {"fp32": 1e-4, "bf16": 1e-2, "fp16": 1e-2}
# In 16 bits a gradient far smaller than the others is made of the rounding errors of these.
FLOOR = {"fp32": gradients.FLOOR, "bf16": 1e-2, "fp16": 1e-2}
# Losses are compared relatively down to this.
LEAST_LOSS = 1e-6
TEXT_TOLERANCE = 1e-2
# The same forwards in the same order; a log has nine digits.
EVALUATION_TOLERANCE = 1e-6
MEMORY_TOLERANCE = 1e-2
END_SECONDS = 30
# More than a context of CUDA takes before it has allocated anything, less than that and the smallest arena of a check.
CONTEXT_BYTES = 640 << 20
MARKS = {True: "ok  ", False: "FAIL", None: "--  "}
TWICE = ("one", "tp2", "dp2-tp2", "tp2-pp2")


@dataclasses.dataclass
class Verdict:
    part: str
    name: str
    passed: bool | None  # None: could not be judged
    value: float
    allowed: float
    detail: str
    seconds: float


class Checker:
    PARTS, RESULT = PARTS, "check"

    def __init__(self, arguments: argparse.Namespace, at_once: int = 1):
        """`at_once`: programs that share a device."""
        self.arguments, self.folder = arguments, arguments.folder.resolve()
        self.index = programs.read_index(self.folder)
        self.devices = running.Devices()
        self.on_gpu = self.index["device"] == "cuda"
        self.gpus = arguments.gpus or (self.devices.count if self.on_gpu else 4)
        self.shares = self.on_gpu and self.gpus > self.devices.count
        self.work = Path(tempfile.mkdtemp(prefix="galvatron-check-"))
        self.threads = self.gpus * at_once + 2
        self.runner = running.Runner(self.gpus, arguments.out / f"{self.RESULT}-logs", self.devices, at_once)
        self.env = running.environment(self.folder / "lib")
        self.began = time.monotonic()
        self.verdicts: list[Verdict] = []
        self.lock = threading.Lock()
        self.memories: dict[str, dict] = {}
        # By model and precision: the run on one device, for the others to be compared with.
        self.ones: dict[tuple[str, str], dict] = {}
        self.done = {(p["model"], p["precision"]): threading.Event() for p in self.index["programs"]}

    def tell(self, part: str, name: str, passed: bool | None, value=0.0, allowed=0.0, detail="", seconds=0.0) -> None:
        passed = None if passed is None else bool(passed)
        verdict = Verdict(part, name, passed, float(value), float(allowed), detail, round(seconds, 1))
        numbers = f"{value:.2e} of {allowed:.0e}" if allowed else ""
        at = time.monotonic() - self.began
        with self.lock:
            self.verdicts.append(verdict)
            print(f"{at:6.1f} s {MARKS[passed]} {part:8} {name:28} {numbers:20} {seconds:5.1f} s  {detail}"[:240], flush=True)

    def wanted(self, part: str) -> bool:
        return part in self.arguments.parts

    def command(self, program: dict, *options) -> list:
        model = self.index["models"][program["model"]]
        data = programs.data_options(model, self.folder / "data")
        share = ["--share-gpus"] if self.shares and program["ranks"] > 1 else []
        return ["sh", self.folder / program["folder"] / "launch", *data, *share, *options]

    def run(self, part: str, name: str, command: list, ranks: int, **options) -> running.Result | None:
        """None, and told, if it failed or there is no time left."""
        left = self.arguments.deadline - (time.monotonic() - self.began)
        if left < 5:
            self.tell(part, name, None, detail="not run: no time left")
            return None
        timeout = min(left, options.pop("timeout", self.arguments.timeout))
        result = self.runner.run(f"{part}-{name}", command, ranks, timeout, self.env, **options)
        if not result.passed:
            self.tell(part, name, False, detail=result.why, seconds=result.seconds)
            return None
        return result

    # Three steps of a program, judged.

    def equality(self, program: dict) -> None:
        name = f"{program['model']}-{program['precision']}-{program['plan']}"
        folder, key = self.work / name, (program["model"], program["precision"])
        folder.mkdir()
        options = ["--steps", programs.EQUALITY_STEPS, *programs.EQUALITY]
        told = ["--log", folder / "log.csv", "--dump-gradients", folder / "gradients"]
        is_one = program["plan"] == "one"
        try:
            result = self.run("equality", name, self.command(program, *options, *told), program["ranks"])
            if is_one and result:
                self.ones[key] = {"folder": folder, "losses": self.losses(folder)}
        finally:
            if is_one:
                self.done[key].set()
        if not result:
            return
        if self.wanted("memory") and not self.shares:
            self.memory(name, program, result)
        if is_one and program["precision"] == "fp32":
            self.against_recorded(name, program, folder, result.seconds)
        elif is_one:
            self.finite(name, folder, result.seconds)
        else:
            self.against_one(name, program, folder, result.seconds)
            shutil.rmtree(folder)

    def losses(self, folder: Path) -> list[str]:
        return [row["loss"] for row in running.read_log(folder / "log.csv")]

    def finite(self, name: str, folder: Path, seconds: float) -> None:
        values = numpy.array(self.losses(folder), float)
        passed = len(values) == programs.EQUALITY_STEPS and bool(numpy.isfinite(values).all())
        self.tell("equality", name, passed, detail=f"losses {values}, the reference of other plans", seconds=seconds)

    def against_recorded(self, name: str, program: dict, folder: Path, seconds: float) -> None:
        file = self.folder / "references" / f"{program['model']}.npz"
        recorded = numpy.load(file)
        wanted: dict[int, dict] = {}
        rounding: dict[str, float] = {}
        for entry in recorded.files:
            step, _, parameter = entry.partition("/")
            if step == "rounding":
                rounding[parameter] = float(recorded[entry])
            elif parameter:
                wanted.setdefault(int(step), {})[parameter] = recorded[entry]
        sketches = gradients.Sketcher()
        self.judge(name, program["precision"], folder, recorded["losses"], wanted, seconds, sketches, rounding)

    def against_one(self, name: str, program: dict, folder: Path, seconds: float) -> None:
        key = (program["model"], program["precision"])
        self.done[key].wait(self.arguments.timeout)
        if key not in self.ones:
            self.tell("equality", name, None, detail="ran, but there is no run on one device", seconds=seconds)
            return
        one = self.ones[key]
        wanted = dict(gradients.steps_of(one["folder"] / "gradients"))
        self.judge(name, program["precision"], folder, numpy.array(one["losses"], float), wanted, seconds)

    def judge(self, name, precision, folder, losses, wanted, seconds, sketches=None, rounding=None) -> None:
        """Losses of all steps; gradients of all in fp32. In 16 bits those of the first: later ones differ by the weights too."""
        part, tolerance, worst, notes = self.PARTS[0], TOLERANCE[precision], gradients.Worst(), []
        found = numpy.array(self.losses(folder), float)
        if len(found) != len(losses):
            self.tell(part, name, False, detail=f"{len(found)} losses, expected {len(losses)}", seconds=seconds)
            return
        # A batch without a label has the loss 0.
        off = float(numpy.max(numpy.abs(found - losses) / numpy.maximum(numpy.abs(losses), LEAST_LOSS)))
        worst.see(off / tolerance, off, "loss")
        steps = dict(gradients.steps_of(folder / "gradients"))
        for step, expected in wanted.items():
            if step not in steps:
                worst.see(float("inf"), float("inf"), f"no gradients of step {step}")
                continue
            one, whole = gradients.compare(steps[step], expected, tolerance, FLOOR[precision], sketches, rounding)
            notes.append(f"{whole:.1e}")
            if precision == "fp32" or step == 1:
                worst.see(one.ratio, one.error, f"{one.where} step {step}")
        detail = f"worst: {worst.where}; losses {off:.1e}; all gradients as one {' '.join(notes)}"
        self.tell(part, name, worst.ratio <= 1, worst.error, tolerance, detail, seconds)

    def memory(self, name: str, program: dict, result: running.Result) -> None:
        """Arena and reserve of each rank against what its device had in use beyond what it had before."""
        if not result.used:
            return
        plan = json.loads((self.folder / program["folder"] / "plan.json").read_text())
        arena, reserved = plan["peak_bytes_per_rank"], plan["reserved_bytes_per_rank"]
        shares = [(own + beside - used) / used for own, beside, used in zip(arena, reserved, result.used)]
        passed = all(0 <= share <= MEMORY_TOLERANCE for share in shares)
        said = f"said {max(arena) / 2**20:.0f} + {max(reserved)/ 2**20:.0f} MiB, in use {max(result.used) / 2**20:.0f}"
        self.tell("memory", name, passed, max(shares, key=abs), MEMORY_TOLERANCE, said)
        tied = programs.is_tied(self.index["models"][program["model"]]["config"])
        row = {"plan": program["plan"], "tied": tied, "arena": arena, "reserved": reserved, "used": result.used}
        with self.lock:
            self.memories[name] = row
            self.keep("memory", self.memories)

    def twice(self, program: dict) -> None:
        """Two runs that do nothing but train."""
        name = f"{program['model']}-{program['precision']}-{program['plan']}"
        logs = []
        for turn in (1, 2):
            folder = self.work / f"{name}-{turn}"
            folder.mkdir()
            options = ["--steps", 5, *programs.EQUALITY, "--log", folder / "log.csv"]
            result = self.run("twice", f"{name}-{turn}", self.command(program, *options), program["ranks"])
            if not result:
                return
            logs.append(self.losses(folder))
        same = logs[0] == logs[1] and len(logs[0]) == 5
        self.tell("twice", name, same, detail=f"last losses {logs[0][-1:]} {logs[1][-1:]}", seconds=2 * result.seconds)

    def evaluation(self, program: dict) -> None:
        name, model = f"{program['model']}-{program['precision']}-{program['plan']}", self.index["models"][program["model"]]
        folder, steps = self.work / f"evaluation-{name}", 4
        folder.mkdir()
        asked = ["--eval-every", steps, "--eval-batches", steps, "--eval-data", self.folder / "data" / model["data"]]
        command = self.command(program, "--steps", steps, "--lr", 0, *asked, "--log", folder / "log.csv")
        result = self.run("evaluation", name, command, program["ranks"])
        if not result:
            return
        losses = numpy.array(self.losses(folder), float)
        found = float(running.read_log(folder / "log.csv")[-1]["eval_loss"] or "nan")
        off = abs(found / losses.mean() - 1)
        took = re.search(r"^evaluation +step .* in (\S+) s$", result.output, re.MULTILINE)
        detail = f"loss {found}, of steps {losses.mean()}; {took and took[1]} s, with its capture"
        self.tell("evaluation", name, off <= EVALUATION_TOLERANCE, off, EVALUATION_TOLERANCE, detail, result.seconds)

    # 200 steps against PyTorch.

    def text(self, program: dict) -> None:
        name, model = f"{program['model']}-{program['precision']}", self.index["models"][program["model"]]
        folder = self.work / f"text-{name}"
        folder.mkdir()
        # A step with learning rate 0 leaves the start values as they are.
        start = self.command(program, "--steps", 1, "--lr", 0, "--save", folder / "start")
        if not self.run("text", f"{name}-start", start, 1):
            return
        steps = programs.TEXT_STEPS if self.on_gpu else 20
        common = ["--steps", steps, *programs.TEXT]
        theirs = [sys.executable, Path(__file__).with_name("torch_decoder.py"), "--model", program["model"]]
        theirs += ["--size", self.index["size"], "--weights", folder / "start" / "model.safetensors"]
        theirs += ["--data", self.folder / "data" / model["data"], "--precision", program["precision"]]
        theirs += ["--device", "cuda" if self.on_gpu else "cpu", "--log", folder / "theirs.csv", *common]
        ours = self.command(program, *common, "--log", folder / "ours.csv")
        results: dict[str, running.Result | None] = {}

        def side(which: str, command: list) -> None:
            results[which] = self.run("text", f"{name}-{which}", command, 1, timeout=2 * self.arguments.timeout)

        running.in_parallel([lambda: side("ours", ours), lambda: side("theirs", theirs)], 2)
        if not (results.get("ours") and results.get("theirs")):
            return
        our, their = (
            numpy.array([float(row["loss"]) for row in running.read_log(folder / f"{side}.csv")])
            for side in ("ours", "theirs")
        )
        if len(our) != steps or len(their) != steps:
            self.tell("text", name, False, detail=f"{len(our)} and {len(their)} steps, expected {steps}")
            return
        off = abs(our[-1] / their[-1] - 1)
        tail = abs(our[-10:].mean() / their[-10:].mean() - 1)
        detail = (
            f"loss {our[0]:.4f} to {our[-1]:.4f}, PyTorch {their[0]:.4f} to {their[-1]:.4f}; last 10 steps {tail:.1e}"
        )
        self.tell("text", name, max(off, tail) <= TEXT_TOLERANCE, off, TEXT_TOLERANCE, detail, results["ours"].seconds)
        self.keep(f"text-{name}", {"ours": our.tolist(), "theirs": their.tolist()})

    def keep(self, name: str, value: dict) -> None:
        (self.arguments.out / f"{name}.json").write_text(json.dumps(value) + "\n")

    # What must fail, and how.

    def must_fail(self, name: str, program: dict, says: str, before=(), env=None, limit=END_SECONDS, **options) -> None:
        """`before`: words in front of the command; `env`: on top of the usual."""
        command = [*before, *self.command(program, "--steps", 2)]
        env = self.env | (env or {})
        result = self.runner.run(f"faults-{name}", command, program["ranks"], limit, env, **options)
        told = result.why
        passed = result.code not in (0, None) and re.search(says, result.output, re.IGNORECASE) is not None
        self.tell("faults", name, passed, detail=told, seconds=result.seconds)

    def is_asked_to_end(self, program: dict) -> None:
        """SIGTERM to one rank: code 75 and a checkpoint, from which one step more can be trained."""
        name, save = f"asked-{program['plan']}", self.work / f"asked-{program['plan']}"
        endless = self.command(program, "--steps", 10**8, "--lr", "1e-5", "--save", save)
        asked_at = 15 if self.on_gpu else 3
        asked = {"signal_at": asked_at, "number": signal.SIGTERM}
        result = self.runner.run(f"faults-{name}", endless, program["ranks"], asked_at + END_SECONDS, self.env, **asked)
        if result.code != 75:
            self.tell("faults", name, False, detail=result.why, seconds=result.seconds)
            return
        step = json.loads((save / "training.json").read_text())["step"]
        more = self.command(program, "--steps", step + 1, "--lr", "1e-5", "--load", save)
        again = self.runner.run(f"faults-{name}-again", more, program["ranks"], self.arguments.timeout, self.env)
        after = result.seconds - asked_at
        self.tell("faults", name, again.passed, after, END_SECONDS, f"saved step {step}; again: code {again.code}", after)

    def a_rank_dies(self, program: dict) -> None:
        command = self.command(program, "--steps", 10**8, "--lr", "1e-5", "--quiet")
        killed_at = 15 if self.on_gpu else 3
        limit, name = killed_at + END_SECONDS, f"killed-{program['plan']}"
        result = self.runner.run(f"faults-{name}", command, program["ranks"], limit, self.env, signal_at=killed_at)
        after = result.seconds - killed_at
        passed = result.code not in (0, None) and after > 0
        self.tell("faults", name, passed, after, END_SECONDS, result.why, result.seconds)

    def stage_by_hand(self) -> None:
        """Its own tests: a kernel that fails, a plan larger than the device, ranks that are killed, a driver too old."""
        folder, ranks = self.folder / "faults", min(2, self.gpus)
        if not folder.exists():
            self.tell("faults", "stage-by-hand", None, detail="prepare.py packed no stage binary written by hand")
            return
        command = [sys.executable, folder / "cuda_test.py", folder / "cuda-stage", folder / "launch.in"]
        result = self.runner.run("faults-stage-by-hand", command, ranks, 240, self.env)
        tests = re.findall(r"^Ran \d+ tests?.*|^(?:OK|FAILED).*", result.output, re.MULTILINE)
        detail = " ".join(tests) if result.passed else result.why
        self.tell("faults", "stage-by-hand", result.passed, detail=detail, seconds=result.seconds)

    def is_text(self, program: dict) -> bool:
        return self.index["models"][program["model"]]["is_text"]

    def tasks(self) -> list:
        """(ranks, order, task), least ranks first, so that what others are compared with comes first."""
        chosen = [p for p in self.index["programs"] if p["ranks"] <= self.gpus]
        chosen = [p for p in chosen if p["precision"] in self.arguments.precisions]
        only = re.compile(self.arguments.only)
        chosen = [p for p in chosen if p["plan"] == "one" or only.search(f"{p['model']}-{p['precision']}-{p['plan']}")]
        tasks = []
        last = chosen[-1]["precision"] if chosen else ""
        for program in chosen:
            ranks, plan = program["ranks"], program["plan"]
            if self.wanted("equality"):
                tasks.append((ranks, 0 if plan == "one" else 2, lambda p=program: self.equality(p)))
            if (
                self.wanted("twice")
                and plan in TWICE
                and self.is_text(program)
                and program["precision"] == last
            ):
                tasks.append((ranks, 3, lambda p=program: self.twice(p)))
            if self.wanted("evaluation") and self.is_text(program):
                tasks.append((ranks, 3, lambda p=program: self.evaluation(p)))
            if (
                self.wanted("text")
                and plan == "one"
                and self.is_text(program)
                and program["precision"] == last
            ):
                tasks.append((ranks, 1, lambda p=program: self.text(p)))
        if self.wanted("faults") and chosen:
            tasks += self.fault_tasks(chosen)
        return sorted(tasks, key=lambda task: task[:2])

    def fault_tasks(self, chosen: list[dict]) -> list:
        tasks = []
        two = next((p for p in chosen if p["plan"] == "tp2"), None)
        by_plan = {plan: next((p for p in chosen if p["plan"] == plan), None) for plan in ("tp2", "pp2-1f1b")}
        if self.on_gpu:
            largest = max((p for p in chosen if p["ranks"] == 1), key=lambda p: max(p["peak_bytes"]))
            tasks += [(1, 4, task) for task in self.faults_of_one(largest)]
            if two:
                tasks += [(2, 4, task) for task in self.faults_of_two(two)]
            tasks.append((min(2, self.gpus), 4, self.stage_by_hand))
        for judge in (self.a_rank_dies, self.is_asked_to_end):
            tasks += [(2, 4, lambda p=program, j=judge: j(p)) for program in by_plan.values() if program]
        return tasks

    def faults_of_one(self, one: dict) -> list:
        driver = {"LD_LIBRARY_PATH": f"{self.folder / 'faults' / 'driver'}:{self.env['LD_LIBRARY_PATH']}"}
        too_old = r"has a driver for CUDA [\d.]+, but this program needs one for CUDA [\d.]+; install"
        most = max(one["peak_bytes"])
        # What a context takes is there, but only half of the arena.
        short = [sys.executable, Path(__file__).with_name("short_of_memory.py"), CONTEXT_BYTES + most // 2]
        memory = r"rank 0 .* needs .* bytes\) on GPU 0 .* but only .* bytes\) of its .* are free"
        return [
            lambda: self.must_fail("no-gpu", one, "finds no GPU|finds no NVIDIA driver", see=0),
            lambda: self.must_fail("driver-too-old", one, too_old, env=driver),
            lambda: self.must_fail("memory-in-use", one, memory, before=short, limit=3 * END_SECONDS),
        ]

    def faults_of_two(self, two: dict) -> list:
        nccl = r"rank \d+ \(stage \d+\).*NCCL: .*\[.*\.cpp:\d+\]"
        return [
            lambda: self.must_fail(
                "fewer-gpus-than-ranks", two, "2 ranks on a machine with 1 GPU; each needs one", see=1
            ),
            lambda: self.must_fail("nccl", two, nccl, env={"NCCL_SOCKET_IFNAME": "=nothing0"}),
        ]

    def all(self) -> bool:
        running.make_executable(self.folder)
        try:
            running.in_parallel([task for *_, task in self.tasks()], self.threads)
        finally:
            shutil.rmtree(self.work, ignore_errors=True)
        failed = [verdict for verdict in self.verdicts if verdict.passed is False]
        unknown = [verdict for verdict in self.verdicts if verdict.passed is None]
        result = {"date": str(datetime.date.today()), "hardware": self.devices.describe(), "gpus": self.gpus}
        result |= {"program": {key: self.index[key] for key in ("date", "device", "size")}}
        result |= {"tolerance": TOLERANCE, "floor": FLOOR, "seconds": round(time.monotonic() - self.began, 1)}
        result["verdicts"] = [dataclasses.asdict(verdict) for verdict in self.verdicts]
        (self.arguments.out / f"{self.RESULT}.json").write_text(json.dumps(result, indent=1) + "\n")
        for part in self.PARTS:
            of_part = [verdict for verdict in self.verdicts if verdict.part == part]
            good = sum(verdict.passed is True for verdict in of_part)
            print(f"{part:10} {good} of {len(of_part)} passed")
        for verdict in failed:
            print(f"FAIL {verdict.part} {verdict.name}: {verdict.value:.2e} of {verdict.allowed:.0e} {verdict.detail}")
        for verdict in unknown:
            print(f"--   {verdict.part} {verdict.name}: {verdict.detail}")
        print(f"{len(self.verdicts)} checks, {len(failed)} failed, {len(unknown)} not judged", flush=True)
        return not failed and not unknown and bool(self.verdicts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("folder", type=Path, help="what prepare.py wrote")
    add("--out", type=Path, default=Path("gpu-check"), help="results and logs (default: gpu-check)")
    add("--gpus", type=int, default=0, help="use so many (default: all); more than there are: ranks share them, to see what is right")
    add("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)} (default: all)")
    add("--precisions", default="fp32,bf16", help="default: fp32,bf16")
    add("--only", default="", help="regular expression on MODEL-PRECISION-PLAN; runs on one device stay")
    add("--timeout", type=float, default=60, help="seconds of one program (default: 60)")
    add("--deadline", type=float, default=540, help="seconds after which nothing runs any more (default: 540)")
    add("--faults", action="store_true", help="only what must fail: --parts faults")
    arguments = parser.parse_args()
    if arguments.faults:
        arguments.parts = "faults"
    arguments.parts, arguments.precisions = arguments.parts.split(","), arguments.precisions.split(",")
    arguments.out.mkdir(parents=True, exist_ok=True)
    return 0 if Checker(arguments).all() else 1


if __name__ == "__main__":
    sys.exit(main())
