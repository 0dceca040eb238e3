"""Gradients that stop, and a submodule in eval mode among others in training: five steps are PyTorch's own."""

from __future__ import annotations

import copy

import pytest
import torch
from harness import BATCH, SEQ, Layout, Model
from torch import nn
from torch.nn import functional

from galvatron import compare, reference, tracing

PLANS = {
    "one": Layout(),
    "dp2": Layout(ranks=2, micro_batches=2),
    "tp2-pp2": Layout(ranks=4, tp=2, stages=[0, 0, 1, 1, 1, 1], micro_batches=2),
}
OPTIONS = ("--steps", 5, "--optimizer", "sgd", "--lr", "0.5")


class Block(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.gate, self.down = nn.Linear(width, 32), nn.Linear(width, 32), nn.Linear(32, width)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        with torch.no_grad():
            gate = torch.sigmoid(self.gate(y))
        y = self.up(y) * gate + self.gate(y).data
        rounded = y + (functional.relu(y) - y).detach()  # straight through
        return x + self.drop(self.down(rounded))


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(256, 16)
        self.blocks = nn.ModuleList(Block() for _ in range(4))
        self.head = nn.Linear(16, 256)
        self.train()
        for block in self.blocks:
            block.drop.eval()

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        x = self.table(input_ids)
        for block in self.blocks:
            x = block(x)
        return functional.cross_entropy(self.head(x)[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


@pytest.fixture(scope="module")
def stopped(work, tokens):
    """The program, and the log of the module itself."""
    module = Blocks()
    model = Model("stopped", module, work / "stopped")
    log = work / "stopped" / "module.csv"
    words = ["unused", "--data", tokens, "--batch", BATCH, "--seq", SEQ, "--quiet", "--log", log, *OPTIONS]
    trained = copy.deepcopy(module)
    reference.train(trained, tracing.loss_function(trained), reference.parser().parse_args([str(w) for w in words]))
    return model, compare.read_log(log)


@pytest.mark.parametrize("plan", PLANS)
def test_equals_the_module(plan, stopped, tokens, tmp_path):
    model, expected = stopped
    run = model.compile(plan, PLANS[plan]).train(tmp_path, "--data", tokens, *OPTIONS)
    differences = compare.compare_columns(run.log, expected, "loss", 1e-5)
    differences += compare.compare_columns(run.log, expected, "grad_norm", 1e-4)
    assert differences and not [f"{d.name}: {d.detail}" for d in differences if not d.passed]
