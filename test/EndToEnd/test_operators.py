"""Single operators in stage binaries: the first step's loss and gradients under three plans, against PyTorch."""

from __future__ import annotations

import sys

import pytest
import torch
from harness import MODELS, VOCABULARY, Layout, Model, check, columns, first_gradients, train_with_gradients

sys.path.insert(0, str(MODELS))

import operators  # noqa: E402  (the folder's path comes first)

PLANS = {
    "one": Layout(),
    "dp2": Layout(ranks=2, micro_batches=2),
    "tp2-pp2": Layout(ranks=4, tp=2, stages=[0, 0, 1, 1], micro_batches=2),
}
OPTIONS = ("--optimizer", "sgd", "--lr", "0.01", "--steps", "1")


@pytest.fixture(scope="module")
def blocks() -> list[list[str]]:
    """A part of every kind, on either stage."""
    kinds = operators.EXPRESSIONS.values()
    texts = [text for kind in kinds for text in kind[::6] if operators.keeps_samples_apart(text)]
    return [texts[::2], texts[1::2]]


@pytest.fixture(scope="module")
def model(blocks, work) -> Model:
    torch.manual_seed(3)
    return Model("operators", operators.Operators(blocks, VOCABULARY), work / "operators", batch=4)


@pytest.fixture(scope="module")
def expected(model, pytorch):
    return pytorch(model, model.folder / "pytorch", *OPTIONS)


@pytest.mark.parametrize("plan", ("one", pytest.param("dp2", marks=pytest.mark.wide), "tp2-pp2"))
def test_equals_pytorch(plan, model, blocks, expected, tokens):
    folder = model.folder / f"run-{plan}"
    compiled = model.compile(plan, PLANS[plan])
    run = train_with_gradients(compiled, tokens, folder, *OPTIONS)
    check(columns(run, expected, loss=1e-5))
    failed = [d for d in first_gradients(run, expected) if not d.passed]
    assert not failed, "\n".join(f"{operators.text_of(d.name, blocks)}: {d.name} {d.detail}" for d in failed)
