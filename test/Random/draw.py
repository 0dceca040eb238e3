"""Decisions of a generated program: each depends on the seed and its own name alone.

So a program of which one feature is taken away is otherwise the same, which is what makes failing ones shrink.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

Option = TypeVar("Option")


class Draw:
    """The decisions of one part of a program; `at` gives those of a part of it."""

    def __init__(self, seed: int, without: frozenset[str] = frozenset(), path: str = "", used: list[str] | None = None):
        self.seed, self.without, self.path = seed, without, path
        self.used: list[str] = [] if used is None else used

    def at(self, name: str) -> Draw:
        return Draw(self.seed, self.without, f"{self.path}/{name}", self.used)

    def _random(self, name: str) -> random.Random:
        return random.Random(f"{self.seed}:{self.path}/{name}")

    def has(self, feature: str, probability: float) -> bool:
        """Whether this part has a feature; never, if it is taken away here (`block1/skip`) or everywhere (`skip`)."""
        here = f"{self.path}/{feature}".lstrip("/")
        taken = self._random(feature).random() < probability and not {here, feature} & self.without
        if taken:
            self.used.append(here)
        return taken

    def pick(self, name: str, options: Sequence[Option]) -> Option:
        """One of several; the first if the choice is taken away, so that it should be the plainest."""
        here = f"{self.path}/{name}".lstrip("/")
        option = options[0] if {here, name} & self.without else self._random(name).choice(options)
        if option is not options[0]:
            self.used.append(here)
        return option
