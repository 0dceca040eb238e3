"""What random modules are built of: norms, activations, mixers of positions and of channels."""

from __future__ import annotations

import math

import torch
from draw import Draw
from mixers import UNUSUAL
from torch import nn
from torch.nn import functional

ACTIVATIONS = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "squared_relu": lambda x: functional.relu(x) ** 2,
    "swish_1.7": lambda x: x * torch.sigmoid(1.702 * x),
    "softplus": lambda x: torch.log1p(torch.exp(x)),
    "sine": torch.sin,
    "clamp": lambda x: x.clamp(-0.5, 0.5),
    "absolute": torch.abs,
}


class WrittenRms(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class WrittenLayerNorm(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        centred = x - x.mean(-1, keepdim=True)
        return centred / torch.sqrt((centred * centred).mean(-1, keepdim=True) + 1e-5) * self.gain + self.shift


class UnitNorm(nn.Module):
    """A norm by the length of the row."""

    def forward(self, x):
        return x / torch.sqrt((x * x).sum(-1, keepdim=True) + 1e-3)


def norm(draw: Draw, width: int) -> nn.Module:
    made = {
        "none": nn.Identity,
        "layer": lambda: nn.LayerNorm(width),
        "layer_plain": lambda: nn.LayerNorm(width, elementwise_affine=False),
        "layer_no_bias": lambda: nn.LayerNorm(width, bias=False),
        "rms": lambda: nn.RMSNorm(width, eps=1e-6),
        "written_rms": lambda: WrittenRms(width),
        "written_layer": lambda: WrittenLayerNorm(width),
        "unit": UnitNorm,
    }
    # A row of one element has no gradient through a norm but what rounding leaves of it.
    return made[draw.pick("norm", list(made) if width > 1 else ["none"])]()


class Mlp(nn.Module):
    """Channels of one position: gated or not, any width inside."""

    def __init__(self, draw: Draw, width: int, seq: int):
        super().__init__()
        inner = draw.pick("inner", [2 * width, width, 3, 7, 4 * width, 1])
        self.gated = draw.has("gated", 0.4)
        self.activation = ACTIVATIONS[draw.pick("activation", list(ACTIVATIONS))]
        self.up = nn.Linear(width, inner, bias=not draw.has("no_up_bias", 0.4))
        self.gate = nn.Linear(width, inner, bias=draw.has("gate_bias", 0.4)) if self.gated else None
        self.fused = nn.Linear(width, 2 * inner) if self.gated and draw.has("fused", 0.3) else None
        if self.fused:
            self.up = self.gate = None
        self.down = nn.Linear(inner, width, bias=not draw.has("no_down_bias", 0.4))

    def forward(self, x):
        if self.fused:
            gate, up = self.fused(x).chunk(2, dim=-1)
            return self.down(self.activation(gate) * up)
        if self.gated:
            return self.down(self.activation(self.gate(x)) * self.up(x))
        return self.down(self.activation(self.up(x)))


def rotate_halves(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    cos, sin = cos.repeat(1, 2), sin.repeat(1, 2)
    return x * cos + torch.cat([-b, a], -1) * sin


def rotate_pairs(x, cos, sin):
    even, odd = x.reshape(*x.shape[:-1], -1, 2).unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(x.dim() - 1)


class Attention(nn.Module):
    """Softmax attention in several spellings, layouts and numbers of heads."""

    def __init__(self, draw: Draw, width: int, seq: int):
        super().__init__()
        self.heads = draw.pick("heads", [heads for heads in (2, 1, 4, 3) if width % heads == 0])
        self.size = width // self.heads
        self.groups = draw.pick("key_heads", [heads for heads in (self.heads, 1, 2) if self.heads % heads == 0])
        self.spelling = draw.pick("spelling", ["sdpa", "matmul", "einsum"])
        self.mask = draw.pick("mask", ["causal", "none", "window"])
        rotations = [None, rotate_halves, rotate_pairs] if self.size % 2 == 0 else [None]
        self.rotation = draw.pick("rotation", rotations)
        self.early = draw.has("rotate_before_transpose", 0.5)
        self.scaled_scores = draw.has("scaled_scores", 0.3)
        bias = draw.has("attention_bias", 0.5)
        key_width = self.groups * self.size
        self.fused = draw.has("fused_qkv", 0.3)
        if self.fused:
            self.qkv = nn.Linear(width, width + 2 * key_width, bias=bias)
        else:
            self.q, self.k = nn.Linear(width, width, bias=bias), nn.Linear(width, key_width, bias=bias)
            self.v = nn.Linear(width, key_width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)
        self.normed = nn.LayerNorm(self.size) if draw.has("qk_norm", 0.2) and self.size > 1 else None
        self.slope = nn.Parameter(torch.ones(self.heads)) if draw.has("learned_bias", 0.15) else None
        self.sizes = [width, key_width, key_width]

    def rotated(self, x, along: int):
        if self.rotation is None:
            return x
        length = x.shape[along]
        frequencies = 100.0 ** (-torch.arange(0, self.size, 2, dtype=x.dtype) / self.size)
        angles = torch.arange(length, dtype=x.dtype)[:, None] * frequencies
        if along == 1:
            angles = angles[:, None, :]
        if self.rotation is rotate_halves and along == 1:
            return rotate_halves(x.transpose(1, 2), angles[:, 0].cos(), angles[:, 0].sin()).transpose(1, 2)
        return self.rotation(x, angles.cos(), angles.sin())

    def hidden(self, length: int):
        query, key = torch.arange(length)[:, None], torch.arange(length)[None, :]
        return (key > query) | (key < query - 2) if self.mask == "window" else key > query

    def forward(self, x):
        batch, length, width = x.shape
        parts = self.qkv(x).split(self.sizes, dim=-1) if self.fused else (self.q(x), self.k(x), self.v(x))
        q, k, v = (part.view(batch, length, -1, self.size) for part in parts)
        if self.normed is not None:
            q, k = self.normed(q), self.normed(k)
        if self.early:
            q, k = self.rotated(q, 1), self.rotated(k, 1)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        if not self.early:
            q, k = self.rotated(q, 2), self.rotated(k, 2)
        k, v = (part.repeat_interleave(self.heads // self.groups, dim=1) for part in (k, v))
        return self.out(self.attend(q, k, v).transpose(1, 2).reshape(batch, length, width))

    def attend(self, q, k, v):
        length = q.shape[2]
        if self.spelling == "sdpa" and self.slope is None and self.mask != "window":
            return functional.scaled_dot_product_attention(q, k, v, is_causal=self.mask == "causal")
        scale = 1 / math.sqrt(self.size)
        if self.spelling == "einsum":
            scores = torch.einsum("bnsd,bntd->bnst", q, k) * scale
        elif self.scaled_scores:
            scores = (q * scale) @ k.transpose(-2, -1)
        else:
            scores = q @ k.transpose(-2, -1) / math.sqrt(self.size)
        if self.slope is not None:
            distance = torch.arange(length)[:, None] - torch.arange(length)[None, :]
            scores = scores - self.slope[:, None, None] * distance.abs()
        if self.mask != "none":
            scores = scores.masked_fill(self.hidden(length), -1e9 if self.scaled_scores else -math.inf)
        weights = torch.softmax(scores, dim=-1)
        return torch.einsum("bnst,bntd->bnsd", weights, v) if self.spelling == "einsum" else weights @ v


class Shift(nn.Module):
    """Mixes each position with the one before it."""

    def __init__(self, draw: Draw, width: int, seq: int):
        super().__init__()
        self.amount = nn.Parameter(torch.full((width,), 0.3))
        self.padded = draw.has("shift_by_pad", 0.5)
        self.project = nn.Linear(width, width, bias=draw.has("shift_bias", 0.5))

    def forward(self, x):
        if self.padded:
            before = functional.pad(x, (0, 0, 1, 0))[:, :-1]
        else:
            before = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1)
        return self.project(x + self.amount * (before - x))


class Identity(nn.Module):
    """Returns what it is given."""

    def __init__(self, draw: Draw, width: int, seq: int):
        super().__init__()

    def forward(self, x):
        return x


class Scale(nn.Module):
    """A gain for each channel, or one for all."""

    def __init__(self, draw: Draw, width: int, seq: int):
        super().__init__()
        self.gain = nn.Parameter(torch.full((draw.pick("gains", [width, 1]),), 0.7))

    def forward(self, x):
        return x * self.gain


class Single(nn.Module):
    """One matrix."""

    def __init__(self, draw: Draw, width: int, seq: int):
        super().__init__()
        self.matrix = nn.Linear(width, width, bias=draw.has("bias", 0.5))

    def forward(self, x):
        return self.matrix(x)


MIXERS = {"mlp": Mlp, "attention": Attention, "shift": Shift, "single": Single, "scale": Scale, "identity": Identity}
MIXERS |= UNUSUAL
