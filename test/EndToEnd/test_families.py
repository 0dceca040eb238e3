"""Decoder families that no pass knows by name: gradients and losses equal PyTorch's under a plan with every dimension."""

from __future__ import annotations

import pytest
from harness import Layout, Model, config_of

from galvatron import compare

# Dropout off: PyTorch draws other bits.
FAMILIES = {
    "cohere": {},
    "falcon": {},
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


@pytest.mark.parametrize("family", FAMILIES)
def test_family_equals_pytorch(family, work, tokens, pytorch):
    model = Model(family, config_of(family, **FAMILIES[family]), work / f"family-{family}")
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
