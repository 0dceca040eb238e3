"""bench/gpu/reserve.py finds the parts that memory was made of."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench" / "gpu"))

import reserve  # noqa: E402

MADE_OF = {"context": 600, "library": 400, "connection": 250, "direction": 140, "sums": 30}  # MB
ARENA = 10**8


def programs(*plans: str, noise: int = 0) -> dict[str, dict]:
    def used(plan: str) -> int:
        return ARENA + sum(times * part * 10**6 for times, part in zip(reserve.TAKEN[plan], MADE_OF.values()))

    return {plan: {"plan": plan, "arena": [ARENA] * 2, "used": [used(plan), used(plan) + noise]} for plan in plans}


PLANS = ("one", "dp2", "tp4", "pp2-1f1b", "dp2-tp2", "tp2-pp2")


def test_parts_are_found():
    assert reserve.fit(programs(*PLANS)) == {name: part * 10**6 for name, part in MADE_OF.items()}


def test_no_rank_is_under():
    found = reserve.fit(programs(*PLANS, noise=4 * 10**6))
    for plan, program in programs(*PLANS, noise=4 * 10**6).items():
        said = sum(times * part for times, part in zip(reserve.TAKEN[plan], found.values()))
        assert max(program["used"]) - ARENA <= said <= max(program["used"]) - ARENA + 8 * 10**6


def test_too_few_plans_are_refused():
    with pytest.raises(SystemExit, match="there is nothing of .*tp4"):
        reserve.fit(programs("one", "dp2", "pp2-1f1b"))


def test_other_plans_are_left_out():
    other = {"mixed": {"plan": "mixed", "arena": [0], "used": [10**12]}}
    assert reserve.fit(programs(*PLANS) | other) == reserve.fit(programs(*PLANS))
