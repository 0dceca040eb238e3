"""Random numbers that a forward draws in Python: a trace would hold those of the export."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable, Iterator

import numpy

from galvatron import places
from galvatron.errors import GalvatronError


@contextlib.contextmanager
def refused(run_again: Callable[[], object], names: dict[int, str]) -> Iterator[None]:
    """Refuses draws from Python's or NumPy's global generator within. `run_again` finds the line."""
    state, numpy_state = random.getstate(), numpy.random.get_state()
    try:
        yield
        if _drawn(state, numpy_state):
            place = _find(run_again, names)
            raise GalvatronError(
                f"{place or 'the forward pass'} draws random numbers in Python, which a trace would hold as drawn at"
                " export; use torch.nn.functional.dropout, or set its probability to zero"
            )
    finally:
        random.setstate(state)
        numpy.random.set_state(numpy_state)


def _drawn(state: tuple, numpy_state: tuple) -> bool:
    now = numpy.random.get_state()
    same = now[2:] == numpy_state[2:] and numpy.array_equal(now[1], numpy_state[1])
    return random.getstate() != state or not same


def _find(run: Callable[[], object], names: dict[int, str]) -> places.Place | None:
    """The first call of a method of Python's generator; NumPy's are not seen."""
    found: list[places.Place] = []
    generator = random.seed.__self__

    def watch(frame, event: str, argument: object) -> None:
        if event == "c_call" and not found and getattr(argument, "__self__", None) is generator:
            found.append(places.here(names))

    sys.setprofile(watch)
    try:
        run()
    finally:
        sys.setprofile(None)
    return found[0] if found else None
