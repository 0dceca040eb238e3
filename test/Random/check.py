"""Compares what becomes of one random module with PyTorch.

    module ─export─▶ import ─▶ differentiate ─evaluate─▶ equal?
                                     └─ plan ─▶ shard ─evaluate─▶ equal?   for each of several random plans
                                                └─ stage ─evaluate─▶ equal?
                                                     └─ lower ─mpirun─▶ equal?  for one of them, where asked for
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import torch
from draw import Draw
from modules import RandomModule

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))
from galvatron import archive, compare, export  # noqa: E402
from galvatron.errors import GalvatronError  # noqa: E402

# Far above what a tool needs on a small module; a hang is a finding.
TIMEOUT_SECONDS = 120
LOSS_TOLERANCE = 1e-5
# Messages that say what a module does that the compiler does not do, and what to do instead. Any other is a finding.
REFUSALS = (
    r"needs the whole batch at once",
    r"expects the gradient of a parameter to be a sum over micro-batches",
    r"aten::\w+ in \S+ \(.*:\d+\)",  # the importer, with operator, module and line
    r"expects --(batch|seq) \d+, the example's",
    r"cannot use \w+ = \d+: expects it to divide",
    r"expects one level of ZeRO of the tied parameter",
)
# How much more than PyTorch's own error in single precision is rounding, where a gradient is a difference of large terms.
ROUNDING = 30


@dataclasses.dataclass
class Result:
    """`verdict`: equal, refused, wrong (numbers) or crash (anything else that a user should not see)."""

    verdict: str
    where: str = ""
    detail: str = ""

    @property
    def is_finding(self) -> bool:
        return self.verdict in ("wrong", "crash")


class Stopped(Exception):
    def __init__(self, result: Result):
        super().__init__(result.detail)
        self.result = result


def call(where: str, *command) -> str:
    """Runs a tool; what it prints. Anything but success ends the check."""
    words = [str(word) for word in command]
    words[0] = shutil.which(words[0]) or words[0]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        raise Stopped(Result("crash", where, "takes too long: " + " ".join(words))) from None
    if done.returncode == 0:
        return done.stdout
    text = done.stderr.strip() or done.stdout.strip()
    lines = [line for line in text.splitlines() if "error" in line or "Assertion" in line] or text.splitlines()
    first = (lines or [f"exit code {done.returncode}"])[0]
    is_refusal = done.returncode == 1 and any(re.search(refusal, first) for refusal in REFUSALS)
    raise Stopped(Result("refused" if is_refusal else "crash", where, first))


class Check:
    """One module: exported and imported once, then compared under any number of plans."""

    def __init__(self, draw: Draw, folder: Path, groups: frozenset[str] = frozenset()):
        self.draw, self.folder = draw, folder
        torch.manual_seed(draw.seed)
        self.module = RandomModule(draw, groups)
        for parameter in self.module.parameters():
            if parameter.dim() < 2:  # ones and zeros hide what is forgotten
                parameter.data += 0.2 * torch.randn_like(parameter)
        self.sizes = self.module.sizes
        generator = numpy.random.default_rng(draw.seed)
        tokens = generator.integers(0, self.sizes.vocabulary, (self.sizes.batch, self.sizes.seq))
        self.tokens = torch.from_numpy(tokens)
        (folder / "tokens.bin").write_bytes(tokens.astype(numpy.uint8).tobytes())

    def run_pytorch(self):
        """In double precision, so that differences are the compiler's; once more in single, to know what rounding is."""
        double, single = copy.deepcopy(self.module).double(), copy.deepcopy(self.module)
        self.loss, self.gradients = self.run_module(double)
        if not math.isfinite(self.loss):  # such as the mean over no label
            raise Stopped(Result("refused", "pytorch", "the loss is not a number"))
        _, rounded = self.run_module(single)
        self.rounding = {name: float(numpy.linalg.norm(g - rounded[name])) for name, g in self.gradients.items()}
        self.unreached = {name for name, parameter in double.named_parameters() if parameter.grad is None}
        self.ties = archive.tied_names(self.module)

    def run_module(self, module) -> tuple[float, dict[str, numpy.ndarray]]:
        loss = module(self.tokens, self.tokens)
        loss.backward()
        gradients = {n: p.grad.double().numpy() for n, p in module.named_parameters() if p.grad is not None}
        return float(loss.detach()), gradients

    def run_import(self):
        example = torch.arange(2 * self.sizes.seq).view(2, self.sizes.seq) % self.sizes.vocabulary
        try:
            export.save(self.module, (example, example), self.folder / "model.pt")
        except GalvatronError as error:
            raise Stopped(Result("refused", "export", str(error))) from None
        batch, seq = ("--batch", self.sizes.batch), ("--seq", self.sizes.seq)
        self.program = self.folder / "model.mlir"
        call("import", "galvatron-import", self.folder / "model.pt", *batch, *seq, "-o", self.program)
        text = self.folder / "differentiated.mlir"
        call("differentiate", "galvatron-opt", "--compile-to=differentiate", self.program, "-o", text)
        self.units = re.findall(r'graph\.call .* path "([^"]*)"', text.read_text())
        self.evaluate("one", text)
        self.values = self.run_single()

    def run_single(self) -> dict[str, list[str]]:
        """What each layer can have recomputed, as the plan on one device lists it."""
        single = self.folder / "single.json"
        single.write_text(json.dumps({"ranks": 1, "units": [{"path": path} for path in self.units]}))
        call("one", "galvatron-opt", f"--plan={single}", "--lower", self.program, "-o", self.folder / "single")
        written = json.loads((self.folder / "single" / "plan.json").read_text())
        names = written.get("recomputable_values", {})
        return {unit["path"]: names.get(unit["layer_type"], []) for unit in written["units"]}

    def evaluate(self, where: str, program: Path):
        gradients = self.folder / f"gradients-{where}"
        weights = ("--weights", self.folder / "model.safetensors")
        data = ("--data", self.folder / "tokens.bin", "--data-dtype", "u8")
        printed = call(where, "galvatron-opt", "--evaluate", program, *weights, *data, "--dump-gradients", gradients)
        self.judge(where, float(printed.split()[-1].split(",")[1]), gradients)

    def run_plan(self, name: str, plan: dict):
        (self.folder / f"{name}.json").write_text(json.dumps(plan))
        self.plan = ("galvatron-opt", f"--plan={self.folder / name}.json", self.program)
        sharded = self.folder / f"{name}.mlir"
        call(name, *self.plan, "--compile-to=shard", "-o", sharded)
        self.evaluate(name, sharded)
        # The timetables of all ranks, where states are shared.
        staged = self.folder / f"{name}-staged.mlir"
        call(f"{name} timetables", *self.plan, "--compile-to=stage", "-o", staged)
        self.evaluate(f"{name} timetables", staged)

    def run_binary(self, name: str):
        """The plan that was evaluated last, on this machine."""
        where, output = f"{name} binary", self.folder / "out"
        call(where, *self.plan, "--lower", "-o", output)
        gradients, log = self.folder / f"gradients-{where}", self.folder / "log.csv"
        data = ("--data", self.folder / "tokens.bin", "--data-dtype", "u8")
        call(where, output / "launch", "--steps", 1, *data, "--dump-gradients", gradients, "--log", log)
        self.judge(where, float(compare.read_log(log)[0]["loss"]), gradients)

    def judge(self, where: str, loss: float, folder: Path):
        # A loss near zero is a difference of larger numbers.
        if not abs(loss - self.loss) <= LOSS_TOLERANCE * max(abs(self.loss), 0.2):
            raise Stopped(Result("wrong", where, f"loss {loss:.9g}, expected {self.loss:.9g}"))
        [file] = folder.glob("*.safetensors")
        actual, _ = compare.read_gradients(file)
        # A parameter that the loss does not reach may be missing or zero.
        actual = {n: g for n, g in actual.items() if n not in self.unreached or numpy.any(g)}
        expected = {n: g for n, g in self.gradients.items() if n in actual or numpy.any(g)}
        for difference in compare.compare_gradients(actual, expected, self.ties):
            name = difference.name
            if difference.passed:
                continue
            if name in actual and name in expected and actual[name].shape == expected[name].shape:
                error = float(numpy.linalg.norm(actual[name] - expected[name]))
                if error <= ROUNDING * max(self.rounding[name], 1e-9):
                    continue
            raise Stopped(Result("wrong", where, f"gradient of {name}: {difference.detail}"))


def random_strategy(draw: Draw, layer: str, ranks: int, most_dp: int, names: list[str]) -> dict:
    """The share of each rank of a stage, by any mix of degrees; `layer`: what the draws are told apart by."""
    degrees = dict.fromkeys(("dp", "tp", "ulysses", "cp"), 1)
    for prime in range(ranks.bit_length() - 1):
        room = [key for key in degrees if key != "dp" or degrees["dp"] * 2 <= most_dp]
        degrees[draw.pick(f"degree{prime}{layer}", room)] *= 2
    tensor, shared = degrees["tp"] > 1, degrees["tp"] < ranks
    strategy = degrees | {
        "sequence_parallel": tensor and draw.has(f"sequence_parallel{layer}", 0.5),
        "strided": tensor and draw.has(f"strided{layer}", 0.25),
        "zero": draw.pick(f"zero{layer}", [0, 1, 2, 3]) if shared else 0,
        "recompute": draw.has(f"recompute{layer}", 0.2),
    }
    if not strategy["recompute"]:
        strategy["recompute_values"] = [name for name in names if draw.has(f"value{layer}{name}", 0.25)]
    return strategy


def random_plan(draw: Draw, units: list[str], batch: int, values: dict[str, list[str]]) -> dict:
    """Stages, strategies and micro-batches of any kind that divides the batch. `values`: those that each unit can have
    recomputed."""
    ranks = draw.pick("ranks", [1, 2, 4])
    stages = draw.pick("stages", [n for n in (1, 2, 4) if ranks % n == 0 and n <= len(units)])
    cuts = sorted(draw._random("cuts").sample(range(1, len(units)), stages - 1))
    micro_batches = draw.pick("micro_batches", [n for n in (1, 2, 3, 4) if batch % n == 0])
    rows = batch // micro_batches
    most_dp = max(n for n in (1, 2, 4) if rows % n == 0)
    alike = draw.has("alike", 0.5)
    listed = []
    for i, path in enumerate(units):
        strategy = random_strategy(draw, "" if alike else str(i), ranks // stages, most_dp, values[path])
        listed.append({"path": path, "stage": sum(i >= cut for cut in cuts), "strategy": strategy})
    return {
        "ranks": ranks,
        "global_batch": batch,
        "micro_batches": micro_batches,
        "schedule": draw.pick("schedule", ["1f1b", "gpipe"]),
        "units": listed,
    }


def check(
    seed: int, folder: Path, plans: int, binary: bool, groups: frozenset[str], without: frozenset[str] = frozenset()
) -> tuple[Result, list[str]]:
    """The result, and the features of the program; `plans`: how many beside one device."""
    draw = Draw(seed, without)
    folder.mkdir(parents=True)
    refused = None
    try:
        subject = Check(draw, folder, groups)
        subject.run_pytorch()
        subject.run_import()
        for number in range(plans):
            plan = random_plan(draw.at(f"plan{number}"), subject.units, subject.sizes.batch, subject.values)
            try:
                subject.run_plan(f"plan{number}", plan)
                if binary:
                    subject.run_binary(f"plan{number}")
            except Stopped as stopped:
                if stopped.result.is_finding:
                    raise
                refused = refused or stopped.result
    except Stopped as stopped:
        return stopped.result, draw.used
    return refused or Result("equal"), draw.used
