"""Single operators as a stranger's module would use them, one expression of x [batch, seq, 8] a line.

Half of x's elements are multiples of 1/2, so that kinks and ties are met. `y` may stand for the half of x along its
last dimension that comes after, `m` for the module's own parameters. Results broadcast to x.
"""

from __future__ import annotations

import math
import re

import torch
from torch import nn
from torch.nn import functional as F

ACTIVATIONS = """
F.hardswish(x) | F.selu(x) | F.celu(x) | F.celu(x, 0.7) | F.relu6(x) | F.hardtanh(x) | F.hardtanh(x, -0.5, 2.0)
F.hardsigmoid(x) | F.elu(x) | F.elu(x, 0.5) | F.leaky_relu(x, 0.3) | F.relu(x) | F.gelu(x) | F.silu(x) | F.mish(x)
F.gelu(x, approximate="tanh") | F.softplus(x) | F.softplus(x, 2.0, 1.0) | F.threshold(x, 0.5, -1.0) | F.logsigmoid(x)
torch.sigmoid(x) | torch.tanh(x) | F.tanhshrink(x) | F.hardshrink(x) | F.softshrink(x, 1.0) | F.softsign(x)
F.softmin(x, -1) | F.softmax(x, -1) | F.softmax(x, 1) | F.log_softmax(x, -1) | F.log_softmax(x, 1) | F.relu(x) ** 2
x * torch.sigmoid(1.702 * x) | F.glu(x, -1).repeat(1, 1, 2) | F.glu(x, 1).repeat(1, 2, 1) | F.prelu(x, m.slope)
F.prelu(x.transpose(1, 2), m.v).transpose(1, 2) | F.rrelu(x, training=False) | x * (x > 0) | x * (x >= 0)
x.clamp(0, 20) | x.clamp(min=1e-12) | torch.maximum(x, torch.zeros_like(x))
"""

FUNCTIONS = """
torch.sign(x) * x | torch.sgn(x) + x | torch.round(x) + x | torch.round(x, decimals=1) + x | x.floor() * x
x.ceil() + x | x.trunc() * x | torch.fix(x) + x | x.frac() | torch.fmod(x, 0.7) | torch.fmod(x, y.abs() + 0.31)
torch.remainder(x, 0.7) | x % 0.7 | torch.tan(0.3 * x) | torch.atan(x) | torch.atan2(x, y + 0.1) | torch.sinh(0.3 * x)
torch.cosh(0.3 * x) | torch.atanh(0.1 * x) | torch.logaddexp(x, y) | torch.logaddexp2(x, y) | torch.hypot(x, y + 0.1)
torch.sin(x) | torch.cos(x) | torch.exp(0.3 * x) | torch.exp2(0.3 * x) | torch.expm1(0.3 * x) | torch.log(x.abs() + 1)
torch.log2(x.abs() + 1) | torch.log10(x.abs() + 1) | torch.log1p(x.abs()) | torch.erf(x) | torch.erfc(x)
(x.abs() + 1).sqrt() | (x.abs() + 1).rsqrt() | x.square() | (x.abs() + 1).reciprocal() | x.abs() | -x | +x | x**2
x**3 | x**4 | x**0 + x | x**7.0 | (x.abs() + 1) ** 2.5 | (x.abs() + 1) ** -1.5 | (x.abs() + 1).pow(-2) | 1.5**x
(x.abs() + 1) ** y | torch.logit(torch.sigmoid(x), eps=0.1) | torch.xlogy(x, y.abs() + 1) | torch.deg2rad(x)
0.01 * torch.rad2deg(x) | torch.nan_to_num(x) | torch.where(torch.isnan(x), x * 0, x)
torch.where(torch.isinf(x), x * 0, x) | torch.where(torch.isfinite(x), x, x * 0) | torch.lerp(x, y, 0.3)
torch.lerp(x, y, torch.sigmoid(x)) | torch.addcmul(x, y, x, value=0.5) | torch.addcdiv(x, y, x.abs() + 1, value=0.5)
torch.maximum(x, y) | torch.minimum(x, y) | torch.fmax(x, y) | torch.fmin(x, y) | torch.max(x, y) | torch.min(x, y)
x.clamp(-1, 1) | x.clamp_min(0) | x.clamp_max(1.0) | x.clip(-0.5, 0.5) | x.clamp(y, y + 0.5) | x.clamp(min=y)
torch.div(x, 0.7, rounding_mode="floor") + x | torch.div(x, 0.7, rounding_mode="trunc") + x | x / (y.abs() + 1)
1 - x | torch.add(x, y, alpha=0.3) | torch.sub(x, y, alpha=0.3) | torch.rsub(x, y, alpha=0.3)
torch.where(x > 0, x, 0.1 * y) | torch.where(x > 0, x, 0.5) | torch.where(x > 0, 1.0, 0.5) * x
x.masked_fill(x < 0, -0.5) | x * (x != 0) | torch.where((x > 0) & (x < 1)|~(x > -1), x, 2 * y)
torch.where(torch.logical_xor(x > 0, y > 0), x, 2 * x)
"""

STOPPED = """
x + (torch.round(x) - x).detach() | x.detach() * torch.tanh(x) | x.detach() + torch.sin(x) | x.detach() | x.round()
x - x.mean(-1, keepdim=True).detach() | x + (x.sign() - x).detach() | m.a(x).detach() * x | F.linear(x, m.w.detach())
F.linear(x, m.w.detach()) + F.linear(x, m.w) | x + ((4 * x).round().clamp(-8, 7) / 4 - x).detach()
F.one_hot(x.argmax(-1), 8).float() + F.softmax(x, -1) - F.softmax(x, -1).detach()
"""

REDUCTIONS = """
x - torch.logsumexp(x, -1, keepdim=True) | x - x.logsumexp((1, 2))[:, None, None]
x / (x.norm(dim=-1, keepdim=True) + 1) | F.normalize(x, dim=-1) | F.normalize(x, p=1, dim=-1)
F.normalize(x, p=math.inf, dim=1) | F.normalize(x, p=3, dim=-1) | F.normalize(0 * x, dim=-1) + x
(0 * x).norm(dim=-1, keepdim=True) + x | x * torch.linalg.norm(x, dim=-1, keepdim=True)
x * x.norm(dim=(1, 2), keepdim=True) / 9 | x * x.norm(1, -1, True) | x * x.var(-1, keepdim=True)
x * x.var(-1, unbiased=False, keepdim=True) | x * x.var((1, 2), correction=2, keepdim=True)
x / (x.std(1, True, True) + 1) | (0 * x).std(-1, keepdim=True) + x | sum(torch.var_mean(x, -1, keepdim=True))
sum(torch.std_mean(x, -1, keepdim=True)) | x + 0.01 * x.prod(-1, keepdim=True) | x + (x / 2).prod(1, keepdim=True)
x * x.sum(-1, True) | x - x.mean((1, 2), True) | x - x.amax(-1, True) | x - x.amin(1, True)
x - x.max(-1, True).values | x + x.max(1)[0][:, None] | x * x.argmax(-1, True) | x - x.min(-1, True).values
x * x.min(-1, True).indices | sum(torch.aminmax(x, dim=-1, keepdim=True)) * x | x * (x > 1).any(-1, True)
x * (x > -1).all(-1, True) | x * torch.count_nonzero(x, -1)[..., None] | x.cumsum(1) / 9 | x * (x > 0).sum(-1, True)
x.cumsum(-1) | x * (x > 0).cumsum(1) / 9 | torch.cat([x[:, :1], x.diff(dim=1)], 1)
x * F.cosine_similarity(x, y, dim=-1)[..., None] | F.layer_norm(x, (8,), m.v, m.b) | F.rms_norm(x, (8,), m.v)
m.v * (x - x.mean(-1, True)) / (x.std(-1, keepdim=True) + 1e-6) + m.b | F.group_norm(x.mT, 2, m.v, m.b).mT
F.group_norm(x.mT, 1).mT | F.instance_norm(x.mT, weight=m.v, bias=m.b).mT
F.batch_norm(x.mT, torch.arange(8) / 9.0, torch.arange(1, 9) * 0.5, m.v, m.b).mT
x + torch.arange(x.shape[1])[:, None] * 0.1 | x + torch.arange(8) / 4.0 | x * ((x > 0) * 0.5) | x + (x > 0).cumsum(1) * 0.1
F.layer_norm(x + torch.exp(torch.arange(0, 8) * (-math.log(10000.0) / 8)), (8,), m.v, m.b)
"""

SHAPES = """
x.flip(-1) * x | x.flip(1) + x | x.flip(1, 2) * x | x * x[:, :8].rot90(1, (1, 2)).sum(1, True)
torch.cat(torch.tensor_split(x, 3, -1)[::-1], -1) | torch.cat(torch.tensor_split(x, (2, 5), -1)[::-1], -1)
torch.cat(x.split([1, 2, 5], -1)[::-1], -1) | torch.cat(x.chunk(3, -1)[::-1], -1)
torch.hsplit(x, 2)[1].repeat(1, 2, 1) | torch.stack(x.unbind(-1)[::-1], -1) | x * x.select(1, 0)[:, None]
x.roll((1, 2), (1, 2)) * x | x.tile(2)[..., 4:12] * x | x.repeat_interleave(2, -1)[..., 4:12] * x
x.movedim(1, 2).tanh().movedim(1, 2) | x.mT.tanh().mT | x.unflatten(-1, (2, 4)).tanh().flatten(2)
x[:, :1].expand_as(x) * x | torch.broadcast_tensors(x[:, :1], x)[0] * x | torch.tril(x) * x | torch.triu(x, 1) + x
F.pad(x, (1, 0, 2, 1), value=0.3)[:, 1:-2, :8] * x | x * x[:, ::3].sum(1, True)
F.pad(x.mT, (2, 0), mode="reflect")[..., :-2].mT * x | F.pad(x.mT, (2, 0), mode="replicate")[..., :-2].mT * x
F.pad(x.mT, (0, 2), mode="circular")[..., 2:].mT * x | torch.hstack([x, y])[:, :16] * x
torch.dstack([x, y])[..., 4:12] * x
"""

PRODUCTS = """
torch.bmm(x, x.mT).bmm(x) / 9 | torch.baddbmm(x, x @ x.mT, x, beta=0.5, alpha=0.1) | x * torch.addmv(m.v, m.w, m.b)
x * torch.dot(m.b, m.v) | torch.inner(x, m.w) | x @ torch.outer(m.b, m.v) | x @ torch.addr(m.w, m.b, m.v)
torch.einsum("bsi,ij,j->bsj", x, m.w, m.v) | torch.einsum("...i,ji->...j", x, m.w)
torch.einsum("bsi,j", x, m.v).sum(1).mT | torch.einsum("bsi->bi", x)[:, None] * x | x * (x @ m.v)[..., None]
m.attention(x, x, x, need_weights=False)[0] | m.attention(x, x, x)[1].mean((1, 2))[:, None, None] * x | m.encoder(x)
F.scaled_dot_product_attention(x, x, x, x @ x.mT)
"""

POSITIONS = """
x.index_select(-1, torch.tensor([7, 1, 1, 3, 0, 2, 5, 5])) * x | x * x.index_select(1, ids[0, :2] % 16).sum(1, True)
x.gather(-1, ids[..., None].expand_as(x) % 8) * x | x.gather(1, ids[..., None].expand_as(x) % 16) * x
x * x.gather(-1, ids[..., None] % 8) | x.take_along_dim(ids[..., None] % 8, -1) * x
x[..., [7, 1, 1, 3, 0, 2, 5, 5]] * x | x[..., ids[0, :8] % 8] * x | x * x[torch.arange(x.shape[0])[:, None], ids % 16]
x * m.v[ids % 8][..., None] | x * m.w[ids % 8] | x * x[torch.arange(x.shape[0]), ids[:, 0] % 16][:, None]
x * m.w[ids % 8, ids % 3][..., None] | x * ids.gather(1, ids % 16)[..., None] / 64
x * torch.zeros_like(x).scatter(-1, ids[..., None] % 8, 1.0) | x.scatter(-1, ids[..., None] % 8, y[..., :1]) * x
x + torch.zeros_like(x).scatter_add(1, ids[..., None].expand_as(x) % 16, y)
x.index_add(-1, torch.tensor([0, 3]), y[..., :2]) | x.index_copy(-1, torch.tensor([0, 3]), y[..., :2])
x.index_fill(-1, torch.tensor([0, 3]), 0.5) | F.embedding((3 * x[..., 0].abs()).long().clamp(max=7), m.w) * x
"""

# Statements that change z, a copy of x.
WRITES = """
z[:, 0] = 0.5 | z[:, 0] = y[:, 1].tanh() | z[..., 2:5] = y[..., :3] | z[..., 2:5] = 0.0 | z[..., ::2] = y[..., 1::2]
z[x < 0] = 0.25 | z[x[..., 0] < 0] = 0.25 | z[:, torch.tensor([1, 3])] = 0.25 | z[..., -1] = y[..., 0]
z[:, 0].add_(y[:, 1]) | z[..., :4].mul_(y[..., 4:]) | z += y.tanh() | z[:, 2:4].copy_(y[:, :2]) | z[:, 2:4].zero_()
z.mT[:, 0].mul_(2) | z.view(z.shape[0], -1)[:, :3].mul_(2) | z[..., :4].masked_fill_(y[..., :4] < 0, 0.1)
z.clamp_(-1, 1) | z[:, 0, 0:2] = y[:, 1, 4:6] | z.unsqueeze(1)[:, :, 0].mul_(2) | z[:, 1:] = x[:, :-1]; z[:, 0] = 0.0
v = z[:, 1:]; z.mul_(2); z = z + v.sum(1, True)
"""


def split(table: str) -> list[str]:
    return [case.strip() for line in table.strip().splitlines() for case in line.split(" | ")]


EXPRESSIONS = {
    "activations": split(ACTIVATIONS),
    "functions": split(FUNCTIONS),
    "stopped": split(STOPPED),
    "reductions": split(REDUCTIONS),
    "shapes": split(SHAPES),
    "products": split(PRODUCTS),
    "positions": split(POSITIONS),
    "writes": split(WRITES),
}

# The operator and, where it is not simply missing, a part of the reason.
REFUSED = {
    "x.masked_select(x > 0).sum() * x": ("aten::masked_select", "shape that depends on data"),
    "x[x > 0].sum() * x": ("aten::index", "shape that depends on data"),
    "x.nonzero().sum() * x": ("aten::nonzero", "shape that depends on data"),
    "F.batch_norm(x.mT, None, None, training=True).mT": ("aten::batch_norm", "samples of a micro-batch"),
    "F.rrelu(x, training=True)": ("aten::rrelu", "random slopes"),
    "torch.zeros_like(x).scatter(-1, ids[..., None].expand_as(x) % 8, x)": ("aten::scatter", "left to chance"),
    "x * ids.sum(1, True)[..., None]": ("aten::sum", "for truth values alone"),
    "x * (ids * 1000003).gather(1, ids % 16)[..., None]": ("aten::gather", "for the tokens themselves alone"),
    "x.cumprod(-1)": ("aten::cumprod", ""),
    "x.sort(-1).values": ("aten::sort", ""),
    "torch.einsum('bii->b', x[:, :8])[:, None, None] * x": ("aten::einsum", "each subscript once"),
}


def keeps_samples_apart(text: str) -> bool:
    """Whether the first sample's words index all samples: such a program needs the whole batch at once."""
    return "ids[0" not in text


def text_of(parameter: str, blocks: list[list[str]]) -> str:
    """The operator that a parameter's name belongs to."""
    found = re.match(r"layers\.(\d+)\.operators\.operator(\d+)\.", parameter)
    return blocks[int(found[1])][int(found[2])] if found else "none"


class Operator(nn.Module):
    """One expression or statement, of an embedding of its own."""

    def __init__(self, text: str, words: int):
        super().__init__()
        self.writes = text in EXPRESSIONS["writes"]
        self.code = compile(text, __file__, "exec" if self.writes else "eval")
        self.table = nn.Embedding(words, 8)
        with torch.no_grad():
            self.table.weight.clamp_(-2.5, 2.5)
            rows = self.table.weight[::2]
            wide = 1 + 2 * (torch.arange(words // 2) % 3 == 0)[:, None]
            rows.copy_((2 * rows).round() / 2 * wide + 0.0)  # not -0, of which atan2 would make -π
        for name, shape in {"w": (8, 8), "v": (8,), "b": (8,), "slope": (1,)}.items():
            if f"m.{name}" in text:
                setattr(self, name, nn.Parameter(0.5 * torch.randn(shape)))
        if "m.a(" in text:
            self.a = nn.Linear(8, 8)
        if "m.attention" in text:
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        if "m.encoder" in text:
            self.encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.table(ids)
        names = {"torch": torch, "F": F, "math": math, "m": self, "ids": ids, "x": x, "y": x.roll(4, -1)}
        if not self.writes:
            return eval(self.code, names).expand_as(x)
        names["z"] = x * 1.0
        exec(self.code, names)
        return names["z"]


class Block(nn.Module):
    """Adds every operator's result to a stream; a product follows, so that a layer has something to split."""

    def __init__(self, texts: list[str], words: int):
        super().__init__()
        self.operators = nn.ModuleDict({f"operator{i}": Operator(text, words) for i, text in enumerate(texts)})
        self.mix = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        results = [operator(ids) for operator in self.operators.values()]
        return x + torch.tanh(self.mix(torch.stack(results, 0).sum(0) / len(results)))


class Operators(nn.Module):
    """Blocks of operators in a row, a head and a loss."""

    def __init__(self, blocks: list[list[str]], words: int = 64):
        super().__init__()
        self.embedding = nn.Embedding(words, 8)
        self.layers = nn.ModuleList(Block(texts, words) for texts in blocks)
        self.head = nn.Linear(8, words)

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        x = self.embedding(input_ids)
        for layer in self.layers:
            x = layer(x, input_ids)
        return F.cross_entropy(self.head(x)[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
