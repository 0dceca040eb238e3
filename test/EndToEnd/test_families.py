"""Decoder families that no pass knows by name: gradients and losses equal PyTorch's under a plan with every dimension."""

from __future__ import annotations

import importlib.util
import json

import numpy
import pytest
from harness import MODELS, Compiled, Layout, Model, config_of, succeed, targets

from galvatron import compare

# Dropout off: PyTorch draws other bits.
FAMILIES = {
    "bloom": {},
    "cohere": {},
    "falcon": {},
    "falcon_alibi": {},
    "gemma2": {},
    "gpt_neox": {},
    "llama3_rope": {},
    "mistral": {},
    "olmo2": {},
    "opt": {"dropout": 0.0, "attention_dropout": 0.0},
    "phi": {},
    "qwen2": {},
    "qwen3": {},
    "stablelm": {},
}


OPTIONS = ("--optimizer", "sgd", "--lr", "0.1", "--steps", 4)


def layout_of(model) -> Layout:
    count = len(model.units)
    stages, recompute = [int(k >= count // 2) for k in range(count)], [k == 1 for k in range(count)]
    return Layout(ranks=4, tp=2, stages=stages, micro_batches=4, recompute=recompute)


def check_equals_pytorch(model, tokens, pytorch):
    compiled, options = model.compile("tp2-pp2", layout_of(model)), OPTIONS
    run = compiled.train(
        model.folder / "run", "--data", tokens, "--dump-gradients", model.folder / "run" / "gradients", *options
    )
    expected = pytorch(model, model.folder / "pytorch", *options)
    for _, actual, wanted in compare.gradient_pairs(run.folder / "gradients", expected.folder / "gradients", 1):
        wanted, ties = compare.read_gradients(wanted)
        differences = compare.compare_gradients(compare.read_gradients(actual)[0], wanted, ties)
        assert not [f"{d.name}: {d.detail}" for d in differences if not d.passed]
    for column, tolerance in (("loss", 1e-4), ("grad_norm", 1e-5)):
        differences = compare.compare_columns(run.log, expected.log, column, tolerance)
        assert not [f"{d.name}: {d.detail}" for d in differences if not d.passed]


@pytest.mark.parametrize("family", FAMILIES)
def test_family_equals_pytorch(family, work, tokens, pytorch):
    model = Model(family, config_of(family, **FAMILIES[family]), work / f"family-{family}")
    check_equals_pytorch(model, tokens, pytorch)


@pytest.mark.parametrize("family", FAMILIES)
def test_family_in_bf16_and_for_gpus(family, work, tokens):
    """bf16 follows fp32 where programs run here; for GPUs both are compiled."""
    model = Model(family, config_of(family, **FAMILIES[family]), work / f"precision-{family}")
    plan, losses = model.folder / "plan.json", {}
    plan.write_text(json.dumps(layout_of(model).plan(model.units)))
    for precision in ("fp32", "bf16"):
        for target in targets():
            output = model.folder / f"{target}-{precision}"
            options = ("--lower", model.program, f"--target={target}", f"--precision={precision}", "-o", output)
            succeed("galvatron-opt", f"--plan={plan}", *options)
        run = Compiled(model.folder / f"cpu-{precision}").train(model.folder / precision, "--data", tokens, *OPTIONS)
        losses[precision] = numpy.array(run.column("loss"))
    numpy.testing.assert_allclose(losses["bf16"], losses["fp32"], rtol=1e-2)


def test_functions_for_gpus(work):
    """Every function that can be imported; LLVM has no instruction of a GPU for some of them."""
    import torch
    from torch import nn

    def rounded(x):
        return torch.atan2(x, x.round() + 0.1) + torch.atan(x.trunc())

    class Functions(nn.Module):
        def forward(self, x):
            x = torch.exp(-x.abs()) + torch.log(x.abs() + 1) + torch.sqrt(x * x + 1) + torch.rsqrt(x * x + 1)
            x = x + torch.sin(x) + torch.cos(x) + torch.erf(x) + torch.tanh(x) + torch.floor(x) * torch.ceil(x)
            return x + torch.pow(x.abs() + 1, 1.7) + torch.pow(x, 3) + torch.sigmoid(x) + torch.remainder(x, 0.7) + rounded(x)

    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.functions, self.head = nn.Embedding(256, 16), Functions(), nn.Linear(16, 256)

        def forward(self, input_ids, labels):
            logits = self.head(self.functions(self.table(input_ids)))
            return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())

    model = Model("functions", Root(), work / "functions")
    for target in targets():
        for precision in ("fp32", "bf16"):
            options = ("--lower", model.program, f"--target={target}", f"--precision={precision}")
            succeed("galvatron-opt", "--search", *options, "-o", model.folder / f"{target}-{precision}")


@pytest.mark.parametrize("fused", (False, True))
def test_learned_attention_bias_equals_pytorch(fused, work, tokens, pytorch):
    """A bias that is a parameter has a gradient too, written out or as the operator's mask."""
    import torch

    specification = importlib.util.spec_from_file_location("relative_bias", MODELS / "relative_bias.py")
    written = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(written)
    torch.manual_seed(1)
    model = Model("relative_bias", written.Decoder(fused=fused), work / f"relative-bias-{fused}")
    check_equals_pytorch(model, tokens, pytorch)
