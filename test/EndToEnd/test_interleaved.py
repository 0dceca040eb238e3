"""Stages that hold several parts of the model: training equals PyTorch, memory is what the plan says."""

from __future__ import annotations

import pytest
from equality import SGD, equals_pytorch
from harness import STEPS, Layout, Model, config_of, refusal_of

STRATEGIES = {
    "none": {},
    "tp2": {"tp": 2},
    "dp2": {"dp": 2},
    "zero3": {"dp": 2, "zero": 3},
}


def layout_of(units: list[str], pipeline: int, virtual: int, micro_batches: int, even: bool, strategy: dict) -> Layout:
    """Uneven: all that is more than a unit for each part goes to the second part."""
    parts = pipeline * virtual
    if even:
        part_of = [k * parts // len(units) for k in range(len(units))]
    else:
        part_of = sorted([*range(parts), *[1] * (len(units) - parts)])
    options = dict(strategy)
    ranks = pipeline * options.get("tp", 1) * options.pop("dp", 1)
    stages = [part % pipeline for part in part_of]
    return Layout(
        ranks, stages=stages, schedule="interleaved", virtual_stages=virtual, micro_batches=micro_batches, **options
    )


def expect_equal(model, name, layout, expected, tokens, record_property, norms=1e-5):
    compiled = model.compile(name, layout)
    written = compiled.plan
    assert written["schedule"] == "interleaved" and written["virtual_stages"] == layout.virtual_stages
    assert {unit["chunk"] for unit in written["units"]} == set(range(layout.virtual_stages))
    equals_pytorch(compiled, tokens, expected, SGD, norms, record_property)
    run = compiled.train(compiled.folder.with_name(f"peak-{name}"), "--steps", 1, "--data", tokens)
    assert run.list_by_rank("peak bytes") == written["peak_bytes_per_rank"]


@pytest.mark.parametrize("name, strategy, even", (("llama_tied", "tp2", False), ("llama", "zero3", True)))
def test_equals_pytorch(name, strategy, even, models, reference, tokens, record_property):
    """Five units on four parts."""
    model = models(name)
    layout = layout_of(model.units, 2, 2, 4, even, STRATEGIES[strategy])
    expect_equal(model, f"v2-{strategy}", layout, reference(name, *SGD), tokens, record_property)


@pytest.fixture(scope="module")
def deep(work, pytorch):
    """Twelve units and 24 samples a step, with PyTorch's run."""
    made = {}

    def get(name: str):
        if name not in made:
            model = Model(name, config_of(name, num_hidden_layers=10), work / f"deep-{name}", batch=24)
            made[name] = model, pytorch(model, model.folder / "pytorch", "--steps", STEPS, *SGD)
        return made[name]

    return get


SHAPES = ((2, 2, 2), (2, 3, 12), (3, 2, 3), (3, 3, 6), (4, 2, 4), (4, 3, 12))


@pytest.mark.wide
@pytest.mark.parametrize("recompute", (False, True))
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("even", (True, False))
@pytest.mark.parametrize("pipeline, virtual, micro_batches", SHAPES)
@pytest.mark.parametrize("name", ("llama", "llama_tied"))
def test_every_shape(name, pipeline, virtual, micro_batches, even, strategy, recompute, deep, tokens, record_property):
    model, expected = deep(name)
    layout = layout_of(model.units, pipeline, virtual, micro_batches, even, STRATEGIES[strategy])
    layout.recompute = [recompute and 0 < k < len(model.units) - 1 for k in range(len(model.units))]
    label = f"p{pipeline}v{virtual}m{micro_batches}-{strategy}-{'even' if even else 'uneven'}-{recompute}"
    expect_equal(model, label, layout, expected, tokens, record_property, norms=1e-4)


def refusal(model, tmp_path, change) -> str:
    plan = layout_of(model.units, 2, 2, 4, True, {}).plan(model.units)
    change(plan)
    return refusal_of(model.program, plan, tmp_path)


@pytest.mark.parametrize(
    "change, complaint",
    (
        (
            lambda plan: plan["units"][1].update(chunk=1),
            "(stage 0) key 'chunk' expects 0, as many times as schedule interleaved has come by its stage before, "
            "but got 1; correct it, or leave it out",
        ),
        (
            lambda plan: plan.update(schedule="1f1b"),
            "key 'virtual_stages' expects 1, the only part of a stage, under schedule 1f1b, but got 2; remove it, or "
            "use schedule interleaved",
        ),
        (
            lambda plan: plan.update(micro_batches=1),
            "key 'micro_batches' expects a multiple of the 2 stages under schedule interleaved, but got 1; change either",
        ),
        (
            lambda plan: plan.update(virtual_stages=3),
            "key 'virtual_stages' expects a unit for each of the 6 parts (pipeline x virtual_stages), but got 5 units "
            "with virtual_stages 3; lower it, or 'pipeline'",
        ),
        (
            lambda plan: plan["units"][1]["strategy"].update(split_backward=True),
            "key 'split_backward' expects schedule zb-h1 or zb-v, which give weights a backward of their own, but got "
            "schedule interleaved with split_backward true; remove it",
        ),
    ),
    ids=("chunk", "virtual", "micro-batches", "units", "split"),
)
def test_refuses(change, complaint, models, tmp_path):
    assert complaint in refusal(models("llama"), tmp_path, change)
