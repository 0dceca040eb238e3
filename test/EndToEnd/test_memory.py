"""Peak memory is a fact: what the runtime counts at its allocation calls is what the plan said, on every rank."""

from __future__ import annotations

import pytest
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
