"""What end-to-end tests share: the tools as a user calls them, plans by hand, and runs read back.

Tools come from PATH (scripts/env.sh), or from the bin folder of the build that GALVATRON_BUILD names.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "test" / "Inputs" / "models"
sys.path.insert(0, str(ROOT / "python"))

from galvatron import compare  # noqa: E402  (its path comes first)

BATCH, SEQ, VOCABULARY, STEPS = 8, 16, 256, 20
# Far above what any call needs (about 2 s), far below what a hang would cost the suite.
TIMEOUT_SECONDS = 120


def environment() -> dict[str, str]:
    """As scripts/env.sh: mpirun as root, more ranks than cores, waiting ranks yield."""
    result = dict(os.environ)
    build = os.environ.get("GALVATRON_BUILD")
    if build:
        result["PATH"] = f"{Path(build).resolve() / 'bin'}:{result['PATH']}"
    result["PYTHONPATH"] = f"{ROOT / 'python'}:{result.get('PYTHONPATH', '')}"
    for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"):
        result[name] = "1"
    result["OMPI_MCA_rmaps_base_oversubscribe"] = "1"
    result["OMPI_MCA_mpi_yield_when_idle"] = "1"
    return result


def targets() -> tuple[str, ...]:
    """The devices that the compiler here lowers for: the GPU's is built where its libraries are."""
    build = Path(shutil.which("galvatron-opt", path=environment()["PATH"])).resolve().parent.parent
    return ("cpu", "cuda") if (build / "lib" / "libgalvatron_cuda.so").exists() else ("cpu",)


def call(*command, cwd: Path | None = None, timeout: float = TIMEOUT_SECONDS) -> subprocess.CompletedProcess:
    """Runs a tool; its exit code is the caller's to judge. A hang is a failure by timeout."""
    words = [str(word) for word in command]
    words[0] = shutil.which(words[0], path=environment()["PATH"]) or words[0]
    return subprocess.run(words, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=timeout)


def succeed(*command, cwd: Path | None = None) -> subprocess.CompletedProcess:
    result = call(*command, cwd=cwd)
    line = " ".join(str(word) for word in command)
    assert result.returncode == 0, f"{line}\n{result.stdout}{result.stderr}"
    return result


def refusal_of(program: Path, plan: dict, folder: Path) -> str:
    """What galvatron-opt says of a plan that it must refuse before it writes anything."""
    path, output = folder / "plan.json", folder / "out"
    path.write_text(json.dumps(plan))
    result = call("galvatron-opt", "--lower", f"--plan={path}", program, "-o", output)
    assert result.returncode == 1 and not output.exists()
    return result.stderr


def ranks_of(folder: Path) -> dict[int, int]:
    """Processes that run a stage of this folder, by rank."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(process / "exe")).parent == folder.resolve():
                rank = re.search(rb"OMPI_COMM_WORLD_RANK=(\d+)", (process / "environ").read_bytes())
                found[int(rank.group(1))] = int(process.name)
        except (OSError, AttributeError):
            continue  # gone, another user's, or not a rank yet
    return found


@dataclasses.dataclass
class Layout:
    """A plan by hand. A list has one entry for each unit (embedding, layers, head); a single value
    holds for all. dp is what is left of a stage's ranks."""

    ranks: int = 1
    tp: int | list[int] = 1
    sequence_parallel: bool | list[bool] = False
    ulysses: int | list[int] = 1
    cp: int | list[int] = 1
    keep_gathered: bool | list[bool] = False
    cp_kind: str | None | list[str | None] = None
    cp_zigzag: bool | None | list[bool | None] = None
    strided: bool | list[bool] = False
    stages: list[int] | None = None
    schedule: str = "1f1b"
    virtual_stages: int = 1
    micro_batches: int = 1
    zero: int | list[int] = 0
    recompute: bool | list[bool] = False

    def plan(self, units: list[str], batch: int = BATCH) -> dict:
        def each(value):
            assert not isinstance(value, list) or len(value) == len(units), "one entry for each unit"
            return value if isinstance(value, list) else [value] * len(units)

        keys = ("tp", "sequence_parallel", "ulysses", "cp", "cp_kind", "cp_zigzag", "keep_gathered", "strided", "zero", "recompute")
        columns = [each(getattr(self, key)) for key in keys]
        strategies = [
            {key: value for key, value in zip(keys, values, strict=True) if value is not None}
            for values in zip(*columns, strict=True)
        ]
        stages = self.stages or [0] * len(units)
        listed = [
            {"path": path, "stage": stage, "strategy": strategy}
            for path, stage, strategy in zip(units, stages, strategies, strict=True)
        ]
        plan = {
            "ranks": self.ranks,
            "global_batch": batch,
            "micro_batches": self.micro_batches,
            "schedule": self.schedule,
            "units": listed,
        }
        return plan | ({"virtual_stages": self.virtual_stages} if self.virtual_stages > 1 else {})


@dataclasses.dataclass
class Run:
    """A finished training run: what it printed, and the folder with what it wrote."""

    folder: Path
    output: str

    @property
    def log(self) -> list[dict[str, str]]:
        return compare.read_log(self.folder / "log.csv")

    def column(self, name: str) -> list[float]:
        return [float(row[name]) for row in self.log]

    @property
    def losses(self) -> list[str]:
        """As written, so that equal means equal in all 9 digits."""
        return [row["loss"] for row in self.log]

    def list_by_rank(self, label: str) -> list[int]:
        """A closing line such as `peak bytes  [1, 2] allocated, by rank`."""
        found = re.search(rf"^{label}\s+(\[[\d, -]*\])", self.output, re.MULTILINE)
        assert found, self.output
        return json.loads(found.group(1))


@dataclasses.dataclass
class Compiled:
    """An output folder of galvatron-opt."""

    folder: Path

    @property
    def plan(self) -> dict:
        return json.loads((self.folder / "plan.json").read_text())

    @property
    def units(self) -> list[str]:
        return [unit["path"] for unit in self.plan["units"]]

    def launch(self, *options) -> subprocess.CompletedProcess:
        return call(self.folder / "launch", *options)

    def train(self, folder: Path, *options) -> Run:
        folder.mkdir(parents=True, exist_ok=True)
        result = succeed(self.folder / "launch", "--log", folder / "log.csv", *options)
        return Run(folder, result.stdout)


class Model:
    """A module exported and imported once, compiled for any number of plans."""

    def __init__(self, name: str, config, folder: Path, *export_options, batch: int = BATCH, seq: int = SEQ):
        """`config`: of a transformers model, or a module."""
        from galvatron import export

        self.name, self.folder, self.batch, self.seq = name, folder, batch, seq
        self.archive, self.program = folder / "model.pt", folder / "model.mlir"
        folder.mkdir(parents=True)
        # In this process, which has torch loaded already.
        if isinstance(config, dict):
            (folder / "config.json").write_text(json.dumps(config))
            options = ["--config", folder / "config.json", "-o", self.archive, *export_options]
            assert export.main([str(option) for option in options]) == 0
        else:
            import torch

            ids = torch.arange(2 * seq).view(2, seq)
            export.save(config, (ids, ids), self.archive)
        succeed("galvatron-import", self.archive, "--batch", batch, "--seq", seq, "-o", self.program)
        self._compiled: dict[str, Compiled] = {}
        self._units: list[str] | None = None

    @property
    def units(self) -> list[str]:
        if self._units is None:
            output = self.folder / "out-search"
            succeed("galvatron-opt", "--search", "--lower", self.program, "--ranks=1", "-o", output)
            self._units = Compiled(output).units
        return self._units

    def compile(self, name: str, layout: Layout) -> Compiled:
        return self.compile_plan(name, layout.plan(self.units, self.batch))

    def compile_plan(self, name: str, plan: dict) -> Compiled:
        if name not in self._compiled:
            file, output = self.folder / f"{name}.json", self.folder / f"out-{name}"
            file.write_text(json.dumps(plan))
            succeed("galvatron-opt", f"--plan={file}", "--lower", self.program, "-o", output)
            self._compiled[name] = Compiled(output)
        return self._compiled[name]


def load_module(path: Path):
    """A Python file as a module, wherever it lies."""
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def config_of(name: str, **changes) -> dict:
    return json.loads((MODELS / f"{name}.json").read_text()) | changes


# Four steps of AdamW, whose later losses tell the weights it made.
ADAMW = ("--steps", 4, "--lr", "3e-3", "--weight-decay", "0.1", "--clip-grad", "1", "--eps", "1e-6")


def train_adamw(compiled: Compiled, tokens: Path, folder: Path) -> Run:
    return train_with_gradients(compiled, tokens, folder, *ADAMW)


def train_with_gradients(compiled: Compiled, tokens: Path, folder: Path, *options) -> Run:
    return compiled.train(folder, "--data", tokens, "--dump-gradients", folder / "gradients", *options)


def first_gradients(run: Run, expected: Run) -> list[compare.Difference]:
    """Of each parameter, after the first step's backward."""
    [(_, found, wanted)] = compare.gradient_pairs(run.folder / "gradients", expected.folder / "gradients", 1)
    return compare.compare_gradients(compare.read_gradients(found)[0], *compare.read_gradients(wanted))


def columns(run: Run, expected: Run, **tolerances: float) -> list[compare.Difference]:
    """Of the logs, every step."""
    return [
        difference
        for column, tolerance in tolerances.items()
        for difference in compare.compare_columns(run.log, expected.log, column, tolerance)
    ]


def check(differences: list[compare.Difference]) -> float:
    """The largest error as a share of what is allowed."""
    failed = [f"{d.name}: {d.detail}" for d in differences if not d.passed]
    assert differences and not failed, "\n".join(failed[:8])
    return max(d.ratio for d in differences)


def check_equal(run: Run, expected: Run, loss: float = 1e-4, grad_norm: float = 1e-4):
    """Loss and gradient norm of every step, and each parameter's first gradient."""
    check(first_gradients(run, expected) + columns(run, expected, loss=loss, grad_norm=grad_norm))


def check_checkpoints(found: Path, wanted: Path):
    """Weights and moments are near, each element in units of its tensor's largest, and of one shape."""
    from safetensors.numpy import load_file

    for file in ("model.safetensors", "optimizer.safetensors"):
        tensors, expected = load_file(found / file), load_file(wanted / file)
        assert tensors.keys() == expected.keys()
        for name, value in expected.items():
            assert tensors[name].shape == value.shape, name
            assert abs(tensors[name] - value).max() <= 2e-3 * max(abs(value).max(), 1e-7), name
