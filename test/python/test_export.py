"""`galvatron.export`: names, ties, metadata, weightless archives, and every error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile

import pytest
import torch
from conftest import MODELS, ROOT
from torch import nn

import galvatron
from galvatron import archive, export, huggingface
from galvatron.errors import GalvatronError


def run(*arguments) -> int:
    return export.main([str(a) for a in arguments])


def test_parameter_names_are_the_model_s_own(tmp_path):
    path = tmp_path / "model.pt"
    assert run("--config", MODELS / "llama.json", "-o", path) == 0
    loaded, description = archive.load(path)
    model = huggingface.build_random(huggingface.read_config(MODELS / "llama.json"), "sdpa", 0)
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    assert "model.layers.0.self_attn.q_proj.weight" in names
    assert sorted(n for n, _ in loaded.named_parameters(remove_duplicate=False)) == sorted(names)
    assert [p["name"] for p in description["parameters"]] == names
    assert description["prefix"] == ""


def test_metadata(tmp_path):
    path = tmp_path / "model.pt"
    assert run("--config", MODELS / "gpt2.json", "-o", path, "--attn", "eager", "--seed", "3") == 0
    _, description = archive.load(path)
    assert description["format_version"] == archive.FORMAT_VERSION
    assert description["torch"] == torch.__version__
    assert description["attention"] == "eager"
    assert description["loss"] == "causal-lm"
    assert description["seed"] == 3
    assert description["weightless"] is False
    assert description["inputs"] == ["input_ids", "labels"]
    assert description["example"] == {"batch": 2, "seq": 16}
    first = description["parameters"][0]
    assert first["name"] == "transformer.wte.weight"
    assert first["shape"] == [256, 64]
    assert first["dtype"] == "float32"


def test_tied_parameters_keep_both_names_and_one_storage(tmp_path):
    path = tmp_path / "model.pt"
    assert run("--config", MODELS / "llama_tied.json", "-o", path) == 0
    loaded, description = archive.load(path)
    names = ["model.embed_tokens.weight", "lm_head.weight"]
    assert description["ties"] == [names]
    parameters = dict(loaded.named_parameters(remove_duplicate=False))
    assert parameters[names[0]].data_ptr() == parameters[names[1]].data_ptr()
    tied = [p for p in description["parameters"] if "tied_to" in p]
    assert [(p["name"], p["tied_to"]) for p in tied] == [(names[1], names[0])]


def test_weightless_archive_holds_no_weights_but_shapes_and_ties(tmp_path):
    path = tmp_path / "model.pt"
    assert run("--config", MODELS / "llama_tied.json", "-o", path, "--weightless") == 0
    loaded, description = archive.load(path)
    assert description["weightless"] is True and description["seed"] is None
    storages = {}
    for name, parameter in loaded.named_parameters(remove_duplicate=False):
        assert not any(parameter.stride())
        assert parameter.untyped_storage().nbytes() == 4
        storages.setdefault(parameter.data_ptr(), []).append(name)
    shared = [sorted(names) for names in storages.values() if len(names) > 1]
    assert shared == [["lm_head.weight", "model.embed_tokens.weight"]]
    shapes = {p["name"]: p["shape"] for p in description["parameters"]}
    assert shapes["model.layers.2.mlp.down_proj.weight"] == [64, 96]


def test_buffers_are_real_in_a_weightless_archive(tmp_path):
    path = tmp_path / "model.pt"
    assert run("--config", MODELS / "llama3_rope.json", "-o", path, "--weightless") == 0
    loaded, description = archive.load(path)
    frequencies = dict(loaded.named_buffers())["model.rotary_emb.inv_freq"]
    config = huggingface.read_config(MODELS / "llama3_rope.json")
    original = dict(huggingface.build_random(config, "sdpa", 0).named_buffers())
    torch.testing.assert_close(frequencies, original["model.rotary_emb.inv_freq"])
    entry = next(b for b in description["buffers"] if b["name"] == "model.rotary_emb.inv_freq")
    assert entry == {
        "name": "model.rotary_emb.inv_freq",
        "shape": [8],
        "dtype": "float32",
        "persistent": False,
    }


def test_seventy_billion_parameters_are_a_small_file_soon(tmp_path):
    """Four of the 80 layers, so that the suite stays quick; nothing grows with a layer's width."""
    config = json.loads((MODELS / "llama.json").read_text())
    config |= dict(hidden_size=8192, intermediate_size=28672, num_hidden_layers=4)
    config |= dict(num_attention_heads=64, num_key_value_heads=8, vocab_size=32000)
    (tmp_path / "config.json").write_text(json.dumps(config))
    script = (
        "import resource, sys; from galvatron import export; before ="
        " resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; code = export.main(sys.argv[1:]);"
        " print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before); sys.exit(code)"
    )
    arguments = ["--config", str(tmp_path), "-o", str(tmp_path / "m.pt"), "--weightless"]
    result = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT / "python")},
        capture_output=True,
        text=True,
        check=True,
    )
    kibibytes = int(result.stdout.split()[-1])
    assert kibibytes < 800 * 1024  # the weights would be 15 GB
    assert (tmp_path / "m.pt").stat().st_size < 1 << 20


def test_equal_exports_are_equal_files(tmp_path):
    script = [sys.executable, "-m", "galvatron.export", "--config", str(MODELS / "llama.json")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        output = str(tmp_path / folder / "model.pt")
        subprocess.run([*script, "-o", output], env=environment, check=True, capture_output=True)
    assert (tmp_path / "a/model.pt").read_bytes() == (tmp_path / "b/model.pt").read_bytes()


def test_a_folder_with_weights_is_exported_with_them(tmp_path):
    config = huggingface.read_config(MODELS / "llama.json")
    model = huggingface.build_random(config, "sdpa", seed=9)
    model.save_pretrained(tmp_path / "trained")
    assert run("--config", tmp_path / "trained", "-o", tmp_path / "a.pt") == 0
    loaded, description = archive.load(tmp_path / "a.pt")
    assert description["seed"] is None
    torch.testing.assert_close(loaded.model.norm.weight, model.model.norm.weight)
    torch.testing.assert_close(loaded.lm_head.weight, model.lm_head.weight, rtol=0, atol=0)
    assert run("--config", tmp_path / "trained", "-o", tmp_path / "b.pt", "--seed", 1) == 0
    assert not torch.equal(archive.load(tmp_path / "b.pt")[0].lm_head.weight, model.lm_head.weight)


@pytest.mark.parametrize("fused", [False, True])
def test_handwritten_module(fused, handwritten, tmp_path, example):
    torch.manual_seed(0)
    module = handwritten.Decoder(fused=fused)
    description = export.save(module, example, tmp_path / "model.pt")
    loaded, _ = archive.load(tmp_path / "model.pt")
    ids = torch.randint(0, 256, (3, 24))
    torch.testing.assert_close(loaded(ids, ids), module(ids, ids), rtol=1e-6, atol=0)
    by_name = {p["name"]: p["distribution"] for p in description["parameters"]}
    assert by_name["blocks.0.norm.scale"] == {"kind": "constant", "value": 1.0}
    assert by_name["blocks.0.attention.qkv.weight"] == {"kind": "normal", "mean": 0.0, "std": 0.02}
    assert module.forward.__func__ is handwritten.Decoder.forward  # left as it was
    assert type(module) is handwritten.Decoder


def test_handwritten_module_without_memory(handwritten, tmp_path, example):
    with export.weightless():
        module = handwritten.Decoder()
    assert all(p.is_meta for p in module.parameters())
    description = export.save(module, example, tmp_path / "model.pt", weightless=True)
    by_name = {p["name"]: p["distribution"] for p in description["parameters"]}
    bound = 1 / 64**0.5  # torch's own rule for nn.Linear
    assert by_name["head.weight"]["kind"] == "uniform"
    assert by_name["head.weight"]["high"] == pytest.approx(bound)
    assert by_name["positions"] == {"kind": "normal", "mean": 0.0, "std": 0.02}
    assert by_name["tokens.weight"] == {"kind": "normal", "mean": 0.0, "std": 1.0}
    loaded, _ = archive.load(tmp_path / "model.pt")
    assert loaded.blocks._modules["0"].attention.mask.shape == (1, 1, 128, 128)


def test_init_std_replaces_what_is_not_constant(handwritten, tmp_path, example):
    module = handwritten.Decoder()
    description = export.save(module, example, tmp_path / "m.pt", weightless=True, init_std=0.5)
    kinds = {p["name"]: p["distribution"] for p in description["parameters"]}
    assert kinds["head.weight"] == {"kind": "normal", "mean": 0.0, "std": 0.5}
    assert kinds["norm.scale"] == {"kind": "constant", "value": 1.0}
    assert run("--config", MODELS / "opt.json", "-o", tmp_path / "o.pt", "--init-std", 0.5) == 0
    parameters = archive.load(tmp_path / "o.pt")[1]["parameters"]
    projection = next(p for p in parameters if p["name"].endswith("layers.0.fc1.weight"))
    assert projection["distribution"]["std"] == 0.5


def test_exporting_leaves_the_module_alone(handwritten, tmp_path, example):
    module = handwritten.Decoder().eval()
    before = {name: p for name, p in module.named_parameters()}
    export.save(module, example, tmp_path / "m.pt", weightless=True)
    assert not module.training
    assert all(before[name] is p for name, p in module.named_parameters())


class Broken(nn.Module):
    def __init__(self, result) -> None:
        super().__init__()
        self.layer = nn.Embedding(256, 4)
        self.result = result

    def forward(self, input_ids, labels):
        return self.result(self.layer(input_ids))


class OneInput(nn.Module):
    def forward(self, input_ids):
        return input_ids.sum()


BAD_MODULES = [
    (Broken(lambda x: None), "returned no loss"),
    (Broken(lambda x: "text"), "expects Broken.forward to return a loss tensor, but got str"),
    (Broken(lambda x: x), "scalar mean loss, but got shape [2, 16, 4]"),
    (Broken(lambda x: {"logits": x}), "returned no loss"),
    (
        Broken(lambda x: x.mean() / 0 + undefined),
        "cannot trace Broken: name 'undefined'",
    ),  # noqa: F821
    (Broken(lambda x: x.mean()).double(), "parameter layer.weight to be float32"),
    (Broken(lambda x: x.mean()).to("meta"), "parameter layer.weight has no values"),
    (OneInput(), "expects OneInput.forward to take input_ids and labels"),
]


@pytest.mark.parametrize("module,message", BAD_MODULES)
def test_bad_modules(module, message, tmp_path, example):
    with pytest.raises(GalvatronError) as caught:
        export.save(module, example, tmp_path / "m.pt")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


BAD_EXAMPLES = [
    ((torch.zeros(2, 4), torch.zeros(2, 4)), "expects example input_ids to be int64 [batch, seq]"),
    ((torch.zeros(2, 4).long(), torch.zeros(2, 3).long()), "of one shape"),
    ((torch.zeros(2, 4).long(),), "position_ids or not, but got 1"),
    ({"ids": torch.zeros(2, 4).long()}, "Broken.forward takes no ids, which the example inputs name; it takes "),
    ({}, "expects example inputs by the names of forward's keyword arguments, but got none"),
    ({"input_ids": torch.zeros(2, 4).double(), "labels": torch.zeros(2).long()}, "to be int64 or float32, batch first"),
    ({"input_ids": torch.zeros(2, 4).long(), "labels": torch.zeros(3).long()}, "expects one batch, but input_ids has 2 samples"),
    ({"input ids": torch.zeros(2, 4).long()}, "expects names of forward's keyword arguments"),
]


@pytest.mark.parametrize("inputs,message", BAD_EXAMPLES)
def test_bad_examples(inputs, message, tmp_path):
    with pytest.raises(GalvatronError, match=message.replace("[", r"\[")):
        export.save(Broken(lambda x: x.mean()), inputs, tmp_path / "m.pt")


BAD_CONFIGS = [
    ("{", [], "is not JSON"),
    ("{}", [], 'has no "model_type"'),
    ('{"model_type": "nonesuch"}', [], "does not know model_type 'nonesuch'"),
    ('{"model_type": "t5"}', [], "no causal language model for model_type 't5'"),
    ('{"model_type": "llama", "hidden_size": "wide"}', [], "correct the configuration"),
    ('{"model_type": "gemma2", "num_hidden_layers": 1}', ["--attn", "sdpa"], "try --attn eager"),
    (None, [], "give a config.json or its folder"),
    (
        (MODELS / "llama.json").read_text(),
        ["--loss", "hinge"],
        "unknown loss 'hinge'; choose one of",
    ),
    ((MODELS / "llama.json").read_text(), ["--seq", "1"], "raise --batch or --seq"),
    ((MODELS / "llama.json").read_text(), ["--init-std", "-1"], "expects --init-std"),
]


@pytest.mark.parametrize("text,options,message", BAD_CONFIGS)
def test_bad_command_lines(text, options, message, tmp_path, capsys):
    config, output = tmp_path / "config.json", tmp_path / "out.pt"
    if text is not None:
        config.write_text(text)
    assert run("--config", config, "-o", output, *options) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert error.startswith("galvatron.export: error: ")
    assert sorted(tmp_path.iterdir()) == ([config] if text is not None else [])


def test_unwritable_outputs(tmp_path, capsys):
    config = MODELS / "llama.json"
    assert run("--config", config, "-o", tmp_path / "none" / "m.pt") == 1
    assert "choose a folder that exists and is writable" in capsys.readouterr().err
    assert run("--config", config, "-o", tmp_path) == 1
    assert "it is a folder; give a file name" in capsys.readouterr().err
    os.mkfifo(tmp_path / "pipe")
    assert run("--config", config, "-o", tmp_path / "pipe") == 1
    assert "it is no file; give a file name" in capsys.readouterr().err
    assert (tmp_path / "pipe").is_fifo()


def test_a_failed_export_keeps_the_old_file(tmp_path, example):
    path = tmp_path / "m.pt"
    path.write_text("precious")
    with pytest.raises(GalvatronError):
        export.save(Broken(lambda x: None), example, path)
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


def test_reading_what_is_no_archive(tmp_path, example):
    (tmp_path / "foreign.pt").write_text("hello")
    with pytest.raises(GalvatronError, match="expects an archive of galvatron.export"):
        archive.load(tmp_path / "foreign.pt")
    plain = torch.jit.script(nn.Linear(2, 2))
    torch.jit.save(plain, str(tmp_path / "plain.pt"))
    with pytest.raises(GalvatronError, match="has no galvatron.json"):
        archive.load(tmp_path / "plain.pt")


def test_the_extra_file_is_where_other_readers_look(tmp_path):
    path = tmp_path / "model.pt"
    assert run("--config", MODELS / "llama.json", "-o", path, "--weightless") == 0
    with zipfile.ZipFile(path) as file:
        assert json.loads(file.read("model/extra/galvatron.json"))["format_version"] == archive.FORMAT_VERSION


def test_version_and_help_are_quick_and_explained():
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    for tool in ("export", "reference", "compare"):
        for option, wanted in (("--version", galvatron.__version__), ("--help", "default")):
            result = subprocess.run(
                [sys.executable, "-X", "importtime", "-m", f"galvatron.{tool}", option],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            assert wanted in result.stdout
            assert "| torch\n" not in result.stderr


class Squared(torch.autograd.Function):
    """Its backward is its forward's derivative."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0] * gradient


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.round(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class WithFunction(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.table = nn.Embedding(256, 8)
        self.head = nn.Linear(8, 256)
        self.function = function

    def forward(self, input_ids, labels):
        logits = self.head(self.function.apply(self.table(input_ids)))
        return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())


@pytest.mark.parametrize("weightless", (False, True))
def test_a_function_of_python_is_written_out(weightless, tmp_path):
    ids = torch.arange(32).reshape(2, 16)
    module, path = WithFunction(Squared), tmp_path / "model.pt"
    export.save(module, (ids, ids), path, weightless=weightless)
    loaded, _ = archive.load(path)
    if not weightless:
        torch.testing.assert_close(loaded(ids, ids), module(ids, ids))
        loaded(ids, ids).backward()
        module(ids, ids).backward()
        torch.testing.assert_close(loaded.table.weight.grad, module.table.weight.grad)


def test_a_backward_of_its_own_is_refused(tmp_path):
    ids = torch.arange(32).reshape(2, 16)
    with pytest.raises(
        GalvatronError, match=r"StraightThrough at .*test_export\.py:\d+ has a backward pass of its own"
    ):
        export.save(WithFunction(StraightThrough), (ids, ids), tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())
