"""bench/gpu/reserve.py finds the parts that memory was made of."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench" / "gpu"))

import reserve  # noqa: E402

MADE_OF = {"context": 600, "library": 400, "group": 500, "direction": 140, "peer": 240, "sums": 30}  # MB
FOUND = {name: part * 10**6 for name, part in MADE_OF.items()} | {"mapping": 0}
ARENA = 10**8


def bytes_of(plan: str, tied: bool, parts) -> int:
    return sum(times * part for times, part in zip(reserve.taken_by({"plan": plan, "tied": tied}), parts))


def programs(*plans: str, tied: bool = False, noise: int = 0) -> list[dict]:
    made_of = [part * 10**6 for part in MADE_OF.values()]
    used = {plan: ARENA + bytes_of(plan, tied, made_of) for plan in plans}
    return [
        {"plan": plan, "tied": tied, "arena": [ARENA] * 2, "used": [used[plan], used[plan] + noise]} for plan in plans
    ]


PLANS = ("one", "dp2", "ulysses2", "pp2-1f1b", "dp2-tp2", "tp2-pp2")


def test_parts_are_found():
    assert reserve.fit(programs(*PLANS)) == FOUND


def test_no_rank_is_under():
    noisy = programs(*PLANS, noise=4 * 10**6)
    found = reserve.fit(noisy)
    for program in noisy:
        said = bytes_of(program["plan"], False, found.values())
        assert max(program["used"]) - ARENA <= said <= max(program["used"]) - ARENA + 8 * 10**6


def test_what_only_several_ranks_take_is_not_for_one():
    several = [program for program in programs("dp2", noise=9 * 10**6) for _ in range(9)]
    assert reserve.fit(programs(*PLANS) + several)["context"] == 600 * 10**6


def test_stages_that_share_a_weight_have_a_group_for_it():
    both = programs(*PLANS) + programs("pp2-1f1b", "tp2-pp2", tied=True)
    assert reserve.fit(both) == FOUND


def test_what_large_arenas_take_beyond_is_by_gibibyte():
    def large(plan: str, over: int, ranks: int) -> dict:
        arena = [60 << 30] * ranks
        used = arena[0] + bytes_of(plan, False, [part * 10**6 for part in MADE_OF.values()]) + over
        return {"plan": plan, "tied": False, "arena": arena, "used": [used] * ranks}

    found = reserve.fit([*programs(*PLANS), large("whole", 12 * 10**6, 4), large("even", 6 * 10**6, 4)])
    assert found == FOUND | {"mapping": 200_000}
    # Alone, nobody maps it: that would be another part's fault.
    assert reserve.fit([*programs(*PLANS), large("one", 12 * 10**6, 1)]) == FOUND


def test_too_few_plans_are_refused():
    with pytest.raises(SystemExit, match="there is nothing of .*dp2-tp2"):
        reserve.fit(programs("one", "dp2", "ulysses2", "pp2-1f1b"))


def test_other_plans_are_left_out():
    other = {"plan": "tp8", "tied": False, "arena": [0], "used": [10**12]}
    assert reserve.fit([*programs(*PLANS), other]) == reserve.fit(programs(*PLANS))


def test_both_files_are_read(tmp_path):
    one, *others = programs(*PLANS)
    (tmp_path / "memory.json").write_text(json.dumps({"a": one}))
    (tmp_path / "race.json").write_text(json.dumps({"rows": [{"ours": [{"memory": other} for other in others]}]}))
    read = reserve.programs_of(tmp_path / "memory.json") + reserve.programs_of(tmp_path / "race.json")
    assert read == [one, *others]
