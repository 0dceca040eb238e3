"""ZeRO: ranks share the states of parameters, and training is PyTorch's all the same.

Three AdamW steps or more, as a stale gathered copy shows in the second; weight decay, and clipping that binds.
"""

from __future__ import annotations

import json

import pytest
from harness import Layout, Model, call, config_of
from plans import PLANS
from test_equality import ADAMW, SGD, equals_pytorch

from galvatron import compare

TRAIN = ("--lr", "3e-3", "--warmup", "2", "--weight-decay", "0.1", "--clip-grad", "1", "--shuffle")
PP = [0, 0, 0, 1, 1]
LAYOUTS = {
    "dp2": PLANS["dp2"],
    "dp2-accumulate": Layout(ranks=2, micro_batches=4),
    "dp4": Layout(ranks=4, micro_batches=2),
    "dp2-tp2": PLANS["dp2-tp2"],
    "dp2-pp2": Layout(ranks=4, stages=PP, micro_batches=4),
    "dp2-tp2-pp2": PLANS["dp2-tp2-pp2"],
    "mixed-pp2": Layout(ranks=8, tp=[2, 2, 1, 2, 1], stages=PP, micro_batches=2),
    "recompute": Layout(ranks=2, micro_batches=2, recompute=[False, True, False, True, False]),
}


def compile_zero(models, model: str, name: str, level: int | list[int], layout: Layout | None = None):
    """`level`: one for all layers, or one each."""
    made = models(model)
    plan = (layout or LAYOUTS[name]).plan(made.units, made.batch)
    levels = level if isinstance(level, list) else [level] * len(made.units)
    for unit, own in zip(plan["units"], levels, strict=True):
        unit["strategy"]["zero"] = own
    return made.compile_plan(f"{name}-zero{level}", plan)


@pytest.mark.parametrize("level", (1, 2, 3))
@pytest.mark.parametrize("name", LAYOUTS)
def test_adamw(name, level, models, reference, tokens, record_property):
    compiled = compile_zero(models, "llama", name, level)
    equals_pytorch(compiled, tokens, reference("llama", *ADAMW), ADAMW, 1e-5, record_property)


@pytest.mark.parametrize("level", (1, 2, 3))
@pytest.mark.parametrize("model", ("gpt2", "llama_tied"))
@pytest.mark.parametrize("name", ("dp2-tp2", "dp2-pp2", "dp2-accumulate"))
def test_sgd_with_gradients(name, model, level, models, reference, tokens, record_property):
    """Gradients of the first step, and clipping; a table that both ends read, on one stage or two."""
    compiled = compile_zero(models, model, name, level)
    equals_pytorch(compiled, tokens, reference(model, *SGD), SGD, 1e-5, record_property)


def test_a_level_for_each_layer(models, reference, tokens, record_property):
    compiled = compile_zero(models, "llama", "dp2-accumulate", [3, 1, 0, 2, 1])
    equals_pytorch(compiled, tokens, reference("llama", *ADAMW), ADAMW, 1e-5, record_property)


@pytest.mark.parametrize("level", (1, 2, 3))
def test_three_ranks(level, models, tokens, tmp_path):
    """A number that divides no parameter: against one device on the same batch."""
    model = Model("llama", config_of("llama"), tmp_path / "model", batch=6)
    runs = []
    for ranks in (1, 3):
        plan = Layout(ranks=ranks, micro_batches=2).plan(model.units, 6)
        for unit in plan["units"]:
            unit["strategy"]["zero"] = level if ranks > 1 else 0
        compiled = model.compile_plan(f"dp{ranks}", plan)
        runs.append(compiled.train(tmp_path / str(ranks), "--steps", 5, "--data", tokens, *TRAIN))
    for column in ("loss", "grad_norm"):
        assert all(d.passed for d in compare.compare_columns(runs[1].log, runs[0].log, column, 1e-4))


@pytest.mark.parametrize("level", (1, 2, 3))
@pytest.mark.parametrize("name", ("dp2", "dp2-tp2-pp2", "dp2-accumulate"))
def test_peak_equals_the_plan(name, level, models, tokens, tmp_path):
    compiled = compile_zero(models, "llama", name, level)
    run = compiled.train(tmp_path, "--steps", 2, "--data", tokens)
    assert run.list_by_rank("peak bytes") == compiled.plan["peak_bytes_per_rank"]


def test_levels_save_memory(models):
    peaks = [
        max(compile_zero(models, "llama", "dp4", level).plan["peak_bytes_per_rank"]) for level in (0, 1, 2, 3)
    ]
    assert peaks == sorted(peaks, reverse=True) and len(set(peaks)) == 4


def saved(compiled, tokens, folder, steps, *options):
    compiled.train(folder, "--steps", steps, "--data", tokens, "--save", folder / "saved", *TRAIN, *options)
    return folder / "saved"


@pytest.mark.parametrize("level", (1, 2, 3))
@pytest.mark.parametrize("model", ("llama", "gpt2"))
def test_checkpoints_under_any_plan(model, level, models, tokens, tmp_path):
    """Written under a level, read under pp and under no level, moments and all; and the other way round."""
    from safetensors.numpy import load_file

    zero = compile_zero(models, model, "dp2-tp2-pp2", level)
    others = [models(model).compile("pp2-1f1b", PLANS["pp2-1f1b"]), models(model).compile("one", PLANS["one"])]
    first = saved(zero, tokens, tmp_path / "first", 3)
    expected = saved(others[1], tokens, tmp_path / "expected", 3)
    for file in ("model.safetensors", "optimizer.safetensors"):
        found, wanted = load_file(first / file), load_file(expected / file)
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            scale = max(abs(value).max(), 1e-7)
            assert abs(found[name] - value).max() <= 2e-3 * scale, name
    # One step on from the same checkpoint.
    for number, other in enumerate([*others, zero]):
        again = saved(other, tokens, tmp_path / f"again{number}", 4, "--load", first)
        rest = saved(zero, tokens, tmp_path / f"rest{number}", 4, "--load", first)
        for file in ("model.safetensors", "optimizer.safetensors"):
            found, wanted = load_file(again / file), load_file(rest / file)
            for name, value in wanted.items():
                scale = max(abs(value).max(), 1e-7)
                assert abs(found[name] - value).max() <= 2e-3 * scale, name


@pytest.mark.parametrize("level", (1, 2, 3))
def test_continues_exactly(level, models, tokens, tmp_path):
    compiled = compile_zero(models, "llama", "dp2-accumulate", level)
    whole = saved(compiled, tokens, tmp_path / "whole", 6)
    half = saved(compiled, tokens, tmp_path / "half", 3)
    rest = saved(compiled, tokens, tmp_path / "rest", 6, "--load", half)
    for file in ("model.safetensors", "optimizer.safetensors"):
        assert (whole / file).read_bytes() == (rest / file).read_bytes()


def test_nothing_to_share_is_refused(models, tmp_path):
    plan = Layout(ranks=2, tp=2).plan(models("llama").units)
    plan["units"][1]["strategy"]["zero"] = 2
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    options = (f"--plan={tmp_path / 'plan.json'}", "--lower", "-o", tmp_path / "out")
    result = call("galvatron-opt", models("llama").program, *options)
    assert result.returncode == 1
    assert "'model.layers.0' (stage 0) key 'zero' expects 0 where dp x ulysses x cp is 1, but got 2" in result.stderr
