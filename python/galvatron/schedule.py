"""Learning rates and windows of data, exactly as the stage binaries define them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy

from galvatron.errors import GalvatronError

# u8 to u64 and i8 to i64, little endian.
DATA_TYPES = {f"{sign}{8 * size}": numpy.dtype(f"<{sign}{size}") for sign in "ui" for size in (1, 2, 4, 8)}


@dataclasses.dataclass(frozen=True)
class LearningRate:
    """Learning rate of a step; steps count from 1.

    step <= warmup   peak * step / warmup
    afterwards       from peak to minimum, by progress = (step - warmup) / (steps - warmup):
                     linear in it, or half a cosine; the last step has the minimum. constant: peak.
    """

    peak: float
    minimum: float = 0.0
    schedule: str = "constant"
    warmup: int = 0
    steps: int = 1

    def at(self, step: int) -> float:
        if step <= self.warmup:
            return self.peak * step / self.warmup
        if self.schedule == "constant":
            return self.peak
        progress = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        share = 1.0 - progress
        if self.schedule == "cosine":
            share = 0.5 * (1.0 + math.cos(math.pi * progress))
        return self.minimum + (self.peak - self.minimum) * share


class Windows:
    """Rows of tokens: window w is tokens w*seq ... w*seq+seq-1; what is left at the end is unused.

    path    little-endian integers, no header
    kind    one of DATA_TYPES
    """

    def __init__(self, path: Path, kind: str, batch: int, seq: int) -> None:
        try:
            tokens = numpy.memmap(path, dtype=DATA_TYPES[kind], mode="r")
        except (OSError, ValueError) as error:
            raise GalvatronError(f"cannot read tokens from {path}: {error}; check --data") from None
        self.count = len(tokens) // seq
        if self.count < batch:
            raise GalvatronError(
                f"{path} has {len(tokens)} tokens, fewer than one batch of {batch} x {seq};"
                " give more data or lower --batch or --seq"
            )
        self.rows = tokens[: self.count * seq].reshape(self.count, seq)
        self.batch = batch

    def at(self, step: int) -> numpy.ndarray:
        """Rows of step `step` (from 1), int64 [batch, seq]: windows (step-1)*B ..., wrapping."""
        first = (step - 1) * self.batch
        return self.rows[(first + numpy.arange(self.batch)) % self.count].astype(numpy.int64)


class Folder:
    """Samples of named inputs: NAME.npy for each, or .safetensors shards in order of name, samples first.

    names, types  of the inputs, as `galvatron.json` has them
    """

    def __init__(self, path: Path, names: Sequence[str], types: Sequence[dict]) -> None:
        shards = sorted(path.glob("*.safetensors"))
        self.arrays: list[numpy.ndarray] = []
        for name, kind in zip(names, types, strict=True):
            array = self._sharded(shards, name) if shards else self._plain(path / f"{name}.npy")
            is_float = kind["dtype"] == "float32"
            if not is_float and not numpy.issubdtype(array.dtype, numpy.integer) and array.dtype != bool:
                raise GalvatronError(f"expects {name} in {path} to be integers, but got {array.dtype}")
            self.arrays.append(array.astype(numpy.float32 if is_float else numpy.int64))
        counts = {len(array) for array in self.arrays}
        if len(counts) != 1:
            raise GalvatronError(f"{path} has {sorted(counts)} samples of different inputs; write as many of each")
        self.count = counts.pop()

    @staticmethod
    def _plain(path: Path) -> numpy.ndarray:
        try:
            return numpy.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise GalvatronError(f"cannot read {path}: {error}; check --data") from None

    @staticmethod
    def _sharded(shards: Sequence[Path], name: str) -> numpy.ndarray:
        from safetensors.numpy import load_file

        try:
            return numpy.concatenate([load_file(shard)[name] for shard in shards])
        except KeyError:
            raise GalvatronError(f"a shard in {shards[0].parent} has no tensor {name}; check --data") from None

    def at(self, step: int, batch: int) -> list[numpy.ndarray]:
        """The inputs of step `step` (from 1), in order: samples (step-1)*batch ..., wrapping."""
        chosen = ((step - 1) * batch + numpy.arange(batch)) % self.count
        return [array[chosen] for array in self.arrays]
