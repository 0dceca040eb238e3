"""The memory part of bench/gpu/check.py: a plan must never say too little, nor more than 1 % too much."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench/gpu"))

import check  # noqa: E402
import race  # noqa: E402
import running  # noqa: E402

MIB = 1 << 20


def folder_of(tmp_path: Path, plan: dict) -> Path:
    (tmp_path / "lib").mkdir()
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "plan.json").write_text(json.dumps({"peak_bytes_per_rank": [900 * MIB, 400 * MIB]} | plan))
    index = {"device": "cuda", "size": "full", "programs": [], "race": []}
    (tmp_path / check.programs.INDEX).write_text(json.dumps(index))
    return tmp_path


def ran(*used: int) -> running.Result:
    return running.Result(0, 1.0, "", list(used), [])


def judged(folder: Path, result: running.Result) -> check.Verdict:
    arguments = argparse.Namespace(folder=folder, out=folder / "out", gpus=2)
    checker = check.Checker(arguments)
    checker.memory("one", {"folder": "one"}, result)
    return checker.verdicts[-1]


RESERVED = {"reserved_bytes_per_rank": [100 * MIB, 100 * MIB]}


@pytest.mark.parametrize(
    "used, passed",
    [
        ((1000, 500), True),
        ((991, 496), True),  # 0.9 % and 0.8 % more than in use
        ((985, 500), False),  # 1.5 % more
        ((1000, 501), False),  # less, on one rank
    ],
)
def test_a_plan_says_what_is_in_use(tmp_path: Path, used: tuple[int, int], passed: bool):
    verdict = judged(folder_of(tmp_path, RESERVED), ran(*(MIB * size for size in used)))
    assert verdict.passed is passed, verdict.detail


def test_a_plan_without_its_reserve_cannot_be_judged(tmp_path: Path):
    assert judged(folder_of(tmp_path, {}), ran(1000 * MIB, 500 * MIB)).passed is None


def test_the_race_writes_shares_by_rank(tmp_path: Path):
    folder = folder_of(tmp_path, RESERVED)
    options = {"folder": folder, "out": folder / "out", "gpus": 2, "deadline": 9, "timeout": 9}
    found = race.Race(argparse.Namespace(**options)).memory({"folder": "one"}, ran(1000 * MIB, 480 * MIB))
    assert found == {"reserved_bytes": 100 * MIB, "memory_shares": [0.0, 0.04167]}
