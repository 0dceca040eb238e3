"""Runs the text that galvatron-import writes, in PyTorch.

A second opinion on imported programs, apart from lib/Reference: it reads the printed form, so it also
shows that everything needed is in it. Only the ops that import produces; dropout is the identity.
"""

from __future__ import annotations

import math
import re

import numpy
import torch
from torch.nn import functional

_TYPES = {
    "f32": torch.float32,
    "f64": torch.float64,
    "bf16": torch.bfloat16,
    "f16": torch.float16,
    "i64": torch.int64,
    "i32": torch.int32,
    "i8": torch.uint8,
    "i1": torch.bool,
}
_OP = re.compile(r"\s*(?:(?P<results>%[\w, %:]+?) = )?\"?(?P<name>[a-z_]+\.[a-z_0-9]+)\"?(?P<rest>.*)")
_TENSOR = re.compile(r"tensor<((?:\d+x)*)(\w+)>")
_UNARY = {
    "arith.negf": torch.neg,
    "math.absf": torch.abs,
    "math.absi": torch.abs,
    "math.exp": torch.exp,
    "math.log": torch.log,
    "math.sqrt": torch.sqrt,
    "math.rsqrt": torch.rsqrt,
    "math.cos": torch.cos,
    "math.sin": torch.sin,
    "math.tanh": torch.tanh,
    "math.erf": torch.erf,
    "math.floor": torch.floor,
    "math.trunc": torch.trunc,
    "math.roundeven": torch.round,
    "math.atan": torch.atan,
    "math.ceil": torch.ceil,
}
_BINARY = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "divf": torch.div,
    "divsi": lambda a, b: torch.div(a, b, rounding_mode="trunc"),
    "floordivsi": lambda a, b: torch.div(a, b, rounding_mode="floor"),
    "maximumf": torch.maximum,
    "minimumf": torch.minimum,
    "maxsi": torch.maximum,
    "minsi": torch.minimum,
    "andi": torch.bitwise_and,
    "ori": torch.bitwise_or,
    "xori": torch.bitwise_xor,
}
_COMPARE = {"eq": torch.eq, "ne": torch.ne, "lt": torch.lt, "le": torch.le, "gt": torch.gt, "ge": torch.ge}
_ACTIVATIONS = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


def run(
    text: str,
    parameters: dict[str, torch.Tensor],
    input_ids: torch.Tensor,
    labels: torch.Tensor,
) -> torch.Tensor:
    """The loss of `@step`. `parameters` by canonical name."""
    values = {"%arg0": input_ids, "%arg1": labels}
    for line in text.splitlines():
        line = re.sub(r" loc\(.*\)$", "", line)
        if line.lstrip().startswith("return"):
            return values[re.search(r"%\w+", line).group()]
        match = _OP.match(line)
        if not match or not match["results"]:
            continue
        results = [name.strip() for name in match["results"].split(",")]
        outputs = _evaluate(match["name"], match["rest"], values, parameters)
        for name, output in zip(results, outputs if isinstance(outputs, tuple) else (outputs,)):
            values[name] = output
    raise ValueError("no return")


def _type(text: str) -> tuple[list[int], torch.dtype]:
    """The last tensor type in the text: the (first) result's."""
    extents, element = _TENSOR.findall(text)[-1]
    return [int(e) for e in extents.split("x") if e], _TYPES[element]


def _integers(text: str, before: str = "") -> list[int]:
    return [int(i) for i in re.search(before + r"\s*\[([-\d, ]*)\]", text)[1].replace(" ", "").split(",") if i]


def _attribute(text: str, name: str, default: float) -> float:
    match = re.search(rf"\b{name} = (-?[\d.]+(?:[eE][+-]?\d+)?)", text)
    return float(match[1]) if match else default


def _constant(text: str) -> torch.Tensor:
    shape, dtype = _type(text)
    content = re.search(r"dense<(.*)> :", text)[1]
    if content.startswith('"0x'):
        kind = numpy.float32 if dtype == torch.float32 else numpy.int64
        return torch.from_numpy(numpy.frombuffer(bytes.fromhex(content[3:-1]), kind).copy()).reshape(shape)
    if content.startswith("0x"):  # infinities are printed as bits
        bits = int(content, 16)
        return torch.full(shape, numpy.array(bits, numpy.uint32).view(numpy.float32).item(), dtype=dtype)
    content = content.replace("true", "1").replace("false", "0")
    content = re.sub(r"0x[0-9A-F]{8}", lambda m: repr(numpy.uint32(int(m[0], 16)).view(numpy.float32).item()), content)
    return torch.tensor(eval(content, {"inf": math.inf, "nan": math.nan}), dtype=dtype).expand(shape)


def _evaluate(name: str, rest: str, values: dict, parameters: dict):
    x = [values[v] for v in re.findall(r"%\w+", rest.split(" : ")[0]) if v in values]
    head = rest.rsplit(" : ", 1)[0] if " : " in rest else rest
    if name == "arith.constant":
        return _constant(rest)
    shape, dtype = _type(rest)
    dialect, op = name.split(".")
    if name == "graph.parameter":
        return parameters[re.search(r'"([^"]+)"', rest)[1]]
    if name in _UNARY:
        return _UNARY[name](x[0])
    if name in ("math.powf", "math.ipowi"):
        return torch.pow(x[0], x[1])
    if name == "math.atan2":
        return torch.atan2(x[0], x[1])
    if dialect == "arith" and op in ("cmpi", "cmpf"):
        predicate = rest.split(",")[0].strip().lstrip("sou")
        return _COMPARE[predicate](x[0], x[1])
    if name == "arith.select":
        return torch.where(x[0], x[1], x[2])
    if op in ("sitofp", "uitofp", "fptosi", "extf", "truncf", "extsi", "extui", "trunci"):
        return x[0].to(dtype)
    if dialect == "arith":
        return _BINARY.get(op, _BINARY.get(op[:-1]))(x[0], x[1])
    return _graph(op, rest, head, x, shape, dtype)


def _graph(op: str, rest: str, head: str, x: list[torch.Tensor], shape: list[int], dtype: torch.dtype):
    if op == "iota":
        return torch.arange(shape[0], dtype=dtype)
    if op == "embedding":
        padding = int(_attribute(rest, "padding_index", -1))
        return functional.embedding(x[1], x[0], padding_idx=padding if padding >= 0 else None)
    if op == "einsum":
        return torch.einsum(re.search(r'"([^"]+)"', rest)[1], x[0], x[1])
    if op == "detach":
        return x[0].detach()
    if op == "reshape":
        return x[0].reshape(shape)
    if op == "transpose":
        return x[0].permute(_integers(head))
    if op == "broadcast":
        view = [1] * len(shape)
        for dim, extent in zip(_integers(head, "dims"), x[0].shape):
            view[dim] = extent
        return x[0].reshape(view).expand(shape)
    if op == "slice":
        ranges = [slice(o, o + e) for o, e in zip(_integers(head, "offsets"), shape)]
        return x[0][tuple(ranges)]
    if op == "shift":
        dim, offset = int(_attribute(rest, "dim", 0)), int(_attribute(rest, "offset", 0))
        index = torch.arange(shape[dim]) + offset
        moved = x[0].index_select(dim, index.clamp(0, shape[dim] - 1))
        inside = ((index >= 0) & (index < shape[dim])).reshape([-1 if d == dim else 1 for d in range(len(shape))])
        return moved.where(inside, int(_attribute(rest, "fill", 0)))
    if op == "concat":
        return torch.cat(x, int(_attribute(rest, "dim", 0)))
    if op == "reduce":
        dims = _integers(head, "dims")
        return x[0].sum(dims) if " sum " in head else x[0].amax(dims)
    if op == "softmax":
        return torch.softmax(x[0], -1)
    if op == "dropout":
        return x[0]
    if op == "activation":
        return _ACTIVATIONS[head.split()[0]](x[0])
    if op == "norm":
        return _norm(head, rest, x)
    if op == "attention":
        return _attention(rest, x)
    if op == "cross_entropy":
        ignored = int(_attribute(rest, "ignore_index", -100))
        return functional.cross_entropy(x[0].flatten(0, -2), x[1].flatten(), ignore_index=ignored)
    raise ValueError(f"graph.{op} is not known here")


def _norm(head: str, rest: str, x: list[torch.Tensor]):
    epsilon = _attribute(rest, "epsilon", 0)
    weight = x[1] if " weight " in head else None
    bias = x[-1] if " bias " in head else None
    width = x[0].shape[-1:]
    if head.split()[0] == "rms":
        return functional.rms_norm(x[0], width, weight, epsilon), None, None
    return functional.layer_norm(x[0], width, weight, bias, epsilon), None, None


def _attention(rest: str, x: list[torch.Tensor]):
    q, k, v = x[:3]
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = q @ k.transpose(2, 3) * _attribute(rest, "scale", 1)
    if len(x) > 3:
        scores = scores + x[3]
    position = torch.arange(q.shape[2])[:, None] + k.shape[2] - q.shape[2]
    key = torch.arange(k.shape[2])[None]
    visible = torch.ones_like(scores[0, 0], dtype=torch.bool)
    if re.search(r"\bcausal\b", rest):
        visible &= key <= position
    if window := int(_attribute(rest, "window", 0)):
        visible &= position - key < window
    return torch.softmax(scores.masked_fill(~visible, -math.inf), -1) @ v, None
