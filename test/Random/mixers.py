"""Less usual layers: sums over positions and channels, products with pieces of parameters, choices by data."""

from __future__ import annotations

import torch
from draw import Draw
from torch import nn
from torch.nn import functional


class Pool(nn.Module):
    """What all positions have in common, added to each."""

    def __init__(self, draw: Draw, width: int, seq: int):
        super().__init__()
        self.how = draw.pick("pool", ["mean", "first", "last", "running", "max"])
        self.project = nn.Linear(width, width)

    def forward(self, x):
        length = x.shape[1]
        if self.how == "first":
            pooled = x[:, :1]
        elif self.how == "last":
            pooled = x[:, -1].unsqueeze(1)
        elif self.how == "running":
            before = torch.ones(length, length).tril() / torch.arange(1, length + 1)[:, None]
            pooled = before.to(x.dtype) @ x
        elif self.how == "max":
            pooled = x.amax(dim=1, keepdim=True)
        else:
            pooled = x.mean(dim=1, keepdim=True)
        return torch.tanh(self.project(pooled)).expand_as(x)


class Mixture(nn.Module):
    """Several matrices, weighted by data."""

    def __init__(self, draw: Draw, width: int, seq: int):
        super().__init__()
        count = draw.pick("experts", [2, 3, 1])
        self.router = nn.Linear(width, count, bias=False)
        self.stacked = draw.has("stacked", 0.5)
        self.experts = nn.ModuleList(nn.Linear(width, width) for _ in range(count)) if not self.stacked else None
        self.matrices = nn.Parameter(torch.randn(count, width, width) / width**0.5) if self.stacked else None

    def forward(self, x):
        shares = torch.softmax(self.router(x), dim=-1)
        if self.stacked:
            return (torch.einsum("bsi,eio->bseo", x, self.matrices) * shares.unsqueeze(-1)).sum(dim=-2)
        return sum(shares[..., i : i + 1] * expert(x) for i, expert in enumerate(self.experts))


class LowRank(nn.Module):
    """Pieces, products and transposes of parameters."""

    def __init__(self, draw: Draw, width: int, seq: int):
        super().__init__()
        rank = draw.pick("rank", [2, 1, 3])
        self.a, self.b = nn.Parameter(torch.randn(width, rank)), nn.Parameter(torch.randn(rank, width) / rank)
        self.table = nn.Parameter(torch.randn(2 * width, width) / width**0.5)
        self.how = draw.pick("form", ["product", "chain", "slice", "transposed", "sum"])

    def forward(self, x):
        width = x.shape[-1]
        if self.how == "product":
            return functional.linear(x, self.a @ self.b)
        if self.how == "slice":
            return functional.linear(x, self.table[:width]) + functional.linear(x, self.table[width:]).tanh()
        if self.how == "transposed":
            return (x @ self.table.t())[..., ::2] if width % 2 == 0 else (x @ self.table.t())[..., :width]
        if self.how == "sum":
            return x @ (self.table[:width] + self.a @ self.b)
        return (x @ self.a) @ self.b


class Positional(nn.Module):
    """Parameters for each position: a matrix over positions, a vector for each, or one of the first few."""

    def __init__(self, draw: Draw, width: int, seq: int):
        super().__init__()
        self.how = draw.pick("positional", ["matrix", "vector", "gain", "causal"])
        square = self.how in ("matrix", "causal")
        self.weight = nn.Parameter(torch.randn(seq, seq if square else width) / seq**0.5)

    def forward(self, x):
        if self.how == "vector":
            return x + self.weight
        if self.how == "gain":
            return x * self.weight[: x.shape[1]]
        weight = self.weight.tril() if self.how == "causal" else self.weight
        return torch.einsum("st,btw->bsw", weight, x)


class Grouped(nn.Module):
    """Channels as groups: each reduced, normed or moved."""

    def __init__(self, draw: Draw, width: int, seq: int):
        super().__init__()
        self.count = draw.pick("groups", [count for count in (2, 3, 1, 4) if width % count == 0])
        self.how = draw.pick("grouped", ["mean", "norm", "shuffle", "softmax", "max"])
        self.project = nn.Linear(width, width)

    def forward(self, x):
        groups = self.project(x).unflatten(-1, (self.count, -1))
        if self.how == "mean":
            groups = groups - groups.mean(dim=-2, keepdim=True)
        elif self.how == "norm":
            groups = functional.rms_norm(groups, groups.shape[-1:], eps=1e-2)
        elif self.how == "softmax":
            groups = torch.softmax(groups, dim=-2)
        elif self.how == "max":
            groups = groups - groups.amax(dim=-1, keepdim=True)
        else:
            groups = groups.transpose(-1, -2)
        return groups.reshape(x.shape)


class Choice(nn.Module):
    """Elementwise choices and bounds."""

    def __init__(self, draw: Draw, width: int, seq: int):
        super().__init__()
        self.how = draw.pick("choice", ["where", "maximum", "fill", "square_root", "exponential", "divide"])
        self.a, self.b = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        a, b = self.a(x), self.b(x)
        if self.how == "where":
            return torch.where(a > 0, a, 0.1 * b)
        if self.how == "maximum":
            return torch.maximum(a, b)
        if self.how == "fill":
            return a.masked_fill(b > 0.3, 0.5)
        if self.how == "square_root":
            return torch.sqrt(a * a + 0.1) - b
        if self.how == "exponential":
            return torch.exp(-a.abs()) * b
        return a / (1 + b * b)


class Window(nn.Module):
    """A convolution over the last three positions, written out."""

    def __init__(self, draw: Draw, width: int, seq: int):
        super().__init__()
        self.taps = nn.Parameter(torch.randn(3, width) * 0.5)
        self.rolled = draw.has("rolled", 0.3)

    def forward(self, x):
        length = x.shape[1]
        if self.rolled:
            return sum(self.taps[i] * torch.roll(x, i, dims=1) for i in range(3))
        padded = functional.pad(x, (0, 0, 2, 0))
        return sum(padded[:, i : i + length] * self.taps[i] for i in range(3))


UNUSUAL = {
    "pool": Pool,
    "mixture": Mixture,
    "low_rank": LowRank,
    "positional": Positional,
    "grouped": Grouped,
    "choice": Choice,
    "window": Window,
}
