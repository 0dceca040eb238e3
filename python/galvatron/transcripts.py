"""What a forward does with data, as a sequence of function calls.

Two runs on the same inputs with equal transcripts compute the same, though they may differ in how they made
what does not depend on data (a position table expanded or not, say): such operands count by their values.
"""

from __future__ import annotations

import torch
from torch.utils.weak import WeakTensorKeyDictionary


class Transcript:
    def __init__(self) -> None:
        self.calls: list[tuple] = []
        self._numbers = WeakTensorKeyDictionary()  # data, in order of appearance

    def number(self, tensor: torch.Tensor) -> None:
        self._numbers.setdefault(tensor, len(self._numbers))

    def add(self, name: str, args: tuple, kwargs: dict) -> None:
        state = torch._C._get_tracing_state()
        torch._C._set_tracing_state(None)
        try:
            self.calls.append((name, self._described(args), self._described(kwargs)))
        finally:
            torch._C._set_tracing_state(state)

    def _described(self, value: object) -> object:
        if isinstance(value, torch.Tensor):
            shape = tuple(value.shape)
            if value in self._numbers:
                return ("data", self._numbers[value], shape)
            flat = value.detach().contiguous().flatten()
            content = flat.view(torch.uint8).numpy().tobytes() if value.numel() else b""
            return ("number", str(value.dtype), shape, hash(content))
        if isinstance(value, (tuple, list)):
            return tuple(self._described(element) for element in value)
        if isinstance(value, dict):
            return tuple((key, self._described(element)) for key, element in value.items())
        if isinstance(value, slice):
            return (self._described(value.start), self._described(value.stop), self._described(value.step))
        return repr(value)
