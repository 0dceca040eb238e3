"""Decoder families that no pass knows by name: gradients and losses equal PyTorch's under a plan with every dimension."""

from __future__ import annotations

import importlib.util

import pytest
from harness import MODELS, Layout, Model, config_of

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


def check_equals_pytorch(model, tokens, pytorch):
    count = len(model.units)
    layout = Layout(ranks=4, tp=2, stages=[int(k >= count // 2) for k in range(count)], micro_batches=4)
    layout.recompute = [k == 1 for k in range(count)]
    compiled = model.compile("tp2-pp2", layout)
    options = ("--optimizer", "sgd", "--lr", "0.1", "--steps", 4)
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
