"""A module of a few parameters with something in the middle that a test replaces."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

WORDS, WIDTH = 256, 16


class Small(nn.Module):
    """input_ids, labels: int64 [batch, seq] -> mean loss. `middle(self, x, input_ids)` gives the head's input."""

    def __init__(self, middle: Callable = lambda self, x, ids: x) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(WORDS, WIDTH)
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, WORDS)
        self.middle = middle

    def forward(self, input_ids, labels):
        x = self.middle(self, self.table(input_ids), input_ids)
        return functional.cross_entropy(self.head(x).flatten(0, 1), labels.flatten())


def tokens(batch: int = 2, seq: int = 16, seed: int = 3) -> torch.Tensor:
    return torch.randint(0, WORDS, (batch, seq), generator=torch.Generator().manual_seed(seed))


def losses(module: nn.Module, compute: Callable, steps: int = 5) -> list[float]:
    """Of SGD at rate 0.5 on one batch."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    result = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = compute(tokens(), tokens(seed=4))
        loss.backward()
        optimizer.step()
        result.append(float(loss.detach()))
    return result
