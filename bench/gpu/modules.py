"""Other people's modules on GPUs: losses, operators, wirings and random modules equal the CPU's programs.

    . scripts/env.sh
    python bench/gpu/modules.py prepare -o build/gpu-modules                # here: every module, under every plan
    python3 bench/gpu/modules.py check build/gpu-modules --out results      # there: is it right?

prepare exports and imports each module of module_cases.py, records losses and sketches of the gradients of its CPU program, and
compiles it for one GPU, for two replicas and for two stages. It packs the unit tests of the device's library as well.
check runs those alone, then all programs, several at once on every GPU, each for at most --timeout seconds, and compares them with
the record. Writes modules.json and modules.txt; exit code 1 if anything failed or could not be run.

--target cpu makes programs that run here, to try it all.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import copy
import datetime
import json
import re
import shutil
import sys
import threading
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import check  # noqa: E402
import programs  # noqa: E402
import running  # noqa: E402

BATCH = 8
# The second stage begins in the middle of the units.
PLANS = {
    "one": lambda units: programs.Layout(),
    "dp2": lambda units: programs.Layout(2, micro_batches=2),
    "pp2": lambda units: programs.Layout(2, cut=len(units) // 2, micro_batches=2),
}
# Unit tests by device: the program, the numbers of its ranks, and the libraries that it takes as arguments.
TESTS = {
    "cuda": (("CudaTests", (1, 2), ()), ("cuda-KernelsTest", (1,), ("libgalvatron_cpu.so", "libgalvatron_cuda.so"))),
    "cpu": (("CommTests", (1, 2), ()),),
}
TEST_SECONDS = 150
SKIPPED = "needs a GPU for each rank"
# Without it, runs side by side would all wait for the first cores.
UNBOUND = {"OMPI_MCA_hwloc_base_binding_policy": "none"}


def rounding_of(module, batch: list | dict) -> list[tuple[str, float]]:
    """How far PyTorch's own gradients in single precision are from those in double precision, of a batch of inputs."""
    import torch

    named = batch if isinstance(batch, dict) else {}
    found = []
    for wide in (False, True):
        copied = copy.deepcopy(module).double() if wide else copy.deepcopy(module)
        inputs = {n: tensor.double() if wide and tensor.is_floating_point() else tensor for n, tensor in named.items()}
        result = copied(**inputs) if named else copied(*batch)
        (result if torch.is_tensor(result) else result["loss"]).backward()
        found.append({n: p.grad.double() for n, p in copied.named_parameters() if p.grad is not None})
    single, double = found
    return [(name, float((single[name] - gradient).norm())) for name, gradient in double.items()]


class Preparation:
    def __init__(self, arguments: argparse.Namespace):
        import prepare

        self.tools, self.builder = prepare, prepare.Builder(arguments)
        self.output, self.work, self.target = arguments.output, self.builder.work, arguments.target
        self.only, self.jobs, self.plans = re.compile(arguments.only), arguments.jobs, arguments.plans.split(",")
        self.models: dict[str, dict] = {}
        self.programs: list[dict] = []
        self.tracing = threading.Lock()  # torch's tracer and generator are one for the process
        for name in ("data", "weights"):
            (self.output / name).mkdir(parents=True)

    def data(self, case) -> str:
        """The file of a case's tokens, made when first asked for: text of as many values as the vocabulary has."""
        from module_cases import NO_LABEL
        from test_losses import no_label_in_step_two

        file = self.output / "data" / f"{case.data}-{case.vocabulary}.u8"
        if not file.exists():
            file.write_bytes(bytes(byte % case.vocabulary for byte in self.tools.licence_text()[: 16 << 10]))
            if case.data == NO_LABEL:
                no_label_in_step_two(file)
        return file.name

    def imported(self, case) -> tuple[Path, list[tuple[str, float]]]:
        """The program; where gradients may be differences of large terms, what rounding makes of those of the first step."""
        import torch

        from galvatron import export

        archive, program = self.work / f"{case.name}.pt", self.work / f"{case.name}.mlir"
        rounding, sizes = [], []
        with self.tracing:
            torch.manual_seed(0)
            module = case.make()
            if case.samples:
                samples = case.samples()
                example = {name: tensor[:BATCH] for name, tensor in samples.items()}
                self.models[case.name] = {"data": self.folder_of(case, samples), "data_type": "", "running": []}
                rounding = rounding_of(module, example)
            else:
                ids = torch.arange(2 * case.seq).view(2, case.seq) % case.vocabulary
                example, sizes = (ids, ids), ["--batch", BATCH, "--seq", case.seq]
                self.models[case.name] = {"data": self.data(case), "data_type": "u8", "running": []}
            export.save(module, example, archive)
            if case.drawn:
                tokens = (self.output / "data" / self.models[case.name]["data"]).read_bytes()[: BATCH * case.seq]
                rounding = rounding_of(module, [torch.tensor(list(tokens)).view(BATCH, case.seq)] * 2)
        self.tools.succeed("galvatron-import", archive, *sizes, "-o", program)
        shutil.copy(archive.with_suffix(".safetensors"), self.weights(case.name))
        return program, rounding

    def folder_of(self, case, samples: dict) -> str:
        """The folder of a case's samples, an .npy for each input."""
        import numpy

        folder = self.output / "data" / case.name
        folder.mkdir()
        for name, tensor in samples.items():
            numpy.save(folder / f"{name}.npy", tensor.numpy())
        return folder.name

    def weights(self, name: str) -> Path:
        return self.output / "weights" / f"{name}.safetensors"

    def add(self, case) -> None:
        """The plan searched for one rank says which units there are; its program on the CPU is what others must equal."""
        reference = self.work / f"reference-{case.name}"
        try:
            program, rounding = self.imported(case)
            self.builder.compiled(program, 1, "cpu", case.precision, reference)
            model = self.models[case.name]
            options = programs.data_options(model, self.output / "data")
            options += ["--weights", self.weights(case.name)]
            judged = {"judged_steps": case.judged_steps, "rounding": rounding}
            self.tools.record(self.builder, case.name, reference, *options, **judged)
        except Exception as error:  # of any tool or module: the others go on
            told = str(error).strip().splitlines()[-1] if case.drawn else ""
            print(f"{case.name:36} {'refused' if case.drawn else 'FAILED'} {told}", flush=True)
            if not case.drawn:
                self.builder.failures.append(f"{case.name}: {error}")
            return
        units = [unit["path"] for unit in json.loads((reference / "plan.json").read_text())["units"]]
        for plan, layout in PLANS.items():
            if plan not in self.plans or (case.whole_batch and plan != "one"):
                continue
            folder = f"programs/{case.name}-{plan}"
            entry = {"model": case.name, "precision": case.precision, "plan": plan, "folder": folder, "program": program}
            self.builder.add(self.programs, layout=layout(units).plan(units, BATCH), **entry)
            # One copy for all plans; that of buffers stays.
            (self.output / folder / self.weights(case.name).name).unlink(missing_ok=True)

    def add_tests(self) -> list[dict]:
        built = Path(shutil.which("galvatron-opt")).resolve().parent
        folder, tests = self.output / "tests", []
        folder.mkdir()
        for name, numbers, libraries in TESTS[self.target]:
            if not (built / name).exists():
                self.builder.failures.append(f"no {name}: build galvatron-unit")
                continue
            shutil.copy(built / name, folder)
            for library in libraries:
                shutil.copy(built.parent / "lib" / library, self.output / "lib")
            tests += [{"name": name, "ranks": ranks, "libraries": libraries} for ranks in numbers]
        return tests

    def all(self) -> int:
        import module_cases

        warnings.simplefilter("ignore")  # of modules that take one size only: they are imported at no other
        wanted = [case for case in module_cases.cases() if self.only.search(case.name)]
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            list(pool.map(self.add, wanted))
        index = {"date": str(datetime.date.today()), "device": self.target, "size": "tiny", "models": self.models}
        index |= {"programs": self.programs, "tests": self.add_tests()}
        shutil.rmtree(self.work)
        (self.output / programs.INDEX).write_text(json.dumps(index, indent=1) + "\n")
        count = len({program["model"] for program in self.programs})
        print(f"{count} of {len(wanted)} modules, {len(self.programs)} programs, ", end="")
        print(f"{self.tools.size_of(self.output) / 2**20:.1f} MiB in {self.output.name}", flush=True)
        for failure in self.builder.failures:
            print(f"prepare: error: {failure}", file=sys.stderr)
        return 1 if self.builder.failures else 0


class Checker(check.Checker):
    """Every program against the record of its module's CPU program."""

    PARTS, RESULT = ("modules", "tests"), "modules"

    def __init__(self, arguments: argparse.Namespace):
        super().__init__(arguments, arguments.at_once)
        self.env |= UNBOUND

    def module(self, program: dict) -> None:
        name = f"{program['model']}-{program['plan']}"
        folder = self.work / name
        folder.mkdir()
        weights = self.folder / "weights" / f"{program['model']}.safetensors"
        options = ["--steps", programs.EQUALITY_STEPS, *programs.EQUALITY, "--weights", weights]
        told = ["--log", folder / "log.csv", "--dump-gradients", folder / "gradients"]
        result = self.run("modules", name, self.command(program, *options, *told), program["ranks"])
        if result:
            self.against_recorded(name, program, folder, result.seconds)

    def test(self, test: dict) -> None:
        name, folder = f"{test['name']}-{test['ranks']}", self.folder / "tests"
        command = ["mpirun", "-np", test["ranks"], folder / test["name"]]
        command += [self.folder / "lib" / library for library in test["libraries"]]
        result = self.run("tests", name, command, test["ranks"], timeout=TEST_SECONDS, alone=True)
        if result:
            lines = result.output.strip().splitlines()
            passed = None if SKIPPED in result.output else True
            self.tell("tests", name, passed, detail=lines[-1] if lines else "", seconds=result.seconds)

    def tasks(self) -> list:
        only = re.compile(self.arguments.only)
        chosen = [p for p in self.index["programs"] if only.search(f"{p['model']}-{p['plan']}")]
        return [(p["ranks"], lambda p=p: self.module(p)) for p in sorted(chosen, key=lambda p: -p["ranks"])]

    def all(self) -> bool:
        for file in (self.folder / "tests").iterdir():
            file.chmod(0o755)
        if not self.arguments.only:
            running.in_parallel([lambda test=test: self.test(test) for test in self.index["tests"]], self.gpus)
        passed = super().all()
        with (self.arguments.out / "modules.txt").open("w") as file:
            for v in self.verdicts:
                print(check.MARKS[v.passed], v.part, v.name, f"{v.value:.2e} {v.seconds:.1f} s", v.detail, file=file)
        return passed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="action", required=True)
    add = commands.add_parser("prepare", help="builds everything into one folder").add_argument
    add("-o", "--output", type=Path, default=Path("build/gpu-modules"), help="default: build/gpu-modules")
    add("--target", choices=("cuda", "cpu"), default="cuda", help="device of the programs (default: cuda)")
    add("--only", default="", help="regular expression on the modules' names")
    add("--plans", default=",".join(PLANS), help=f"compile for these alone (default: {','.join(PLANS)})")
    add("--jobs", type=int, default=2, help="compile so many modules at once (default: 2)")
    add = commands.add_parser("check", help="runs and judges what was prepared").add_argument
    add("folder", type=Path, help="what prepare wrote")
    add("--out", type=Path, default=Path("gpu-modules"), help="results and logs (default: gpu-modules)")
    add("--gpus", type=int, default=0, help="use so many (default: all)")
    add("--at-once", type=int, default=4, help="programs that share a GPU (default: 4)")
    add("--only", default="", help="regular expression on MODULE-PLAN; without the unit tests")
    add("--timeout", type=float, default=60, help="seconds of one program (default: 60)")
    add("--deadline", type=float, default=340, help="seconds after which nothing starts (default: 340)")
    arguments = parser.parse_args()
    if arguments.action == "prepare":
        arguments.output = arguments.output.resolve()
        shutil.rmtree(arguments.output, ignore_errors=True)
        return Preparation(arguments).all()
    arguments.out.mkdir(parents=True, exist_ok=True)
    return 0 if Checker(arguments).all() else 1


if __name__ == "__main__":
    sys.exit(main())
