"""Modules whose layers are not a chain: values that several layers read, that cross stages, that pass through.

Loss and gradients equal PyTorch's on one rank, under dp 2 x 2 micro-batches and under pp 2 x tp 2.
"""

from __future__ import annotations

import pytest
import torch
from harness import Layout, Model, check, columns, train_with_gradients
from plans import layout_of
from torch import nn
from torch.nn import functional

from galvatron import compare

WIDTH = 32
OPTIONS = ("--optimizer", "sgd", "--lr", "0.1", "--steps", 4)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x):
        return x + self.down(functional.gelu(self.up(x)))


class Two(Block):
    """Reads two values, returns one of them again."""

    def forward(self, x, other):
        return super().forward(x * torch.sigmoid(other)), other


class Same(nn.Module):
    def forward(self, x):
        return x


class Wiring(nn.Module):
    """`wire` is how the stream runs through the blocks."""

    def __init__(self, wire, blocks=4, kind=Block):
        super().__init__()
        self.e, self.v = nn.Embedding(256, WIDTH), nn.Embedding(256, WIDTH)
        self.b = nn.ModuleList(kind() for _ in range(blocks))
        self.h = nn.Linear(WIDTH, 256, bias=False)
        self.wire = wire

    def forward(self, input_ids, labels):
        z = self.h(self.wire(self, self.e(input_ids), self.v(input_ids)))
        return functional.cross_entropy(z[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def value_read_by_all(module, x, v):
    for block in module.b:
        x = block(x + v)
    return x


def skips(module, x, v):
    first = module.b[0](x)
    second = module.b[1](first)
    third = module.b[2](second + first)
    return module.b[3](third + x)


def second_value_passes_through(module, x, v):
    for block in module.b:
        x, v = block(x, v)
    return x + v


def same_value_twice(module, x, v):
    for block in module.b:
        x, _ = block(x, x)
    return x


def unread(module, x, v):
    module.b[1](x)
    return module.b[0](x + 0 * v) + module.b[2](x)


def parallel(module, x, v):
    return sum(block(x) for block in module.b) + v


def unchanged(module, x, v):
    return module.b[2](module.b[1](module.b[0](x)) + v)


def pairs(x):
    """Rotary pairs without complex numbers, x [B, S, heads, D]."""
    angles = torch.arange(x.shape[1])[:, None] * 100.0 ** (-torch.arange(0, x.shape[-1], 2) / x.shape[-1])
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    even, odd = x.reshape(*x.shape[:-1], -1, 2).unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(3)


class Rotary(Block):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x):
        q, k, v = (part(x).view(*x.shape[:2], 4, WIDTH // 4) for part in (self.q, self.k, self.v))
        q, k, v = (part.transpose(1, 2) for part in (pairs(q), pairs(k), v))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return super().forward(x + y.transpose(1, 2).flatten(2))


class Cross(Block):
    """A decoder's layer: attends to what the encoder made."""

    def __init__(self):
        super().__init__()
        # A bias of keys changes no softmax: its gradient would be rounding alone.
        self.q, self.v = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.k = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x, memory):
        q, k, v = (
            part(y).view(*y.shape[:2], 4, WIDTH // 4).transpose(1, 2)
            for part, y in ((self.q, x), (self.k, memory), (self.v, memory))
        )
        return super().forward(x + functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class EncoderDecoder(nn.Module):
    def __init__(self, layers=3):
        super().__init__()
        self.e, self.d = nn.Embedding(256, WIDTH), nn.Embedding(256, WIDTH)
        self.encoder = nn.ModuleList(Block() for _ in range(layers))
        self.decoder = nn.ModuleList(Cross() for _ in range(layers))
        self.h = nn.Linear(WIDTH, 256, bias=False)

    def forward(self, input_ids, labels):
        memory = self.e(input_ids)
        for layer in self.encoder:
            memory = layer(memory)
        x = self.d(input_ids)
        for layer in self.decoder:
            x = layer(x, memory)
        z = self.h(x)
        return functional.cross_entropy(z[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


MODULES = {
    "encoder_decoder": EncoderDecoder,
    "value_read_by_all": lambda: Wiring(value_read_by_all),
    "skips": lambda: Wiring(skips),
    "second_value_passes_through": lambda: Wiring(second_value_passes_through, kind=Two),
    "same_value_twice": lambda: Wiring(same_value_twice, kind=Two),
    "unread": lambda: Wiring(unread, blocks=3),
    "parallel": lambda: Wiring(parallel, blocks=3),
    "unchanged": lambda: Wiring(unchanged, blocks=3),
    "rotary_pairs": lambda: Wiring(value_read_by_all, blocks=2, kind=Rotary),
}
LAYOUTS = {
    "one": lambda model: Layout(),
    "dp2": lambda model: Layout(ranks=2, micro_batches=2),
    "tp2-pp2": layout_of,
}


def parts_of(pipeline, virtual, **options):
    """Stages that hold several parts: what an early part makes is read in later ones, on its stage and on others."""

    def layout(model):
        parts, count = pipeline * virtual, len(model.units)
        stages = [k * parts // count % pipeline for k in range(count)]
        ranks = pipeline * options.get("tp", 1)
        return Layout(ranks, stages=stages, schedule="interleaved", virtual_stages=virtual, micro_batches=4, **options)

    return layout


PARTS = {"pp2-v2": parts_of(2, 2), "tp2-pp2-v2": parts_of(2, 2, tp=2)}


@pytest.mark.parametrize("name", MODULES)
def test_equals_pytorch(name, work, tokens, pytorch):
    expect_equal(name, LAYOUTS, work, tokens, pytorch)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "encoder_decoder" else pytest.mark.wide) for name in MODULES]
)
def test_parts_equal_pytorch(name, work, tokens, pytorch):
    expect_equal(name, PARTS, work, tokens, pytorch)


def expect_equal(name, layouts, work, tokens, pytorch):
    torch.manual_seed(0)
    module = MODULES[name]()
    if name == "unchanged":
        module.b[1] = Same()
    model = Model(name, module, work / f"{name}-{'-'.join(layouts)}")
    expected = pytorch(model, model.folder / "pytorch", *OPTIONS)
    for layout in layouts:
        compiled = model.compile(layout, layouts[layout](model))
        folder = model.folder / f"run-{layout}"
        run = train_with_gradients(compiled, tokens, folder, *OPTIONS)
        [(_, found, wanted)] = compare.gradient_pairs(folder / "gradients", expected.folder / "gradients", 1)
        wanted, ties = compare.read_gradients(wanted)
        found = compare.read_gradients(found)[0]
        # Nothing flows into these, and what is not read is not in the program.
        wanted = {parameter: g for parameter, g in wanted.items() if parameter in found or g.any()}
        check(compare.compare_gradients(found, wanted, ties) + columns(run, expected, loss=1e-5))
