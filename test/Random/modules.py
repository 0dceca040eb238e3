"""Random small Transformers-like modules, each a function of a seed.

Residual streams, skips between any layers, values that several layers read, that pass through, that are returned
twice or that nobody reads, shared and nested layers, gates, parallel branches, several embeddings, tied heads, odd
sizes and extents of one. `GROUPS` names features that are on only when asked for: those that the compiler refuses.
"""

from __future__ import annotations

import dataclasses

import torch
from draw import Draw
from parts import MIXERS, norm
from torch import nn
from torch.nn import functional

GROUPS = ("frozen", "detach", "losses")


@dataclasses.dataclass(frozen=True)
class Sizes:
    vocabulary: int
    width: int
    batch: int
    seq: int


class Block(nn.Module):
    """One layer: x and perhaps another value to x, by one or two branches."""

    def __init__(self, draw: Draw, sizes: Sizes, kind: str, groups: frozenset[str]):
        super().__init__()
        width = sizes.width
        self.before, self.after = norm(draw.at("before"), width), norm(draw.at("after"), width)
        self.mixer = MIXERS[kind](draw.at(kind), width, sizes.seq)
        self.other = None
        if draw.has("parallel", 0.2):
            second = draw.pick("parallel_kind", list(MIXERS))
            self.other = MIXERS[second](draw.at("parallel"), width, sizes.seq)
        self.residual = draw.pick("residual", ["add", "none", "scaled", "gate", "highway"])
        self.scalar = nn.Parameter(torch.tensor(0.5)) if self.residual == "scaled" else None
        self.gate = nn.Linear(width, width) if self.residual in ("gate", "highway") else None
        self.takes = draw.pick("takes", ["sum", "product", "cat", "norm"])
        self.join = nn.Linear(2 * width, width) if self.takes == "cat" else None
        self.returns = draw.pick("returns", ["one", "twice", "tuple"])
        self.stops = "detach" in groups and draw.has("stop", 0.2)

    def forward(self, x, extra=None):
        if extra is not None:
            x = self.taken(x, extra)
        y = self.mixer(self.before(x))
        if self.other is not None:
            y = y + self.other(x)
        if self.stops:
            y = y.detach() * 0.5 + y * x.detach()
        y = self.after(y)
        if self.residual == "add":
            y = x + y
        elif self.residual == "scaled":
            y = x + self.scalar * y
        elif self.residual == "gate":
            y = x + torch.sigmoid(self.gate(x)) * y
        elif self.residual == "highway":
            share = torch.sigmoid(self.gate(x))
            y = share * y + (1 - share) * x
        return {"one": y, "twice": (y, y), "tuple": (y, x)}[self.returns]

    def taken(self, x, extra):
        if self.takes == "cat":
            return self.join(torch.cat([x, extra], dim=-1))
        if self.takes == "product":
            return x * torch.tanh(extra)
        if self.takes == "norm":
            return x + functional.layer_norm(extra, extra.shape[-1:])
        return x + extra


class Embeddings(nn.Module):
    """Words, and perhaps positions, a second table and a norm."""

    def __init__(self, draw: Draw, sizes: Sizes):
        super().__init__()
        width = draw.pick("table_width", [sizes.width, 5, 2 * sizes.width])
        self.words = nn.Embedding(sizes.vocabulary, width)
        self.widen = nn.Linear(width, sizes.width, bias=False) if width != sizes.width else None
        self.positions = nn.Embedding(sizes.seq, sizes.width) if draw.has("positions", 0.3) else None
        self.second = nn.Embedding(sizes.vocabulary, sizes.width) if draw.has("second_table", 0.3) else None
        self.multiplied = draw.has("multiplied", 0.2)
        self.norm = norm(draw.at("embedding"), sizes.width)
        self.size = sizes.width**0.5

    def forward(self, ids):
        x = self.words(ids)
        if self.widen is not None:
            x = self.widen(x)
        if self.positions is not None:
            x = x + self.positions(torch.arange(ids.shape[1]))
        if self.second is not None:
            x = x * torch.sigmoid(self.second(ids)) if self.multiplied else x + self.second(ids)
        elif self.multiplied:
            x = x * self.size
        return self.norm(x)


class RandomModule(nn.Module):
    """`forward(input_ids, labels)` returns a loss."""

    def __init__(self, draw: Draw, groups: frozenset[str] = frozenset()):
        super().__init__()
        self.sizes = sizes = Sizes(
            vocabulary=draw.pick("vocabulary", [16, 17, 31, 64]),
            width=draw.pick("width", [8, 12, 6, 16, 4, 1]),
            batch=draw.pick("batch", [4, 8, 6, 2, 1]),
            seq=draw.pick("seq", [8, 5, 16, 3, 2, 1]),
        )
        self.draw, self.groups = draw, groups
        count = draw.pick("layers", [2, 3, 4, 5, 1])
        kinds = list(MIXERS)
        alike = draw.pick("kind", kinds)
        mixed = draw.has("mixed_kinds", 0.6)
        self.embed = Embeddings(draw.at("embed"), sizes)
        blocks = []
        for i in range(count):
            part = draw.at(f"block{i}" if mixed else "block")
            blocks.append(Block(part, sizes, part.pick("kind", kinds) if mixed else alike, groups))
        self.order = list(range(count))
        if draw.has("shared", 0.2):
            self.order += [draw.pick("again", self.order)]
        container = draw.pick("container", ["list", "attributes", "nested"])
        self.blocks = self.contain(container, blocks)
        # How each step of the stream gets its second input: none, the embeddings, or an earlier output.
        self.values = nn.Embedding(sizes.vocabulary, sizes.width) if draw.has("value_table", 0.25) else None
        self.extras = [self.source(draw.at(f"step{i}"), i) for i in range(len(self.order))]
        self.unread = draw.has("unread", 0.1)
        self.norm = norm(draw.at("final"), sizes.width)
        self.head = nn.Linear(sizes.width, sizes.vocabulary, bias=draw.has("head_bias", 0.4))
        if self.embed.widen is None and draw.has("tied", 0.3):
            self.head.weight = self.embed.words.weight
        self.softcap = draw.has("softcap", 0.1)
        self.loss = draw.pick("loss", ["slices", "same", *(LOSSES if "losses" in groups else ())])
        if "frozen" in groups:
            self.freeze(draw.at("frozen"))

    def contain(self, container: str, blocks: list[nn.Module]):
        if container == "attributes":
            for i, block in enumerate(blocks):
                setattr(self, f"layer_{'abcdefgh'[i]}", block)
            return tuple(blocks)
        if container == "nested":
            self.groups_of = nn.ModuleList(nn.ModuleList(blocks[i : i + 2]) for i in range(0, len(blocks), 2))
            return [block for group in self.groups_of for block in group]
        return nn.ModuleList(blocks)

    @staticmethod
    def source(draw: Draw, step: int) -> object:
        """`None`, "values", "embedded" or the number of an earlier output."""
        if draw.has("value", 0.25):
            return "values"
        if step and draw.has("skip", 0.25):
            return draw.pick("from", ["embedded", *range(step)])
        return None

    def freeze(self, draw: Draw):
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(not draw.has(name, 0.25))
        if not any(parameter.requires_grad for parameter in self.parameters()):
            self.head.weight.requires_grad_(True)

    def forward(self, input_ids, labels):
        x = embedded = self.embed(input_ids)
        values = self.values(input_ids) if self.values is not None else embedded
        outputs = []
        for i, number in enumerate(self.order):
            source = self.extras[i]
            extra = outputs[source] if isinstance(source, int) else {"values": values, "embedded": embedded}.get(source)
            result = self.blocks[number](x, extra)
            if isinstance(result, tuple):
                x, passed = result
                outputs.append(passed)
            else:
                x = result
                outputs.append(x)
        if self.unread:
            self.blocks[0](x)
        logits = self.head(self.norm(x))
        if self.softcap:
            logits = 5 * torch.tanh(logits / 5)
        return self.compute_loss(logits, labels, outputs)

    def compute_loss(self, logits, labels, outputs):
        vocabulary = logits.shape[-1]
        if self.loss == "slices" and self.sizes.seq > 1:
            return functional.cross_entropy(logits[:, :-1].reshape(-1, vocabulary), labels[:, 1:].reshape(-1))
        if self.loss in ("same", "slices"):
            return functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return LOSSES[self.loss](self, logits, labels, outputs)


def shifted(labels, ignored: int):
    return functional.pad(labels[:, 1:], (0, 1), value=ignored).flatten()


def masked(labels):
    return labels.masked_fill(labels % 3 == 0, -100).flatten()


LOSSES = {
    "gathered": lambda m, z, y, _: -torch.log_softmax(z, -1).gather(-1, y.unsqueeze(-1)).mean(),
    "pad": lambda m, z, y, _: functional.cross_entropy(z.flatten(0, 1), shifted(y, -100)),
    "masked": lambda m, z, y, _: functional.cross_entropy(z.flatten(0, 1), masked(y)),
    "ignored": lambda m, z, y, _: functional.cross_entropy(z.flatten(0, 1), y.flatten(), ignore_index=3),
    "smoothed": lambda m, z, y, _: functional.cross_entropy(z.flatten(0, 1), y.flatten(), label_smoothing=0.1),
    "sum": lambda m, z, y, _: functional.cross_entropy(z.flatten(0, 1), y.flatten(), reduction="sum") / y.numel(),
    "none": lambda m, z, y, _: functional.cross_entropy(z.flatten(0, 1), y.flatten(), reduction="none").mean(),
    "z": lambda m, z, y, _: functional.cross_entropy(z.flatten(0, 1), shifted(y, -100))
    + 1e-2 * z.logsumexp(-1).pow(2).mean(),
    "decay": lambda m, z, y, _: functional.cross_entropy(z.flatten(0, 1), y.flatten())
    + 0.1 * m.head.weight.pow(2).mean(),
    "activity": lambda m, z, y, o: functional.cross_entropy(z.flatten(0, 1), y.flatten())
    + 0.1 * sum(x.pow(2).mean() for x in o),
    "deep": lambda m, z, y, o: functional.cross_entropy(z.flatten(0, 1), shifted(y, -100))
    + 0.3 * sum(functional.cross_entropy(m.head(m.norm(x)).flatten(0, 1), y.flatten()) for x in o),
}
