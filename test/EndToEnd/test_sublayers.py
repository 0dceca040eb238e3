"""Attention and feed-forward of a layer under strategies of their own equal PyTorch.

The plan names two submodules where it would name the layer. Loss and gradient norm of each step, the first step's
gradients, and losses after AdamW's steps.
"""

from __future__ import annotations

import json

import pytest
from harness import Layout, Model, call, check_equal, config_of, succeed, targets, train_adamw

SP = {"tp": 2, "sequence_parallel": True}
# Attention and feed-forward; the rest of four ranks is dp.
HALVES = {
    "sp-ulysses": (SP, {"ulysses": 2}),
    "zero3-tp": ({"zero": 3}, {"tp": 4}),
    "recompute-attention": ({"tp": 2, "recompute": True}, {"tp": 2}),
    "zero-recompute-mlp": ({"cp": 2, "zero": 2}, {"dp": 4, "zero": 3, "recompute": True}),
}
NAMES = {
    "llama": ("self_attn", "mlp"),
    "gpt2": ("attn", "mlp"),
    "gpt2_dropout": ("attn", "mlp"),
    "gpt_neox": ("attention", "mlp"),  # in parallel, a norm each
    "falcon": ("self_attention", "mlp"),  # in parallel, one norm
    "bloom": ("self_attention", "mlp"),
    "opt": ("self_attn", "mlp"),  # whose fc1 and fc2 are in no module of their own
}


def plan_of(model, halves, cut=(0, 1, 2), stages=(0, 0, 0, 0, 0), ranks=4) -> dict:
    """Layers `cut` in two; all others with tp 2, ends data parallel."""
    first, *blocks, last = model.units
    units = [{"path": first, "stage": 0}]
    for number, (path, stage) in enumerate(zip(blocks, stages[1:])):
        parts = zip(NAMES[model.name], halves, strict=True) if number in cut else [("", {"tp": 2})]
        for name, strategy in parts:
            units.append({"path": path + (name and "." + name), "stage": stage, "strategy": strategy})
    units.append({"path": last, "stage": stages[-1]})
    return {"ranks": ranks, "global_batch": 8, "micro_batches": 2, "units": units}


@pytest.mark.parametrize("halves", HALVES)
@pytest.mark.parametrize("name", ("llama", "gpt2", "gpt_neox", "falcon"))
def test_equals_pytorch(name, halves, trained, tokens, tmp_path):
    model, expected = trained(name)
    compiled = model.compile_plan(f"halves-{halves}", plan_of(model, HALVES[halves]))
    run = train_adamw(compiled, tokens, tmp_path)
    check_equal(run, expected)
    assert run.list_by_rank("peak bytes") == compiled.plan["peak_bytes_per_rank"]


def test_a_residual_inside_of_attention(trained, tokens, tmp_path):
    model, expected = trained("bloom")
    plan = plan_of(model, HALVES["sp-ulysses"], cut=(1,))
    check_equal(train_adamw(model.compile_plan("halves", plan), tokens, tmp_path), expected)


def test_stages_and_recomputed_values(trained, tokens, tmp_path):
    """Names of values are those of the whole layer; the plan that is written reads back to the same program."""
    model, expected = trained("llama")
    values = ["self_attn.q_proj.rope", "self_attn.attention"]
    halves = ({"tp": 2, "recompute_values": values}, {"recompute_values": ["mlp.up_proj"]})
    plan = plan_of(model, halves, cut=(0, 2), stages=(0, 0, 0, 1, 1))
    compiled = model.compile_plan("values", plan | {"ranks": 4})
    check_equal(train_adamw(compiled, tokens, tmp_path), expected)
    written = compiled.plan
    assert [unit["path"] for unit in written["units"]] == [unit["path"] for unit in plan["units"]]
    names = written["recomputable_values"]
    assert "mlp.up_proj" in names["decoder.mlp"] and "mlp.up_proj" in names["decoder"]
    assert not [name for name in names["decoder.self_attn"] if name.startswith("mlp")]
    again = model.compile_plan("again", written)
    assert again.plan == written
    options = ("--explain", "--lower", "-o", tmp_path / "out")
    explained = succeed("galvatron-opt", f"--plan={compiled.folder / 'plan.json'}", model.program, *options).stdout
    assert "recomputable values of decoder.mlp: " in explained
    assert "model.layers.0.self_attn" in explained


def test_a_plan_after_import(trained, tmp_path):
    """Layers are cut from the program after phase import too, as long as there is no backward."""
    model, _ = trained("llama")
    file, plan = tmp_path / "plan.json", plan_of(model, HALVES["sp-ulysses"], cut=(0,))
    file.write_text(json.dumps(plan))
    programs = {}
    for phase in ("import", "differentiate"):
        programs[phase] = tmp_path / f"{phase}.mlir"
        programs[phase].write_text(succeed("galvatron-opt", f"--compile-to={phase}", model.program).stdout)
    planned = [
        succeed("galvatron-opt", f"--plan={file}", "--compile-to=plan", program).stdout
        for program in (model.program, programs["import"])
    ]
    assert planned[0] == planned[1] and planned[0].count("graph.block") == 2
    late = call("galvatron-opt", f"--plan={file}", "--compile-to=plan", programs["differentiate"])
    assert late.returncode == 1
    part = "lists 'model.layers.0.self_attn', a submodule of layer 'model.layers.0', which this program has as a whole"
    assert part in late.stderr
    program = tmp_path / "halves.mlir"
    program.write_text(succeed("galvatron-opt", f"--plan={file}", "--compile-to=differentiate", model.program).stdout)
    whole = {"ranks": 4, "units": [{"path": path} for path in model.units]}
    file.write_text(json.dumps(whole))
    late = call("galvatron-opt", f"--plan={file}", "--compile-to=plan", program)
    assert "lists the layer 'model.layers.0', which this program has as its halves 'model.layers.0.self" in late.stderr
    late = call("galvatron-opt", "--search", "--ranks=2", "--compile-to=plan", program)
    assert "expects whole layers to search a plan for, but got 'model.layers.0.self_attn'" in late.stderr
    file.write_text(json.dumps({"pp_deg": 1, "tp_sizes_enc": "1,1,1,1", "world_size": 2}))
    late = call("galvatron-opt", f"--plan={file}", "--compile-to=plan", program)
    assert "in the reference's format has whole layers, but this program has 'model.layers.0.self_attn'" in late.stderr


@pytest.mark.parametrize("name", ("gpt2_dropout", "opt"))
def test_dropout_masks_are_those_of_the_whole_layer(name, tokens, tmp_path):
    model = Model(name, config_of(name), tmp_path / "model")
    expected = train_adamw(model.compile("one", Layout()), tokens, tmp_path / "one")
    compiled = model.compile_plan("halves", plan_of(model, HALVES["recompute-attention"], cut=(0, 2)))
    check_equal(train_adamw(compiled, tokens, tmp_path / "halves"), expected)


@pytest.mark.parametrize("halves", HALVES)
def test_timetable_is_proved(halves, trained):
    model, _ = trained("falcon")
    folder = model.compile_plan(f"halves-{halves}", plan_of(model, HALVES[halves])).folder
    proof = succeed("galvatron-opt", f"--plan={folder / 'plan.json'}", "--verify-timetable", model.program).stdout
    assert "proved" in proof


@pytest.mark.skipif("cuda" not in targets(), reason="no libraries of a GPU")
@pytest.mark.parametrize("halves", HALVES)
def test_compiles_for_gpus(halves, trained, tmp_path):
    model, _ = trained("llama")
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(plan_of(model, HALVES[halves])))
    for precision in ("fp32", "bf16"):
        options = ("--target=cuda", f"--precision={precision}", "-o", tmp_path / precision)
        succeed("galvatron-opt", f"--plan={file}", "--lower", model.program, *options)


def with_units(plan, change) -> dict:
    units = [dict(unit) for unit in plan["units"]]
    change(units)
    return plan | {"units": units}


PATH = "model.layers.0"
WRONG = {
    "one alone": (lambda units: units.pop(2), f"layer '{PATH}' is listed by its submodule 'self_attn' alone"),
    "layer too": (lambda units: units.append({"path": PATH}), f"is listed as '{PATH}' and by its submodule"),
    "unknown": (lambda units: units[2].update(path=PATH + ".ffn"), f"layer '{PATH}' has no submodule 'ffn'"),
    "two stages": (
        lambda units: [unit.update(stage=1) for unit in units[2:]],
        f"plan layer '{PATH}.mlp' (stage 1) key 'stage' expects 0, where the other half of '{PATH}' is, but got 1; "
        "put both on one stage",
    ),
    "unknown value": (
        lambda units: units[1].update(strategy={"recompute_values": ["mlp.up_proj"]}),
        f"layer '{PATH}.self_attn' expects key 'recompute_values' to name values out of",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_halves(case, trained, tmp_path):
    model, _ = trained("llama")
    change, complaint = WRONG[case]
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(with_units(plan_of(model, ({}, {})), change)))
    result = call("galvatron-opt", f"--plan={file}", "--lower", model.program, "-o", tmp_path / "out")
    assert result.returncode == 1 and complaint in result.stderr
    assert not (tmp_path / "out").exists()
