"""Gradients of two runs compared: whole, or against a recorded sketch.

Rule, for each parameter: |g - g*| <= tolerance * max(|g*|, floor * global norm of g*). The floor is for gradients that are
zero in exact arithmetic, such as a key's bias. Where it is known what rounding alone makes of a gradient, 30 times that is
allowed as well: one that is a difference of large terms is not known better.

A sketch of a gradient of n elements is 4096 sums of n / 4096 elements each, with signs drawn by the element's index. It is
linear, and the expected square of the norm of a difference of two sketches is the square of the norm of the difference
(Charikar, Chen, Farach-Colton 2002); with 4096 sums an estimated norm is within 5 % of the true one but for one time in
10 000. So megabytes stand in for the hundreds that reference gradients take.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy

BUCKETS = 4096
FLOOR = 1e-5
ROUNDING = 30


def read_tensors(path: Path) -> dict[str, numpy.ndarray]:
    """The f32 tensors of a safetensors file, mapped, not read."""
    data = numpy.memmap(path, numpy.uint8, "r")
    end = 8 + int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8:end].tobytes())
    result = {}
    for name, entry in header.items():
        if name != "__metadata__":
            if entry["dtype"] != "F32":
                raise ValueError(f"{path}: expects {name} of type F32, but got {entry['dtype']}")
            first, last = (end + offset for offset in entry["data_offsets"])
            result[name] = data[first:last].view("<f4").reshape(entry["shape"])
    return result


def steps_of(folder: Path) -> Iterator[tuple[int, dict[str, numpy.ndarray]]]:
    """Step and gradients, in order, of what --dump-gradients wrote."""
    for file in sorted(folder.glob("step_*.safetensors")):
        yield int(file.stem.split("_")[1]), read_tensors(file)


def _signs(count: int) -> numpy.ndarray:
    """+1 or -1 by index: the top bit of splitmix64, the same with every version of numpy."""
    z = (numpy.arange(1, count + 1, dtype=numpy.uint64)) * numpy.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return numpy.where((z ^ (z >> numpy.uint64(31))) >> numpy.uint64(63), -1.0, 1.0)


class Sketcher:
    """Keeps the signs of one length for the next tensor."""

    def __init__(self):
        self.signs = numpy.zeros(0)

    def __call__(self, tensor: numpy.ndarray) -> numpy.ndarray:
        flat = numpy.asarray(tensor, numpy.float64).ravel()
        rows = -(-len(flat) // BUCKETS)
        if len(self.signs) < rows * BUCKETS:
            self.signs = _signs(rows * BUCKETS)
        padded = numpy.zeros(rows * BUCKETS)
        padded[: len(flat)] = flat * self.signs[: len(flat)]
        return padded.reshape(rows, BUCKETS).sum(0)[: len(flat)]


def norm(tensor: numpy.ndarray) -> float:
    flat = numpy.asarray(tensor, numpy.float64).ravel()
    return math.sqrt(float(flat @ flat))


class Worst:
    """The largest error as a share of what is allowed, and where."""

    def __init__(self):
        self.ratio, self.where = 0.0, ""
        self.error = 0.0  # the error of that parameter relative to what the tolerance is relative to

    def see(self, ratio: float, error: float, where: str) -> None:
        if not ratio <= self.ratio:  # NaN is the worst of all
            self.ratio, self.error, self.where = (math.inf if ratio != ratio else ratio), error, where


def compare(
    found: Mapping[str, numpy.ndarray],
    wanted: Mapping[str, numpy.ndarray],
    tolerance: float,
    floor: float = FLOOR,
    sketches: Sketcher | None = None,
    rounding: Mapping[str, float] | None = None,
) -> tuple[Worst, float]:
    """The worst parameter; and the error of all gradients as one vector, relatively. With `sketches`, `wanted` holds
    sketches. A tied parameter stands in both under its canonical name. `rounding`: by parameter, the norm of its error."""
    worst, rounding = Worst(), rounding or {}
    norms = {name: norm(tensor) for name, tensor in wanted.items()}
    total = math.sqrt(sum(value**2 for value in norms.values()))
    squares = 0.0
    for name, tensor in wanted.items():
        if name not in found:
            worst.see(math.inf, math.inf, f"{name} is missing")
            continue
        other = sketches(found[name]) if sketches else found[name]
        if other.shape != tensor.shape:
            worst.see(math.inf, math.inf, f"{name} has shape {list(other.shape)}, expected {list(tensor.shape)}")
            continue
        error = norm(numpy.asarray(other, numpy.float64) - numpy.asarray(tensor, numpy.float64))
        squares += error**2
        size = max(norms[name], floor * total, 1e-300)
        allowed = max(tolerance * size, ROUNDING * rounding.get(name, 0))
        worst.see(error / allowed, error / size, name)
    for name in found.keys() - wanted.keys():
        worst.see(math.inf, math.inf, f"{name} is not a parameter of the reference")
    return worst, math.sqrt(squares) / max(total, 1e-300)
