"""Decoder families that no pass knows by name: gradients and losses equal PyTorch's under a plan with every dimension."""

from __future__ import annotations

import numpy
import pytest
from harness import MODELS, Compiled, Model, check_equal, config_of, load_module, succeed, targets, train_with_gradients
from plans import layout_of

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


def check_equals_pytorch(model, tokens, pytorch):
    run = train_with_gradients(model.compile("tp2-pp2", layout_of(model)), tokens, model.folder / "run", *OPTIONS)
    check_equal(run, pytorch(model, model.folder / "pytorch", *OPTIONS), grad_norm=1e-5)


@pytest.fixture(scope="module")
def family_model(work):
    """The model of a family, made when first asked for."""
    made: dict[str, Model] = {}

    def get(family: str) -> Model:
        if family not in made:
            made[family] = Model(family, config_of(family, **FAMILIES[family]), work / f"family-{family}")
        return made[family]

    return get


@pytest.mark.parametrize("family", FAMILIES)
def test_family_equals_pytorch(family, family_model, tokens, pytorch):
    check_equals_pytorch(family_model(family), tokens, pytorch)


# ALiBi, one head of keys, windows and bounded logits, rotations of a part, norms of heads.
IN_CI = ("bloom", "falcon", "gemma2", "gpt_neox", "qwen3")


@pytest.mark.parametrize(
    "family", [family if family in IN_CI else pytest.param(family, marks=pytest.mark.wide) for family in FAMILIES]
)
def test_family_in_bf16_and_for_gpus(family, family_model, tokens):
    """bf16 follows fp32 where programs run here; for GPUs both are compiled."""
    model = family_model(family)
    fp32 = model.compile("tp2-pp2", layout_of(model))
    rounded = model.folder / "cpu-bf16"
    for target, precision in [("cpu", "bf16"), *((target, p) for target in targets()[1:] for p in ("fp32", "bf16"))]:
        options = ("--lower", model.program, f"--target={target}", f"--precision={precision}")
        succeed("galvatron-opt", f"--plan={fp32.folder / 'plan.json'}", *options, "-o", model.folder / f"{target}-{precision}")
    losses = [
        numpy.array(compiled.train(model.folder / f"losses-{number}", "--data", tokens, *OPTIONS).column("loss"))
        for number, compiled in enumerate((Compiled(rounded), fp32))
    ]
    numpy.testing.assert_allclose(losses[0], losses[1], rtol=1e-2)


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

    written = load_module(MODELS / "relative_bias.py")
    torch.manual_seed(1)
    model = Model("relative_bias", written.Decoder(fused=fused), work / f"relative-bias-{fused}")
    check_equals_pytorch(model, tokens, pytorch)
