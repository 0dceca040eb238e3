"""Encoders, encoder-decoders, images, sound and losses of several kinds: named inputs from a folder, equal to PyTorch."""

from __future__ import annotations

import json
import sys

import numpy
import pytest
import torch
from harness import Compiled, Layout, Run, call, check, columns, first_gradients, succeed
from named_models import BATCH, SAMPLES, SEQ, ZOO
from safetensors.numpy import load_file, save_file

from galvatron import compare, export

OPTIONS = ("--steps", 4, "--lr", "3e-3", "--weight-decay", "0.1", "--clip-grad", "1", "--eps", "1e-6")


class NamedModel:
    """A model of the zoo, exported and imported once, with its data and PyTorch's run of it."""

    def __init__(self, name: str, folder):
        self.name, self.folder, self.data = name, folder, folder / "data"
        self.data.mkdir(parents=True)
        torch.manual_seed(0)
        module, self.inputs = ZOO[name].build().train(), ZOO[name].data()
        for input_name, tensor in self.inputs.items():
            numpy.save(self.data / f"{input_name}.npy", tensor.numpy())
        self.archive, self.program = folder / "model.pt", folder / "model.mlir"
        export.save(module, {n: t[:BATCH] for n, t in self.inputs.items()}, self.archive)
        succeed("galvatron-import", self.archive, "-o", self.program)
        self._expected: Run | None = None

    @property
    def expected(self) -> Run:
        if self._expected is None:
            run = self.folder / "expected"
            run.mkdir()
            seq = self.inputs["input_ids"].shape[1] if "input_ids" in self.inputs else 1
            sizes = ("--batch", BATCH, "--seq", seq, "--log", run / "log.csv", "--dump-gradients", run / "gradients")
            succeed(sys.executable, "-m", "galvatron.reference", self.archive, "--data", self.data, *sizes, *OPTIONS)
            self._expected = Run(run, "")
        return self._expected

    def compile(self, name: str, *options) -> Compiled:
        succeed("galvatron-opt", "--lower", self.program, *options, "-o", self.folder / f"out-{name}")
        return Compiled(self.folder / f"out-{name}")

    def compile_layout(self, name: str, layout: Layout) -> Compiled:
        plan = self.folder / f"{name}.json"
        plan.write_text(json.dumps(layout.plan(self.units, BATCH)))
        return self.compile(name, f"--plan={plan}")

    @property
    def units(self) -> list[str]:
        if not (self.folder / "out-units").exists():
            self.compile("units", "--search", "--ranks=1")
        return Compiled(self.folder / "out-units").units


@pytest.fixture(scope="module")
def models(work):
    made: dict[str, NamedModel] = {}

    def model(name: str) -> NamedModel:
        if name not in made:
            made[name] = NamedModel(name, work / f"named-{name}")
        return made[name]

    return model


# Gradients that are 0 in exact arithmetic, and rounding in any other: a softmax over positions does not see what shifts
# all of them.
ZERO_GRADIENTS = {"bert-answers": ("qa_outputs.bias", "bert.encoder.layer.1.output.LayerNorm.bias")}


def gradients(model: NamedModel, run: Run) -> list[compare.Difference]:
    differences = first_gradients(run, model.expected)
    zero = ZERO_GRADIENTS.get(model.name, ())
    return [difference for difference in differences if not any(name in difference.name for name in zero)]


def halves(count: int) -> list[int]:
    return [int(unit >= count / 2) for unit in range(count)]


LAYOUTS = {
    "one": lambda units: Layout(micro_batches=4),
    "dp2": lambda units: Layout(ranks=2, micro_batches=2),
    "tp2": lambda units: Layout(ranks=2, tp=2),
    "pp2": lambda units: Layout(ranks=2, stages=halves(units), micro_batches=4),
    "dp2-tp2-pp2": lambda units: Layout(ranks=8, tp=2, stages=halves(units), micro_batches=2),
    "zero3": lambda units: Layout(ranks=2, zero=3, micro_batches=2),
    "mixed": lambda units: Layout(
        ranks=4, tp=[1 + unit % 2 for unit in range(units)], recompute=[unit % 2 == 0 for unit in range(units)],
        stages=halves(units), micro_batches=2,
    ),
}  # fmt: skip
# One plan a model, each plan somewhere; the others with --wide.
CHOSEN = {
    "bert-masked": "dp2", "bert-classes": "tp2", "bert-regression": "pp2", "bert-answers": "zero3", "roberta-tokens": "one",
    "llama-left": "pp2", "llama-left-eager": "dp2", "t5": "mixed", "bart": "pp2", "vit": "dp2-tp2-pp2", "swin": "tp2",
    "whisper": "mixed", "multilabel": "dp2", "sound": "dp2",
}  # fmt: skip


def cases():
    for name in ZOO:
        for layout in LAYOUTS:
            marks = [] if CHOSEN[name] == layout else [pytest.mark.wide]
            yield pytest.param(name, layout, marks=marks, id=f"{name}-{layout}")


@pytest.mark.parametrize("name,layout", cases())
def test_equals_pytorch(name, layout, models, tmp_path):
    """Losses, gradient norms and each gradient, in 4 steps of AdamW."""
    model = models(name)
    compiled = model.compile_layout(layout, LAYOUTS[layout](len(model.units)))
    run = compiled.train(tmp_path, "--data", model.data, "--dump-gradients", tmp_path / "gradients", *OPTIONS)
    check(gradients(model, run) + columns(run, model.expected, loss=1e-4, grad_norm=1e-4))
