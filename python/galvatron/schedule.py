"""Learning rates and windows of data, exactly as the stage binaries define them."""

from __future__ import annotations

import dataclasses
import math
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
