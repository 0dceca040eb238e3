"""The memory part of bench/gpu/check.py: a plan must never say too little, nor more than 1 % too much."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench/gpu"))

import check  # noqa: E402
import running  # noqa: E402

GIB = 1 << 30


def folder_of(tmp_path: Path, plan: dict) -> Path:
    (tmp_path / "lib").mkdir()
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "plan.json").write_text(json.dumps({"peak_bytes_per_rank": [19 * GIB, GIB]} | plan))
    index = {"device": "cuda", "size": "full", "programs": [], "race": []}
    index["models"] = {"toy": {"config": {"model_type": "llama", "tie_word_embeddings": False}}}
    (tmp_path / check.programs.INDEX).write_text(json.dumps(index))
    return tmp_path


def ran(*used: int) -> running.Result:
    return running.Result(0, 1.0, "", list(used), [])


def judged(folder: Path, result: running.Result) -> check.Verdict:
    (folder / "out").mkdir()
    arguments = argparse.Namespace(folder=folder, out=folder / "out", gpus=2)
    checker = check.Checker(arguments)
    checker.memory("one", {"model": "toy", "folder": "one", "plan": "tp2"}, result)
    return checker.verdicts[-1]


RESERVED = {"reserved_bytes_per_rank": [GIB, GIB]}


@pytest.mark.parametrize(
    "used, passed",
    [
        ((20.0, 2.0), True),
        ((19.85, 1.985), True),  # 0.15 of 19.85 GiB, 0.015 of 1.985
        ((19.7, 2.0), False),  # 0.3 of 19.7 GiB
        ((20.0, 1.97), False),  # 0.03 of 1.97 GiB
        ((20.01, 2.0), False),  # less than was in use, on either rank
        ((20.0, 2.01), False),
    ],
)
def test_a_plan_says_what_is_in_use(tmp_path: Path, used: tuple[float, float], passed: bool):
    verdict = judged(folder_of(tmp_path, RESERVED), ran(*(int(GIB * size) for size in used)))
    assert verdict.passed is passed, verdict.detail
