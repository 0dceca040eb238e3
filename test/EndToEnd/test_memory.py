"""Peak memory is a fact: what the runtime counts at its allocation calls is what the plan said, on every rank."""

from __future__ import annotations

import re

import pytest
from harness import Compiled, call, succeed
from plans import PLANS

ALLOWANCE_BYTES = 64 << 20  # of the process beside the planned peak: code, libraries' buffers, MPI's


@pytest.mark.parametrize("model", ("gpt2", "llama"))
@pytest.mark.parametrize("plan", ("one", "dp2-tp2-pp2", "mixed", "recompute-pp2", "uneven"))
def test_peak_equals_the_plan(model, plan, models, tokens):
    compiled = models(model).compile(plan, PLANS[plan])
    planned = compiled.plan["peak_bytes_per_rank"]
    assert len(planned) == PLANS[plan].ranks and min(planned) > 0
    run = compiled.train(compiled.folder.with_name(f"memory-{plan}"), "--steps", 3, "--data", tokens)
    assert run.list_by_rank("peak bytes") == planned
    assert run.column("peak_bytes") == [max(planned)] * 3
    growth = run.list_by_rank("resident")
    assert len(growth) == len(planned)
    for rank, (actual, peak) in enumerate(zip(growth, planned, strict=True)):
        assert actual <= peak + ALLOWANCE_BYTES, f"rank {rank}"


def test_plans_differ_in_memory(models):
    """Recomputation and tensor parallelism save what they should."""
    peaks = {
        plan: max(models("llama").compile(plan, PLANS[plan]).plan["peak_bytes_per_rank"])
        for plan in ("one", "tp2", "tp4", "recompute", "accumulate")
    }
    assert peaks["tp4"] < peaks["tp2"] < peaks["one"]
    assert peaks["recompute"] < peaks["tp2"]
    assert peaks["accumulate"] < peaks["one"]


@pytest.fixture(scope="module")
def search(models):
    """The program of a model under a budget, searched when first asked for."""
    made: dict[tuple[str, int], Compiled] = {}

    def get(name: str, budget: int) -> Compiled:
        if (name, budget) not in made:
            made[name, budget] = Compiled(models(name).folder / f"out-budget-{budget}")
            options = ("--search", "--lower", "--ranks=4", f"--memory={budget}")
            succeed("galvatron-opt", *options, models(name).program, "-o", made[name, budget].folder)
        return made[name, budget]

    return get


def budgets(models, name: str, count: int) -> list[int]:
    """From the least with a plan to nearly three times as much."""
    refused = call("galvatron-opt", "--search", models(name).program, "--ranks=4", "--memory=1KiB").stderr
    least = int(re.search(r"needs (\d+) bytes", refused).group(1))
    return [round(least * 2.6 ** (step / count)) for step in range(count)]


def chosen(plan: dict) -> dict:
    (result,) = (each for each in plan["reasons"]["lowered"] if each["lost_by"] is None)
    return result


@pytest.mark.parametrize("count", (9, pytest.param(27, marks=pytest.mark.wide)))
@pytest.mark.parametrize("name", ("gpt2", "llama"))
def test_more_memory_is_never_slower(name, count, models, search):
    """And every plan fits by its lowered bytes, after all that were found to be faster did not."""
    before = float("inf")
    strategies = set()
    for budget in budgets(models, name, count):
        plan = search(name, budget).plan
        seconds = plan["estimated_step_seconds"]  # what the search goes by
        assert seconds <= before * (1 + 1e-9), budget
        before = seconds
        peak = max(plan["peak_bytes_per_rank"])
        assert peak <= budget
        lowered = plan["reasons"]["lowered"]
        assert (chosen(plan)["bytes"], chosen(plan)["seconds"]) == (peak, seconds)
        assert all(each["bytes"] > budget for each in lowered if each["seconds"] < seconds * (1 - 1e-9))
        strategies.add(chosen(plan)["plan"])
    assert len(strategies) > 3, "the budgets say something"


def test_plan_that_only_its_lowered_bytes_allow_runs_in_them(models, tokens, search):
    """Where the estimate is over the budget and the program is not."""
    for budget in budgets(models, "llama", 27):
        compiled = search("llama", budget)
        lowered = compiled.plan["reasons"]["lowered"]
        slower = [each for each in lowered if each["bytes"] <= budget and each["estimated_bytes"] <= budget]
        if chosen(compiled.plan)["estimated_bytes"] > budget and slower:
            break
    else:
        pytest.fail("no budget lets a plan in that its estimate refuses")
    run = compiled.train(compiled.folder.with_name("memory-lowered"), "--steps", 2, "--data", tokens)
    assert run.list_by_rank("peak bytes") == compiled.plan["peak_bytes_per_rank"]
    assert max(run.column("peak_bytes")) <= budget
