"""A decoder whose attention adds a learned bias by relative position, in buckets that grow with the distance, as T5's."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

BUCKETS, FARTHEST = 8, 16


def bucket_of(distance: torch.Tensor) -> torch.Tensor:
    """Near positions have one each, farther ones share; one half of the buckets for each direction."""
    half, exact = BUCKETS // 2, BUCKETS // 4
    size = distance.abs()
    scale = (half - exact) / math.log(FARTHEST / exact)
    far = exact + (torch.log(size.float().clamp(min=1) / exact) * scale).to(torch.int64)
    far = torch.minimum(far, torch.full_like(far, half - 1))
    return (distance > 0).to(torch.int64) * half + torch.where(size < exact, size, far)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.q, self.k, self.v, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.bias = nn.Embedding(BUCKETS, heads)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, seq, width = x.shape
        q, k, v = (
            projection(x).view(batch, seq, self.heads, width // self.heads).transpose(1, 2)
            for projection in (self.q, self.k, self.v)
        )
        position = torch.arange(seq)
        bias = self.bias(bucket_of(position[None, :] - position[:, None])).permute(2, 0, 1)[None]
        if self.fused:
            mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        else:
            scores = q @ k.transpose(-2, -1) / math.sqrt(width // self.heads) + bias
            mixed = torch.softmax(scores, dim=-1) @ v
        return x + self.out(mixed.transpose(1, 2).reshape(batch, seq, width))


class Decoder(nn.Module):
    """input_ids, labels: int64 [batch, seq] -> mean loss."""

    def __init__(self, vocabulary: int = 256, width: int = 32, heads: int = 4, blocks: int = 3, fused: bool = False):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(Attention(width, heads, fused) for _ in range(blocks))
        self.head = nn.Linear(width, vocabulary)

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        x = self.tokens(input_ids)
        for block in self.blocks:
            x = block(x)
        return functional.cross_entropy(self.head(x).flatten(0, 1), labels.flatten())
