"""Recomputation value by value equals PyTorch, and takes the memory that the plan says."""

from __future__ import annotations

import json

import pytest
from equality import SGD, equals_pytorch
from harness import Layout, Model, call

LAYOUTS = {
    "tp2-pp2": Layout(ranks=4, tp=2, stages=[0, 0, 0, 1, 1], micro_batches=2),
    "dp2": Layout(ranks=2, micro_batches=2),
}


def names_of(model: Model) -> dict[str, list[str]]:
    return model.compile("one", Layout()).plan["recomputable_values"]


def with_values(model: Model, layout: Layout, values: dict[str, list[str]]) -> dict:
    """`values` by layer type."""
    plan = layout.plan(model.units, model.batch)
    types = {unit["path"]: unit["layer_type"] for unit in model.compile("one", Layout()).plan["units"]}
    for unit in plan["units"]:
        unit["strategy"]["recompute_values"] = values.get(types[unit["path"]], [])
    return plan


@pytest.mark.parametrize("name", ("gpt2", "llama"))
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("picked", ("all", "odd"))
def test_equals_pytorch(name, layout, picked, models, reference, tokens, record_property):
    model = models(name)
    step = 1 if picked == "all" else 2
    values = {kind: names[1 - (picked == "all") :: step] for kind, names in names_of(model).items()}
    compiled = model.compile_plan(f"values-{picked}-{layout}", with_values(model, LAYOUTS[layout], values))
    equals_pytorch(compiled, tokens, reference(name, *SGD), SGD, 1e-5, record_property)
    planned = compiled.plan["peak_bytes_per_rank"]
    run = compiled.train(compiled.folder.with_name(f"peak-{picked}-{layout}"), "--steps", 1, "--data", tokens)
    assert run.list_by_rank("peak bytes") == planned
    units = [unit["strategy"].get("recompute_values", []) for unit in compiled.plan["units"]]
    assert any(units)


def test_dropout_masks_are_the_same(models, tmp_path, tokens):
    """Recomputed, a mask is that of forward: losses stay the same."""
    model = models("gpt2_dropout")
    layout = Layout(ranks=2, tp=2, micro_batches=2)
    plain = model.compile("plain", layout)
    again = model.compile_plan("again", with_values(model, layout, names_of(model)))
    options = ("--steps", 4, "--data", tokens, "--optimizer", "sgd", "--lr", "0.1")
    found = [each.train(tmp_path / each.folder.name, *options).column("loss") for each in (plain, again)]
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_unknown_name(models):
    model = models("llama")
    plan = Layout().plan(model.units, model.batch)
    plan["units"][1]["strategy"]["recompute_values"] = ["mlp.gate"]
    file = model.folder / "unknown.json"
    file.write_text(json.dumps(plan))
    result = call("galvatron-opt", f"--plan={file}", "--lower", model.program, "-o", model.folder / "unknown")
    assert result.returncode == 1
    assert "layer 'model.layers.0' expects key 'recompute_values' to name values out of" in result.stderr
    assert "mlp.gate_proj" in result.stderr and "but got 'mlp.gate'; remove it" in result.stderr
