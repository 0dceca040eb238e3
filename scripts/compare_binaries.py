"""Compares the stage binaries of two compilers byte for byte, over the programs of the tests and a list of plans.

Usage: compare_binaries.py OLD NEW [--programs REGEX] [--cases REGEX] [--targets cpu,cuda] [--keep FOLDER]

OLD and NEW are galvatron-opt of two builds. Left out of the comparison are the digest of the program's text in the
manifest and the linker's build id, which follows from it. A case that both refuse in the same words is equal, too.
One line a difference, then `N equal (of them M refused by both), K different`; exit status 1 if any differ. With --keep,
the output folders of different cases stay as FOLDER/PROGRAM.CASE.TARGET.{old,new}.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "test" / "EndToEnd"))
from harness import Layout  # noqa: E402  (this folder's path comes first)

SECONDS = 120
BATCH = 8
PROGRAM_DIGEST = re.compile(rb'"program":"[0-9a-f]{32}"')
# name size 4, 20 bytes of SHA-1, type 3, name GNU.
BUILD_ID = re.compile(rb"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0.{20}", re.DOTALL)
MANIFEST = re.compile(rb'\{"[^\0]*\}(?=\0)')
FP32, BF16 = "--precision=fp32", "--precision=bf16"


def halves(count):
    """The first half of the units on stage 0, the others on stage 1."""
    return [int(2 * unit >= count) for unit in range(count)]


def quarters(count):
    return [4 * unit // count for unit in range(count)]


def alternating(*values):
    """One value for each unit, in turn."""
    return lambda count: [values[unit % len(values)] for unit in range(count)]


@dataclasses.dataclass
class Case:
    """A plan for any number of units (a callable takes their count), or none: the compiler's search."""

    options: list[str]
    layout: dict | None = None

    def arguments(self, units, file):
        if self.layout is None:
            return self.options
        layout = {key: value(len(units)) if callable(value) else value for key, value in self.layout.items()}
        file.write_text(json.dumps(Layout(**layout).plan(units, BATCH)))
        return [f"--plan={file}", *self.options]


CASES = {
    "one": Case([FP32], {}),
    "one-bf16": Case([BF16], {"micro_batches": 2}),
    "accumulate": Case([FP32], {"micro_batches": 4}),
    "dp2": Case([FP32], {"ranks": 2}),
    "tp2": Case([FP32], {"ranks": 2, "tp": 2}),
    "tp4-bf16": Case([BF16], {"ranks": 4, "tp": 4, "micro_batches": 2}),
    "tp8": Case([FP32], {"ranks": 8, "tp": 8}),
    "dp2-tp2-recompute": Case([FP32], {"ranks": 4, "tp": 2, "recompute": alternating(False, True)}),
    "dp2-pp2-bf16": Case([BF16], {"ranks": 4, "stages": halves, "micro_batches": 2}),
    "pp2-gpipe": Case([FP32], {"ranks": 2, "stages": halves, "micro_batches": 4, "schedule": "gpipe"}),
    "pp4-recompute": Case([FP32], {"ranks": 4, "stages": quarters, "micro_batches": 8, "recompute": True}),
    "dp2-tp2-pp2": Case([FP32], {"ranks": 8, "tp": 2, "stages": halves, "micro_batches": 4}),
    "mixed": Case([FP32], {"ranks": 4, "tp": alternating(1, 4, 2)}),
    "mixed-pp2-bf16": Case([BF16], {"ranks": 8, "tp": alternating(4, 1, 2), "stages": halves, "micro_batches": 2}),
    "search2": Case(["--search", "--ranks=2"]),
    "search4": Case(["--search", "--ranks=4"]),
    "search4-memory": Case(["--search", "--ranks=4", "--global-batch=8", "--memory=1500MiB"]),
}


@dataclasses.dataclass
class Output:
    """What a compiler left: stage binaries by name, or the words in which it refused."""

    stages: dict[str, bytes]
    refusal: str


def compile_program(compiler, program, options, folder):
    command = [compiler, "--lower", program, *options, "-o", folder]
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=SECONDS)
    if result.returncode:
        return Output({}, result.stderr or f"exit status {result.returncode}")
    stages = {path.name: path.read_bytes() for path in sorted(folder.glob("stage*"))}
    return Output({name: BUILD_ID.sub(b"", PROGRAM_DIGEST.sub(b"", data)) for name, data in stages.items()}, "")


def difference(old, new):
    """In words; empty where there is none."""
    if old.refusal != new.refusal:
        return f"old: {old.refusal.strip() or 'compiles'} | new: {new.refusal.strip() or 'compiles'}"
    if old.stages.keys() != new.stages.keys():
        return f"{len(old.stages)} stages, {len(new.stages)} in the new"
    for name, data in old.stages.items():
        if data != new.stages[name]:
            return f"{name}, {len(data)} bytes and {len(new.stages[name])}: {where(data, new.stages[name])}"
    return ""


def where(old, new):
    manifests = [MANIFEST.search(data) for data in (old, new)]
    if not all(manifests) or manifests[0].group() == manifests[1].group():
        return "code or timetable"
    before, after = [json.loads(match.group().replace(b"{,", b"{").replace(b",,", b",")) for match in manifests]
    return "manifest at " + ", ".join(key for key in before | after if before.get(key) != after.get(key))


class Comparison:
    def __init__(self, old, new, work, keep):
        self.compilers, self.work, self.keep = {"old": old, "new": new}, work, keep
        self.equal, self.refused, self.different = 0, 0, 0

    def units(self, program):
        folder = self.work / f"units-{program.stem}"
        output = subprocess.run(
            [self.compilers["old"], "--search", "--lower", program, "--ranks=1", "-o", folder],
            capture_output=True, text=True, timeout=SECONDS,
        )  # fmt: skip
        if output.returncode:
            sys.exit(f"{program}: {output.stderr}")
        return [unit["path"] for unit in json.loads((folder / "plan.json").read_text())["units"]]

    def compare(self, program, units, name, target):
        """The name of the comparison and its difference."""
        label = f"{program.stem}.{name}.{target}"
        options = [f"--target={target}", *CASES[name].arguments(units, self.work / f"{label}.json")]
        folders = {side: self.work / f"{label}.{side}" for side in self.compilers}
        outputs = [
            compile_program(compiler, program, options, folders[side]) for side, compiler in self.compilers.items()
        ]
        found = difference(*outputs)
        for folder in folders.values():
            if found and self.keep and folder.exists():
                shutil.copytree(folder, self.keep / folder.name, dirs_exist_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
        return label, found, bool(outputs[0].refusal)

    def count(self, label, found, refused):
        if found:
            print(f"{label}: {found}", flush=True)
        self.different += bool(found)
        self.equal += not found
        self.refused += not found and refused


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=pathlib.Path)
    parser.add_argument("new", type=pathlib.Path)
    parser.add_argument("--programs", default="", help="of these names alone (a regular expression)")
    parser.add_argument("--cases", default="", help="these alone (a regular expression): " + ", ".join(CASES))
    parser.add_argument("--targets", default="cpu,cuda")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for the outputs of cases that differ")
    options = parser.parse_args()
    inputs = ROOT / "test" / "Inputs"
    programs = sorted([*inputs.glob("imported/*.mlir"), *inputs.glob("*.mlir")])
    programs = [program for program in programs if re.search(options.programs, program.name)]
    names = [name for name in CASES if re.search(options.cases, name)]
    with tempfile.TemporaryDirectory() as work:
        comparison = Comparison(options.old.resolve(), options.new.resolve(), pathlib.Path(work), options.keep)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            units = dict(zip(programs, pool.map(comparison.units, programs)))
            waiting = [
                pool.submit(comparison.compare, program, units[program], name, target)
                for program in programs
                for name in names
                for target in options.targets.split(",")
            ]
            for done in waiting:
                comparison.count(*done.result())
    equal, refused = comparison.equal, comparison.refused
    print(f"{equal} equal (of them {refused} refused by both), {comparison.different} different")
    return 1 if comparison.different or not equal else 0


if __name__ == "__main__":
    sys.exit(main())
