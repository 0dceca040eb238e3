"""Gradients of weights in a backward of their own (zb-h1, zb-v): training equals PyTorch, memory is what the plan says."""

from __future__ import annotations

import pytest
from equality import ADAMW, SGD, equals_pytorch
from harness import STEPS, Layout, Model, config_of, refusal_of

STRATEGIES = {
    "none": {},
    "tp2": {"tp": 2, "sequence_parallel": True},
    "dp2": {"dp": 2},
    "zero2": {"dp": 2, "zero": 2},
    "zero3": {"dp": 2, "zero": 3},
}


def layout_of(units: list[str], schedule: str, pipeline: int, micro_batches: int, even: bool, strategy: dict) -> Layout:
    """Uneven: all that is more than a unit for each part goes to the second. The parts of zb-v go down and up again."""
    virtual = 2 if schedule == "zb-v" else 1
    parts = pipeline * virtual
    part_of = [k * parts // len(units) for k in range(len(units))]
    if not even:
        part_of = sorted([*range(parts), *[1] * (len(units) - parts)])
    stages = [min(part, 2 * pipeline - 1 - part) for part in part_of]
    options = dict(strategy)
    ranks = pipeline * options.get("tp", 1) * options.pop("dp", 1)
    return Layout(
        ranks, stages=stages, schedule=schedule, virtual_stages=virtual, micro_batches=micro_batches, **options
    )


def plan_of(model: Model, layout: Layout, recompute: str, split: bool | None = None) -> dict:
    """Blocks recompute all, every second value of theirs, or nothing; `split`: the head's backward, as the plan says."""
    blocks = range(1, len(model.units) - 1)
    plan = layout.plan(model.units, model.batch)
    for k in blocks:
        if recompute == "layer":
            plan["units"][k]["strategy"]["recompute"] = True
        elif recompute == "value":
            made = model.compile("one", Layout()).plan
            names = made["recomputable_values"][made["units"][k]["layer_type"]]
            plan["units"][k]["strategy"]["recompute_values"] = names[::2]
    if split is not None:
        plan["units"][-1]["strategy"]["split_backward"] = split
    return plan


def expect_equal(model, name, plan, expected, tokens, record_property, options=SGD, norms=1e-5):
    compiled = model.compile_plan(name, plan)
    written = compiled.plan
    assert written["schedule"] == plan["schedule"]
    equals_pytorch(compiled, tokens, expected, options, norms, record_property)
    run = compiled.train(compiled.folder.with_name(f"peak-{name}"), "--steps", 1, "--data", tokens)
    assert run.list_by_rank("peak bytes") == written["peak_bytes_per_rank"]


@pytest.mark.parametrize(
    "schedule, name, strategy, even, recompute, split",
    (
        ("zb-h1", "llama_tied", "tp2", False, "value", True),
        pytest.param("zb-h1", "llama", "zero3", True, "layer", None, marks=pytest.mark.wide),
        ("zb-v", "llama_tied", "zero2", True, "none", None),
    ),
)
def test_equals_pytorch(schedule, name, strategy, even, recompute, split, models, reference, tokens, record_property):
    model = models(name)
    layout = layout_of(model.units, schedule, 2, 4, even, STRATEGIES[strategy])
    plan = plan_of(model, layout, recompute, split)
    expect_equal(model, f"{schedule}-{strategy}", plan, reference(name, *SGD), tokens, record_property)


@pytest.fixture(scope="module")
def deep(work, pytorch):
    """Eight units and 24 samples a step, with PyTorch's run."""
    made = {}

    def get(name: str, options):
        if name not in made:
            made[name] = Model(name, config_of(name, num_hidden_layers=6), work / f"zb-{name}", batch=24), {}
        model, runs = made[name]
        if options not in runs:
            runs[options] = pytorch(model, model.folder / f"pytorch-{options[1]}", "--steps", STEPS, *options)
        return model, runs[options]

    return get


SHAPES = ((2, 1), (2, 2), (2, 8), (3, 2), (3, 6), (4, 1), (4, 3), (4, 8))


@pytest.mark.wide
@pytest.mark.parametrize("recompute", ("none", "layer", "value"))
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("even", (True, False))
@pytest.mark.parametrize("pipeline, micro_batches", SHAPES)
@pytest.mark.parametrize("name", ("llama", "llama_tied"))
@pytest.mark.parametrize("schedule", ("zb-h1", "zb-v"))
def test_every_shape(schedule, name, pipeline, micro_batches, even, strategy, recompute, deep, tokens, record_property):
    model, expected = deep(name, SGD)
    layout = layout_of(model.units, schedule, pipeline, micro_batches, even, STRATEGIES[strategy])
    plan = plan_of(model, layout, recompute)
    label = f"{schedule}-p{pipeline}m{micro_batches}-{strategy}-{'even' if even else 'uneven'}-{recompute}"
    expect_equal(model, label, plan, expected, tokens, record_property, norms=1e-4)


@pytest.mark.wide
@pytest.mark.parametrize("name", ("llama", "llama_tied"))
@pytest.mark.parametrize("schedule", ("zb-h1", "zb-v"))
def test_adamw(schedule, name, deep, tokens, record_property):
    model, expected = deep(name, ADAMW)
    plan = plan_of(model, layout_of(model.units, schedule, 3, 6, True, STRATEGIES["dp2"]), "none")
    expect_equal(model, f"adamw-{schedule}", plan, expected, tokens, record_property, ADAMW, norms=1e-4)


def refusal(model, tmp_path, change) -> str:
    plan = layout_of(model.units, "zb-h1", 2, 4, True, {}).plan(model.units)
    change(plan)
    return refusal_of(model.program, plan, tmp_path)


def test_refuses_parts(models, tmp_path):
    complaint = "key 'virtual_stages' expects 1, the only part of a stage, under schedule zb-h1, but got 2"
    assert complaint in refusal(models("llama"), tmp_path, lambda plan: plan.update(virtual_stages=2))
