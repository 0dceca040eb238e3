"""A loss or gradients that are not finite: the message says where that began, by name, and what to look at."""

from __future__ import annotations

import json
import re

import pytest
from harness import BATCH, SEQ
from plans import PLANS


@pytest.fixture(scope="module")
def stages(models):
    """Two stages of two devices, which cut parameters."""
    return models("llama").compile("tp2-pp2", PLANS["tp2-pp2"])


def failed(compiled, *options) -> str:
    result = compiled.launch("--quiet", *options)
    assert result.returncode == 72, result.stderr
    assert result.stderr.count("error:") == 1, result.stderr
    return result.stderr


@pytest.mark.parametrize(
    "name, place, value, stage",
    [
        ("lm_head.weight", (200, 5), "nan", 1),
        ("model.norm.weight", (63,), "inf", 1),
        ("model.layers.0.mlp.down_proj.weight", (40, 77), "nan", 0),
        ("model.embed_tokens.weight", None, "inf", 0),
    ],
)
def test_weights_of_a_file(name, place, value, stage, stages, tokens, tmp_path):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(stages.folder / "model.safetensors")
    place = place or (tokens.read_bytes()[3], 0)  # of a row that is read
    tensors[name][place] = float(value)
    file = tmp_path / "weights.safetensors"
    save_file(tensors, file)
    error = failed(stages, "--steps", 2, "--data", tokens, "--weights", file)
    told = f"parameter {name} (stage {stage}) is {value} at {list(place)}, as it was at the start; check {file}\n"
    assert "error: step 1: the loss is nan on rank " in error and told in error, error


def test_the_first_parameter_is_told(stages, tokens, tmp_path):
    """Whatever follows from it, and whoever has another one."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(stages.folder / "model.safetensors")
    for name in ("lm_head.weight", "model.layers.2.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"):
        tensors[name][5, 3] = float("nan")
    save_file(tensors, tmp_path / "weights.safetensors")
    error = failed(stages, "--steps", 2, "--data", tokens, "--weights", tmp_path / "weights.safetensors")
    assert "parameter model.layers.1.mlp.up_proj.weight (stage 0) is nan at [5, 3]" in error, error


@pytest.mark.parametrize(
    "rate, message",
    [
        ("1e39", r"parameter model\.\S+ \(stage 0\) is \S+ at \[.*\], since the update of step 1"),
        ("1e17", r"forward model\.layers\.0 micro-batch 0 \(stage 0\) gives \S+, .*; all parameters are, the largest, .*"),
        ("1e25", r"backward lm_head micro-batch 0 \(stage 1\) gives \S+, .*; all parameters are, the largest, .*"),
    ],
)
def test_an_update_that_overflows(rate, message, stages, tokens):
    """Parameters that are not finite: since which update. Else the layer that is the first to compute such values."""
    error = failed(stages, "--steps", 9, "--data", tokens, "--optimizer", "sgd", "--lr", rate)
    assert re.search(rf"error: step 2: .*: {message}; try a smaller --lr", error), error


def test_moments_of_a_checkpoint(stages, tokens, tmp_path):
    from safetensors.numpy import load_file, save_file

    saved = tmp_path / "saved"
    stages.train(tmp_path, "--steps", 1, "--data", tokens, "--save", saved)
    moments = load_file(saved / "optimizer.safetensors")
    moments["lm_head.weight.exp_avg"][7, 7] = float("nan")
    save_file(moments, saved / "optimizer.safetensors")
    (saved / "checksums.xxh128").unlink()
    error = failed(stages, "--steps", 4, "--data", tokens, "--load", saved)
    assert re.search(
        r"step 3: .*: parameter lm_head\.weight \(stage 1\) is nan at \[7, 7\], and so are its moments; "
        r"check the optimizer\.safetensors of ",
        error,
    ), error
    assert json.loads((saved / "training.json").read_text())["data"]["tokens"] >= BATCH * SEQ
