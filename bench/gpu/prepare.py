"""Builds everything that check.py and race.py run on a machine with GPUs, into one folder small enough to carry.

    . scripts/env.sh
    python bench/gpu/prepare.py -o build/gpu-bench

    programs.json             what is there
    lib/                      the runtime libraries, one copy for all programs, and the one that records kernels
    programs/MODEL-PRECISION-PLAN/, race/ROW-PRECISION-PLAN/    stage binaries, plan.json, launch
    faults/                   a stage binary written by hand and its tests, and a driver that is too old
    data/text.u8, text.u16    licence texts of this system, as bytes and as hashed pairs of bytes
    data/chat.*, chat_labels.*    their lines as indexed data, and labels of them
    references/MODEL.npz      losses, and sketches of the gradients, of the CPU program in fp32

No weights: every program draws its own, by counter. --target cpu --size tiny makes programs that run here, to try the scripts.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy
from galvatron.data import indexed

sys.path.insert(0, str(Path(__file__).resolve().parent))

import breakdown  # noqa: E402
import gradients  # noqa: E402
import programs  # noqa: E402
import running  # noqa: E402

PRECISIONS = ("fp32", "bf16")
STAGE_TESTS = ("cuda_test.py", "stage_programs.py")
LICENCES = Path("/usr/share/common-licenses")


class Failure(Exception):
    pass


def succeed(*command, **options) -> str:
    words = [str(word) for word in command]
    result = subprocess.run(words, capture_output=True, text=True, **options)
    if result.returncode != 0:
        raise Failure(f"{' '.join(words)}\n{result.stdout[-2000:]}{result.stderr[-4000:]}")
    return result.stdout


def licence_text() -> bytes:
    """Real text that comes with the system."""
    files = [file for file in sorted(LICENCES.iterdir()) if file.is_file() and not file.is_symlink()]
    return b"".join(file.read_bytes() for file in files)


def write_data(folder: Path) -> None:
    """At most 1 MB. Pairs of bytes hashed to 1003 values give a vocabulary that is odd and all used."""
    folder.mkdir(parents=True, exist_ok=True)
    text = numpy.frombuffer(licence_text(), numpy.uint8)[: 300 * 1024]
    (folder / "text.u8").write_bytes(text.tobytes())
    pairs = (text[:-1].astype(numpy.uint32) * 257 + text[1:]) % 1003
    (folder / "text.u16").write_bytes(pairs.astype("<u2").tobytes())
    write_chat(folder / "chat", text)


def write_chat(prefix: Path, text: numpy.ndarray) -> None:
    """Each line is a sequence, of which the second half has labels."""
    with indexed.writing(prefix, {"": "u8", "_labels": "i32"}) as writers:
        for line in text.tobytes().splitlines():
            tokens = numpy.frombuffer(line[:120], numpy.uint8).astype(numpy.int64)
            if len(tokens) > 1:
                writers[""].add(tokens)
                writers["_labels"].add(numpy.where(numpy.arange(len(tokens)) < len(tokens) // 2, -100, tokens))


class Builder:
    def __init__(self, arguments: argparse.Namespace):
        self.output, self.target, self.work = arguments.output, arguments.target, arguments.output / "work"
        self.work.mkdir(parents=True, exist_ok=True)
        options = subprocess.run(["galvatron-opt", "--help"], capture_output=True, text=True).stdout
        self.has_precision = "--precision=" in options
        self.failures: list[str] = []
        self.archives: dict[str, Path] = {}  # exported models, by their config

    def imported(self, name: str, config: dict, batch: int, seq: int, *options: str) -> Path:
        """The program in MLIR, without weights."""
        program, text = self.work / f"{name}.mlir", json.dumps(config)
        if text not in self.archives:  # of all its batches and lengths
            file, archive = (self.work / f"{name}.{suffix}" for suffix in ("json", "pt"))
            file.write_text(text)
            succeed(sys.executable, "-m", "galvatron.export", "--config", file, "--weightless", "-o", archive)
            self.archives[text] = archive
        succeed("galvatron-import", self.archives[text], "--batch", batch, "--seq", seq, *options, "-o", program)
        return program

    def recomputable(self, name: str) -> dict[str, list[str]]:
        """Names of the values that each unit of a compiled program can recompute, by its path."""
        plan = json.loads((self.work / name / "plan.json").read_text())
        values = plan["recomputable_values"]
        return {unit["path"]: values.get(unit["layer_type"], []) for unit in plan["units"]}

    def compiled(self, program: Path, plan: dict | int, target: str, precision: str, output: Path) -> dict:
        """A folder of stage binaries, its libraries moved away; what is known of it. A number instead of a plan: searched for
        so many ranks."""
        if isinstance(plan, int):
            planned = ["--search", f"--ranks={plan}"]
        else:
            file = self.work / f"{output.name}.plan.json"
            file.write_text(json.dumps(plan))
            planned = [f"--plan={file}"]
        shutil.rmtree(output, ignore_errors=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        options = [f"--precision={precision}"] if self.has_precision else []
        start = time.monotonic()
        succeed("galvatron-opt", *planned, "--lower", program, f"--target={target}", *options, "-o", output)
        seconds = time.monotonic() - start
        libraries = self.output / "lib" if target == self.target else self.work / "lib"
        libraries.mkdir(exist_ok=True)
        for library in output.glob("*.so*"):
            library.replace(libraries / library.name)
        written = json.loads((output / "plan.json").read_text())
        memory = {"peak_bytes": written["peak_bytes_per_rank"], "reserved_bytes": written["reserved_bytes_per_rank"]}
        return {"ranks": written["ranks"], **memory, "seconds": round(seconds, 2)}

    def add(self, listed: list[dict], **entry) -> None:
        """Compiles and lists one program; a failure is told at the end."""
        name = f"{entry['model']}-{entry['precision']}-{entry['plan']}"
        try:
            known = self.compiled(
                entry.pop("program"),
                entry.pop("layout"),
                self.target,
                entry["precision"],
                self.output / entry["folder"],
            )
        except Failure as failure:
            # One of several plans of a row may be larger than the device: the others are for that.
            too_large = "of memory per device, but stage" in str(failure) and "/race/" in str(failure)
            print(f"{name:36} {'larger than the device' if too_large else 'FAILED'}", flush=True)
            if too_large:
                return
            self.failures.append(f"{name}: {failure}")
            return
        listed.append({**entry, **known})
        peak = max(known["peak_bytes"]) / 2**30
        print(f"{name:36} {known['ranks']} ranks  {peak:8.3f} GiB  compiled in {known['seconds']} s", flush=True)


def pack_trace(libraries: Path) -> None:
    """libgalvatron_trace.so of the same build; where it was built without CUPTI, race.py has no tables of kernels."""
    built = Path(shutil.which("galvatron-opt")).resolve().parent.parent / "lib" / breakdown.LIBRARY
    if built.exists():
        libraries.mkdir(exist_ok=True)
        shutil.copy(built, libraries)
    else:
        print(f"no {breakdown.LIBRARY}: race.py --breakdown will say nothing", flush=True)


def pack_faults(output: Path) -> None:
    """The stage binary written by hand with its tests, and a driver that is too old, for check.py --faults."""
    tree = Path(__file__).resolve().parents[2]
    built = Path(shutil.which("galvatron-opt")).resolve().parent
    stage, driver = built / "cuda-stage", built / "driver" / "libcuda.so.1"
    if not (stage.exists() and driver.exists()):
        print("no cuda-stage and fake driver (ninja galvatron-unit): check.py --faults will judge less", flush=True)
        return
    (output / "driver").mkdir(parents=True, exist_ok=True)
    shutil.copy(driver, output / "driver" / driver.name)
    for file in (stage, tree / "runtime/launch.in", *(tree / "test/Runtime" / name for name in STAGE_TESTS)):
        shutil.copy(file, output)


def record_reference(builder: Builder, model: programs.Model, program: Path) -> None:
    """Compiles and runs the CPU program in fp32 and keeps losses and sketches."""
    output = builder.work / f"reference-{model.name}"
    builder.compiled(program, programs.PLANS["one"].plan(programs.units(model.config), model.batch), "cpu", "fp32", output)
    record(builder, model.name, output, *programs.data_options(dataclasses.asdict(model), builder.output / "data"))


def record(
    builder: Builder, name: str, output: Path, *options, judged_steps: int = programs.EQUALITY_STEPS, rounding=()
) -> None:
    """Runs a compiled CPU program and keeps its losses, and sketches of the gradients of the first steps. `rounding`: pairs of
    a parameter and what rounding makes of its gradient."""
    libraries = builder.work / "lib" if builder.target != "cpu" else builder.output / "lib"
    environment = os.environ | {"LD_LIBRARY_PATH": str(libraries.resolve())}
    told = ["--log", output / "log.csv", "--dump-gradients", output / "gradients", "--quiet"]
    steps = ["--steps", programs.EQUALITY_STEPS]
    succeed(output / "launch", *steps, *programs.EQUALITY, *options, *told, env=environment)
    sketch = gradients.Sketcher()
    kept = {"losses": numpy.array([float(row["loss"]) for row in running.read_log(output / "log.csv")])}
    for step, tensors in gradients.steps_of(output / "gradients"):
        for parameter, tensor in tensors.items() if step <= judged_steps else ():
            # In f32: the rounding of a sum is far below what is compared.
            kept[f"{step}/{parameter}"] = sketch(tensor).astype(numpy.float32)
    kept |= {f"rounding/{parameter}": numpy.array(error) for parameter, error in rounding}
    folder = builder.output / "references"
    folder.mkdir(exist_ok=True)
    numpy.savez_compressed(folder / f"{name}.npz", **kept)
    print(f"{name:36} reference recorded, losses {kept['losses']}", flush=True)


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("-o", "--output", type=Path, default=Path("build/gpu-bench"), help="folder to write (default: build/gpu-bench)")
    add("--target", choices=("cuda", "cpu"), default="cuda", help="device of the programs (default: cuda)")
    add("--size", choices=("full", "tiny"), default="full", help="tiny: models for a machine without a GPU")
    add("--precisions", default="", help="such as fp32,bf16,fp16 (default: fp32,bf16, or what galvatron-opt knows)")
    add("--rows", default="all", help="of the race: names separated by commas, all, or none (default: all)")
    add("--models", default="all", help="of the checks: names separated by commas, all, or none (default: all)")
    add("--most-ranks", type=int, default=1 << 20, help="leave out plans for more (default: all)")
    add("--keep-work", action="store_true", help="keep exported models and reference runs")
    arguments = parser.parse_args()
    arguments.output = arguments.output.resolve()
    shutil.rmtree(arguments.output, ignore_errors=True)
    builder = Builder(arguments)
    precisions = arguments.precisions.split(",") if arguments.precisions else PRECISIONS
    if not builder.has_precision:
        precisions = ["fp32"]
        print("galvatron-opt has no --precision: fp32 only", flush=True)
    write_data(arguments.output / "data")
    if arguments.target == "cuda":
        pack_trace(arguments.output / "lib")
        pack_faults(arguments.output / "faults")
    index = {"date": str(datetime.date.today()), "device": arguments.target, "size": arguments.size}
    index |= {"models": {}, "programs": [], "race": []}
    for model in programs.models(arguments.size):
        if arguments.models != "all" and model.name not in arguments.models.split(","):
            continue
        index["models"][model.name] = dataclasses.asdict(model) | {"is_text": model.is_text}
        program = builder.imported(model.name, model.config, model.batch, model.seq, *model.importing)
        try:
            record_reference(builder, model, program)
        except Failure as failure:
            builder.failures.append(f"reference of {model.name}: {failure}")
            continue
        values, units = builder.recomputable(f"reference-{model.name}"), programs.units(model.config)
        for precision in precisions:
            for plan in model.plans:
                if programs.PLANS[plan].ranks > arguments.most_ranks:
                    continue
                layout = programs.PLANS[plan].plan(units, model.batch, values, programs.halves(model.config))
                folder = f"programs/{model.name}-{precision}-{plan}"
                entry = {"model": model.name, "precision": precision, "plan": plan, "folder": folder}
                builder.add(index["programs"], program=program, layout=layout, **entry)
    for row in programs.rows(arguments.size):
        if row.ranks > arguments.most_ranks or arguments.rows != "all" and row.name not in arguments.rows.split(","):
            continue
        program = builder.imported(row.name, row.config, row.batch, row.seq)
        precision = "bf16" if "bf16" in precisions else precisions[0]
        for plan, layout in row.plans.items():
            folder = f"race/{row.name}-{precision}-{plan}"
            entry = {"model": row.name, "precision": precision, "plan": plan, "folder": folder}
            entry |= {"batch": row.batch, "seq": row.seq, "program": program}
            by_hand = None if layout.searched else layout.plan(programs.units(row.config), row.batch)
            entry["layout"] = by_hand or layout.ranks
            builder.add(index["race"], **entry)
    if not arguments.keep_work:
        shutil.rmtree(builder.work)
    (arguments.output / programs.INDEX).write_text(json.dumps(index, indent=1) + "\n")
    print(f"{len(index['programs'])} programs, {len(index['race'])} for the race, ", end="")
    print(f"{size_of(arguments.output) / 2**20:.1f} MiB in {arguments.output.name}", flush=True)
    for failure in builder.failures:
        print(f"prepare: error: {failure}", file=sys.stderr)
    return 1 if builder.failures else 0


if __name__ == "__main__":
    sys.exit(main())
