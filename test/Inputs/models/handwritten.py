"""A decoder that follows no library: the test-suite's own module.

Learned positions, RMS norm written out, one qkv projection split by `chunk`, attention as products
and a softmax under a causal mask buffer (or as one operator), attention and MLP side by side in one
residual sum, and the loss of `logits[:, :-1]` against `labels[:, 1:]`.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional


class RootMeanSquareNorm(nn.Module):
    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + self.eps) * self.scale


class Attention(nn.Module):
    """[batch, seq, width] -> same; `fused` uses the one operator instead of products and softmax."""

    def __init__(self, width: int, heads: int, longest: int, fused: bool) -> None:
        super().__init__()
        self.heads = heads
        self.fused = fused
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        mask = torch.ones(longest, longest, dtype=torch.bool).tril()
        self.register_buffer("mask", mask[None, None], persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, seq, width = x.shape
        q, k, v = (
            part.view(batch, seq, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        if self.fused:
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(width // self.heads)
            scores = scores.masked_fill(~self.mask[:, :, :seq, :seq], float("-inf"))
            mixed = torch.matmul(torch.softmax(scores, dim=-1), v)
        return self.out(mixed.transpose(1, 2).reshape(batch, seq, width))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, longest: int, fused: bool) -> None:
        super().__init__()
        self.norm = RootMeanSquareNorm(width)
        self.attention = Attention(width, heads, longest, fused)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        return x + self.attention(y) + self.down(functional.gelu(self.up(y)))


class Decoder(nn.Module):
    """input_ids, labels: int64 [batch, seq <= longest] -> mean loss."""

    def __init__(
        self,
        vocabulary: int = 256,
        width: int = 64,
        heads: int = 4,
        blocks: int = 3,
        longest: int = 128,
        fused: bool = False,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.randn(longest, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads, longest, fused) for _ in range(blocks))
        self.norm = RootMeanSquareNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        x = self.tokens(input_ids) + self.positions[: input_ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))[:, :-1]
        targets = labels[:, 1:]
        return functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))
