"""Checkpoints that transformers loads as they are, sharded too, and weights in shards that an import takes."""

from __future__ import annotations

import json
import os

import pytest
import torch
from harness import Compiled, call, config_of, succeed
from plans import PLANS
from safetensors.torch import load_file

from galvatron import export

OPTIONS = ("--lr", "3e-3", "--seed", 1)


def loss_of(model, batches) -> float:
    ids = load_file(batches)["input_ids"]
    with torch.no_grad():
        return model.float().eval()(input_ids=ids, labels=ids).loss.item()


@pytest.mark.parametrize(
    "name,size", [("llama", "5GB"), ("llama", "20KB"), pytest.param("gpt2", "20KB", marks=pytest.mark.wide)]
)
def test_transformers_loads_a_checkpoint_as_it_is(name, size, models, tokens, tmp_path):
    from transformers import AutoModelForCausalLM

    compiled = models(name).compile("dp2-tp2", PLANS["dp2-tp2"])
    run = tmp_path / "run"
    saving = ("--save", run, "--save-every", 2, "--shard-size", size)
    compiled.train(tmp_path / "first", "--steps", 4, "--data", tokens, *OPTIONS, *saving)
    index = run / "latest" / "model.safetensors.index.json"
    assert index.exists() == (size != "5GB")
    model = AutoModelForCausalLM.from_pretrained(run / "latest")
    rest = compiled.train(
        tmp_path / "rest", "--steps", 5, "--data", tokens, *OPTIONS, "--load", run, "--dump-batches", tmp_path
    )
    expected = loss_of(model, tmp_path / "step_000005.safetensors")
    assert float(rest.losses[0]) == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """A folder of bf16 weights as transformers saves them, and an archive of the same model without any."""
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("sharded")
    values = config_of("llama") | {"tie_word_embeddings": True}
    kind = values.pop("model_type")
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **values), dtype=torch.bfloat16)
    model.save_pretrained(folder / "hf", max_shard_size="20KB")
    assert (folder / "hf" / "model.safetensors.index.json").exists()
    config = folder / "config.json"
    config.write_text(json.dumps(values | {"model_type": kind}))
    assert export.main(["--config", str(config), "--weightless", "-o", str(folder / "model.pt")]) == 0
    return folder, model


def test_weights_of_a_folder_are_linked_and_trained_from(sharded, tokens, tmp_path):
    folder, model = sharded
    program = tmp_path / "tied.mlir"
    sizes = ("--batch", 8, "--seq", 16)
    for _ in range(2):  # what an import left is replaced by the next
        succeed("galvatron-import", folder / "model.pt", "--weights", folder / "hf", *sizes, "-o", program)
    linked = sorted((tmp_path / "tied.weights").iterdir())
    assert [file.name for file in linked] == sorted(file.name for file in (folder / "hf").glob("model*"))
    assert all(os.path.samefile(file, folder / "hf" / file.name) for file in linked)
    succeed("galvatron-opt", "--search", "--lower", program, "--ranks=2", "-o", tmp_path / "out")
    compiled = Compiled(tmp_path / "out")
    assert os.path.samefile(tmp_path / "out" / "tied.weights" / linked[0].name, linked[0])
    run = compiled.train(tmp_path / "run", "--steps", 1, "--data", tokens, *OPTIONS, "--dump-batches", tmp_path)
    assert float(run.losses[0]) == pytest.approx(loss_of(model, tmp_path / "step_000001.safetensors"), rel=1e-5)
    # One file is one file beside the program; and a program without weights takes the folder at its start.
    one = tmp_path / "one"
    model.base_model.save_pretrained(one)  # without the prefix
    succeed("galvatron-import", folder / "model.pt", "--weights", one, *sizes, "-o", tmp_path / "single.mlir")
    assert os.path.samefile(tmp_path / "single.safetensors", one / "model.safetensors")
    for weights in (folder / "hf", one):
        given = compiled.train(tmp_path / weights.name, "--steps", 1, "--data", tokens, *OPTIONS, "--weights", weights)
        assert given.losses == run.losses


def refused(folder, tmp_path, *options) -> str:
    result = call("galvatron-import", folder / "model.pt", "-o", tmp_path / "bad.mlir", *options)
    assert result.returncode == 1 and not (tmp_path / "bad.mlir").exists()
    return result.stderr


def test_weights_that_do_not_fit_are_refused(sharded, tmp_path):
    from transformers import AutoModelForCausalLM

    folder, model = sharded
    assert "expects a file or folder of weights after --weights" in refused(folder, tmp_path, "--weights=")
    assert "--weights: cannot open" in refused(folder, tmp_path, "--weights", tmp_path / "none")
    config = type(model.config)(**(model.config.to_dict() | {"intermediate_size": 24}))
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "narrow")
    assert "of shape [" in (text := refused(folder, tmp_path, "--weights", tmp_path / "narrow"))
    assert ": expects tensor model.layers.0.mlp.gate_proj.weight of shape" in text and ", but got [24, " in text
    config = type(model.config)(**(model.config.to_dict() | {"num_hidden_layers": 1}))
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "shallow")
    text = refused(folder, tmp_path, "--weights", tmp_path / "shallow")
    assert " has no tensor model.layers.1." in text and ", which the model needs; give the weights of this model" in text
    (tmp_path / "bad.weights").mkdir()
    (tmp_path / "bad.weights" / "notes.txt").write_text("kept")
    text = refused(folder, tmp_path, "--weights", folder / "hf")
    assert "bad.weights' to be free for a model's weights, but it is something else; name another file with -o" in text


def test_an_archive_with_weights_takes_no_others(models, sharded, tmp_path):
    text = refused(models("llama").folder, tmp_path, "--weights", sharded[0] / "hf")
    assert "--weights gives values to an archive without any, but this one has its own; leave --weights" in text


@pytest.mark.parametrize("plan", ("mixed", "tp2-pp2"))
def test_the_copy_in_host_memory_is_the_planned_one(plan, models, tokens, tmp_path):
    compiled = models("llama_tied").compile(plan, PLANS[plan])
    options = ("--steps", 2, "--data", tokens, "--save", tmp_path / "run", "--save-every", 1, *OPTIONS)
    run = compiled.train(tmp_path / "log", *options)
    assert run.list_by_rank("host bytes") == compiled.plan["host_bytes_per_rank"]
    elements = sum(tensor.numel() for tensor in load_file(tmp_path / "run/latest/model.safetensors").values())
    assert sum(compiled.plan["host_bytes_per_rank"]) == 12 * elements
