"""A saved run goes on as if it had never stopped, under any plan, and its weights are what transformers loads."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from harness import BATCH, SEQ, Compiled, Layout, call, succeed
from plans import PLANS

from galvatron import compare

# 12 steps in all, of which the schedule must know; the checkpoint is taken after 6.
OPTIONS = ("--lr", "3e-3", "--warmup", "2", "--weight-decay", "0.1", "--clip-grad", "1", "--shuffle")


def first_half(compiled, tokens, folder, *options):
    return compiled.train(folder, "--steps", 6, "--data", tokens, "--save", folder / "saved", *OPTIONS, *options)


@pytest.mark.parametrize("plan", ("one", "dp2-tp2", "tp2-pp2", "mixed"))
@pytest.mark.parametrize("optimizer", ("adamw", "sgd"))
def test_continues_exactly(plan, optimizer, models, tokens, tmp_path):
    compiled = models("llama").compile(plan, PLANS[plan])
    whole = compiled.train(
        tmp_path / "whole",
        "--steps",
        12,
        "--data",
        tokens,
        "--optimizer",
        optimizer,
        *OPTIONS,
        "--save",
        tmp_path / "a",
    )
    half = first_half(compiled, tokens, tmp_path / "half", "--optimizer", optimizer)
    rest = compiled.train(
        tmp_path / "rest",
        "--steps",
        12,
        "--data",
        tokens,
        "--optimizer",
        optimizer,
        *OPTIONS,
        "--load",
        tmp_path / "half" / "saved",
        "--save",
        tmp_path / "b",
    )
    assert half.losses == whole.losses[:6]
    assert [row["step"] for row in rest.log] == ["7", "8", "9", "10", "11", "12"]
    assert rest.losses == whole.losses[6:]
    for file in ("model.safetensors", "optimizer.safetensors"):
        if (tmp_path / "a" / file).exists():
            assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("model", ("llama", "gpt2"))
@pytest.mark.parametrize("before, after", [("dp2-tp2-pp2", "one"), ("mixed", "pp2-gpipe"), ("one", "tp4")])
def test_continues_under_another_plan(model, before, after, models, tokens, tmp_path):
    compiled = models(model).compile(before, PLANS[before])
    whole = compiled.train(tmp_path / "whole", "--steps", 12, "--data", tokens, *OPTIONS)
    first_half(compiled, tokens, tmp_path / "half")
    other = models(model).compile(after, PLANS[after])
    rest = other.train(
        tmp_path / "rest", "--steps", 12, "--data", tokens, *OPTIONS, "--load", tmp_path / "half" / "saved"
    )
    differences = compare.compare_columns(rest.log, whole.log[6:], "loss", 5e-4)
    assert not [d for d in differences if not d.passed]


@pytest.mark.parametrize("model", ("llama", "llama_tied", "gpt2"))
@pytest.mark.parametrize("plan", ("dp2-tp2-pp2", "mixed"))
def test_transformers_loads_what_was_saved(model, plan, models, tokens, tmp_path):
    """Names, shapes and layouts are the module's own; it gives the loss that the next step logs."""
    import numpy
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    compiled = models(model).compile(plan, PLANS[plan])
    saved = tmp_path / "run" / "saved"
    options = ("--data", tokens, "--lr", "3e-3")
    compiled.train(tmp_path / "run", "--steps", 5, *options, "--save", saved)
    next_step = compiled.train(tmp_path / "next", "--steps", 6, *options, "--load", saved)
    shutil.copy(models(model).folder / "config.json", saved / "config.json")
    module, report = AutoModelForCausalLM.from_pretrained(saved, output_loading_info=True)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not report.get(key), f"{key}: {report[key]}"
    assert AutoConfig.from_pretrained(saved).model_type == module.config.model_type
    rows = numpy.fromfile(tokens, numpy.uint8).astype(numpy.int64)[5 * BATCH * SEQ : 6 * BATCH * SEQ]
    ids = torch.from_numpy(rows.reshape(BATCH, SEQ))
    with torch.no_grad():
        loss = float(module.train()(input_ids=ids, labels=ids).loss)
    assert loss == pytest.approx(float(next_step.log[0]["loss"]), rel=1e-5)


def test_a_run_that_is_not_finite_saves_the_state_before(models, tokens, tmp_path):
    compiled = models("llama").compile("dp2-tp2", PLANS["dp2-tp2"])
    first_half(compiled, tokens, tmp_path)
    assert json.loads((tmp_path / "saved" / "training.json").read_text())["step"] == 6
    result = call(
        compiled.folder / "launch",
        "--steps",
        9,
        "--data",
        tokens,
        "--shuffle",
        "--optimizer",
        "sgd",
        "--lr",
        "1e30",
        "--override",
        "all",
        "--load",
        tmp_path / "saved",
        "--save",
        tmp_path / "saved",
    )
    assert result.returncode == 72 and "error: step 8: " in result.stderr, result.stderr
    assert json.loads((tmp_path / "saved" / "training.json").read_text())["step"] == 7
    succeed("xxh128sum", "-c", "--quiet", "checksums.xxh128", cwd=tmp_path / "saved")


def test_longer_sequences_go_on_at_the_same_token(models, tokens, tmp_path):
    """As a run does that starts with these weights and what is left of the data."""
    compiled = models("llama").compile("one", PLANS["one"])
    compiled.train(tmp_path / "run", "--steps", 5, "--data", tokens, "--optimizer", "sgd", "--save", tmp_path / "saved")
    place = 5 * BATCH * SEQ
    program, plan = tmp_path / "longer.mlir", compiled.folder / "plan.json"
    # 640 is no whole number of 48: windows then begin elsewhere than they would in a fresh run.
    succeed("galvatron-import", models("llama").archive, "--batch", BATCH, "--seq", 3 * SEQ, "-o", program)
    succeed("galvatron-opt", f"--plan={plan}", "--lower", program, "-o", tmp_path / "longer")
    longer = Compiled(tmp_path / "longer")
    options = ("--steps", 6, "--optimizer", "sgd")
    result = longer.launch("--data", tokens, "--load", tmp_path / "saved", *options)
    assert result.returncode == 1
    assert "in sequences of 16, not 48 tokens; give it what it had, or pass --override seq" in result.stderr
    rest = longer.train(
        tmp_path / "rest", "--data", tokens, "--load", tmp_path / "saved", "--override", "seq", *options
    )
    assert f"from token {place} on" in rest.output
    cut = tmp_path / "cut.bin"
    cut.write_bytes(tokens.read_bytes()[place:])
    fresh = longer.train(
        tmp_path / "fresh", "--data", cut, "--weights", tmp_path / "saved" / "model.safetensors", *options
    )
    assert rest.losses == fresh.losses[:1]


def test_tied_weights_that_differ(models, tokens, tmp_path):
    """Both names, and no guess which is meant; equal ones are one."""
    from safetensors.numpy import load_file, save_file

    compiled = models("llama_tied").compile("pp2", Layout(ranks=2, stages=[0, 0, 0, 1, 1]))
    tensors = load_file(compiled.folder / "model.safetensors")
    table = tensors["model.embed_tokens.weight"]
    file = tmp_path / "weights.safetensors"
    save_file(tensors | {"lm_head.weight": table.copy()}, file)
    equal = compiled.train(tmp_path / "equal", "--steps", 1, "--data", tokens, "--weights", file)
    alone = compiled.train(tmp_path / "alone", "--steps", 1, "--data", tokens)
    assert equal.losses == alone.losses
    save_file(tensors | {"lm_head.weight": table + 1e-3}, file)
    result = compiled.launch("--steps", 1, "--data", tokens, "--weights", file)
    assert result.returncode == 1
    assert re.search(r"model\.embed_tokens\.weight and lm_head\.weight differ", result.stderr), result.stderr
