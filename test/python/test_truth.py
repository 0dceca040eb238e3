"""What bench/truth.py and bench/regret.py make of figures; how programs are run is test/EndToEnd/test_plan_here.py."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import measuring  # noqa: E402
import regret  # noqa: E402
import truth  # noqa: E402


def test_rank_correlation_is_spearman_s():
    assert measuring.rank_correlation([1, 2, 3, 4], [10, 20, 30, 40]) == 1
    assert measuring.rank_correlation([1, 2, 3, 4], [9, 7, 5, 1]) == -1
    assert measuring.rank_correlation([1, 2, 3], [1, 3, 2]) == pytest.approx(0.5)
    assert measuring.rank_correlation([1, 1, 2], [5, 5, 9]) == pytest.approx(1)


def row(plan, predicted, measured):
    return {"plan": plan, "predicted_step_seconds": predicted, "measured_step_seconds": measured, "rounds": [measured]}


def test_regret_is_of_the_first_plan_against_the_best():
    rows = [row("01", 1.0, 1.1), row("02", 1.1, 1.0), row("03", 1.2, 1.4)]
    summary = regret.summarize(rows)
    assert summary["best"] == "02" and summary["regret"] == pytest.approx(0.1)
    assert summary["rank_correlation"] == pytest.approx(0.5)
    result = {"model": "m", "date": "d", "hardware": "h", "target": "cpu", "profile": "p", "rounds": 1, "steps": 1}
    text = regret.describe(result | {"summary": summary, "rows": rows})
    assert "within 10.0 % of the best measured, 02" in text and "| 03 | 1200 |" in text


def test_cases_are_enough_and_of_two_ranks():
    plans = truth.plans(4)
    assert len(plans) >= 12
    for plan in plans.values():
        degrees = [unit["strategy"].get(key, 1) for unit in plan["units"] for key in ("dp", "tp", "ulysses", "cp")]
        assert plan["pipeline"] * max(degrees) == 2
        assert {unit["stage"] for unit in plan["units"]} == set(range(plan["pipeline"]))
        assert len(plan["units"]) == 6
    uneven = [unit["stage"] for unit in plans["pp2-uneven-m4"]["units"]]
    assert uneven == [0, 0, 0, 0, 1, 1]


def test_errors_are_summed_up():
    rows = [{"error": -0.1}, {"error": 0.3}]
    assert truth.summarize(rows) == {"plans": 2, "mean_error": pytest.approx(0.2), "largest_error": 0.3}
