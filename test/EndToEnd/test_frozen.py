"""Frozen parameters are parameters without gradient, moments or update; a checkpoint holds all of state_dict()."""

from __future__ import annotations

import copy
import json
import re

import pytest
import torch
from harness import BATCH, SEQ, Layout, Model, call, check, columns, config_of, succeed
from safetensors.torch import load_file, load_model, save_file
from torch import nn
from torch.nn import functional

from galvatron import compare, export
from galvatron.errors import GalvatronError

PLANS = {
    "one": Layout(),
    "dp2": Layout(ranks=2, micro_batches=2, recompute=True),
    "tp2-pp2": Layout(ranks=4, tp=2, stages=[0, 0, 1, 1, 1], micro_batches=2),
}
OPTIONS = ("--steps", 5, "--lr", "3e-3", "--weight-decay", "0.1", "--clip-grad", "1")
FROZEN = {
    # Nothing before layer 1 trains: no gradient goes there, nor to the first stage.
    "lower": ("llama", ("embed_tokens", "layers.0.")),
    # Of products that share an operand, of a norm, of one side of a residual.
    "scattered": ("llama", ("0.self_attn.q_proj", "1.self_attn.k_proj", "1.input_layernorm", "2.mlp.up_proj", "norm.w")),
    "upper": ("gpt2", ("h.1.", "h.2.", "ln_f", "0.attn.c_attn.bias", "wpe")),
    # One parameter under two names, on the first stage and the last.
    "tied": ("llama_tied", ("embed_tokens",)),
}


def frozen_module(name: str) -> nn.Module:
    from transformers import AutoConfig, AutoModelForCausalLM

    family, patterns = FROZEN[name]
    config = config_of(family)
    torch.manual_seed(3)
    module = AutoModelForCausalLM.from_config(AutoConfig.for_model(config.pop("model_type"), **config))
    for key in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
        if hasattr(module.config, key):
            setattr(module.config, key, 0.0)
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    for key, parameter in module.named_parameters():
        parameter.requires_grad_(not any(pattern in key for pattern in patterns))
    assert any(p.requires_grad for p in module.parameters()) and not all(p.requires_grad for p in module.parameters())
    return module


@pytest.fixture(scope="module")
def frozen(work, tokens, pytorch):
    """A module, its program, and PyTorch's run of it."""
    made = {}

    def get(name: str):
        if name not in made:
            module = frozen_module(name)
            model = Model(name, module, work / f"frozen-{name}")
            made[name] = (module, model, pytorch(model, model.folder / "pytorch", *map(str, OPTIONS)))
        return made[name]

    return get


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", FROZEN)
def test_equals_pytorch(name, plan, frozen, tokens, tmp_path):
    module, model, expected = frozen(name)
    compiled = model.compile(plan, PLANS[plan])
    saved = tmp_path / "saved"
    run = compiled.train(
        tmp_path, "--data", tokens, "--save", saved, "--dump-gradients", tmp_path / "gradients", *OPTIONS
    )
    [(_, found, wanted)] = compare.gradient_pairs(tmp_path / "gradients", expected.folder / "gradients", 1)
    found, (wanted, ties) = compare.read_gradients(found)[0], compare.read_gradients(wanted)
    trained = {key for key, parameter in module.named_parameters() if parameter.requires_grad}
    assert found.keys() == trained
    differences = compare.compare_gradients(found, wanted, ties)
    check(differences + columns(run, expected, loss=1e-5, grad_norm=1e-4))
    assert run.list_by_rank("peak bytes") == compiled.plan["peak_bytes_per_rank"]

    state, checkpoint = dict(module.named_parameters()), load_file(saved / "model.safetensors")
    assert checkpoint.keys() == state.keys()  # a tied parameter once
    load_model(copy.deepcopy(module), saved / "model.safetensors", strict=True)
    for key, parameter in state.items():
        assert torch.equal(checkpoint[key], parameter.detach()) != parameter.requires_grad, key
    moments = load_file(saved / "optimizer.safetensors")
    assert moments.keys() == {f"{key}.{moment}" for key in trained for moment in ("exp_avg", "exp_avg_sq")}


def test_frozen_layers_take_less_memory(frozen, models):
    """States are a quarter; layers below what trains keep nothing for a backward pass."""
    (whole,) = models("llama").compile("one", Layout()).plan["peak_bytes_per_rank"]
    (lower,) = frozen("lower")[1].compile("one", Layout()).plan["peak_bytes_per_rank"]
    module = frozen("lower")[0]
    states = 12 * sum(p.numel() for p in module.parameters() if not p.requires_grad)
    assert lower <= whole - states


@pytest.mark.parametrize("precision", ("bf16",))
def test_bf16_copies_of_frozen_parameters(precision, frozen, tokens, tmp_path):
    """Read as bf16 like any other, and kept in bf16 alone; what norms read is f32."""
    module, model, expected = frozen("scattered")
    output = model.folder / f"out-{precision}"
    options = ("--search", "--lower", f"--precision={precision}", "--ranks=1", "-o", output)
    succeed("galvatron-opt", *options, model.program)
    saved = tmp_path / "saved"
    succeed(output / "launch", "--log", tmp_path / "log.csv", "--data", tokens, "--save", saved, *OPTIONS)
    differences = compare.compare_columns(compare.read_log(tmp_path / "log.csv"), expected.log, "loss", 5e-3)
    assert not [f"{d.name}: {d.detail}" for d in differences if not d.passed]
    checkpoint = load_file(saved / "model.safetensors")
    for key, parameter in module.named_parameters():
        start = parameter.detach() if parameter.dim() == 1 else parameter.detach().bfloat16().float()
        assert torch.equal(checkpoint[key], start) != parameter.requires_grad, key
    (stage,) = json.loads((output / "timetable.json").read_text())["stages"]
    masters = {buffer["name"] for buffer in stage["buffers"] if buffer["kind"] == "master"}
    trained = {key for key, parameter in module.named_parameters() if parameter.requires_grad and parameter.dim() == 2}
    assert masters == trained


class Stateful(nn.Module):
    """State of every kind: buffers of all types, large and small, read and not; parameters that the loss does not
    reach, that it reaches by value alone, that are frozen."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(256, 64), nn.Linear(64, 256)
        self.scale = nn.Parameter(torch.full((64,), 0.5), requires_grad=False)
        self.stopped = nn.Parameter(torch.full((64,), 0.25))
        self.unused = nn.Linear(3, 5)
        self.also_unused = nn.Parameter(torch.ones(2, 2), requires_grad=False)
        self.register_buffer("shift", torch.linspace(-1, 1, 64))
        self.register_buffer("position", torch.randn(SEQ, 64), persistent=False)
        self.register_buffer("steps", torch.tensor(7))
        self.register_buffer("mask", torch.tensor([True, False, True]))
        self.register_buffer("rounded", torch.randn(4, 3).to(torch.bfloat16))
        self.register_buffer("rotations", torch.polar(torch.ones(4), torch.arange(4.0)))
        self.register_buffer("table", torch.randn(300, 200).T)
        self.register_buffer("empty", torch.zeros(0, 3))
        self.inner = nn.Module()
        self.inner.register_buffer("count", torch.tensor([1, 2], dtype=torch.int32))
        self.same = self.inner

    def forward(self, input_ids, labels):
        x = self.embedding(input_ids) * self.scale + self.shift + self.stopped.detach()
        logits = self.head(functional.gelu(x))
        return functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def compile_stateful(folder, module, **options):
    ids = torch.arange(2 * SEQ).view(2, SEQ)
    folder.mkdir()
    export.save(module, (ids, ids), folder / "m.pt", **options)
    succeed("galvatron-import", folder / "m.pt", "--batch", BATCH, "--seq", SEQ, "-o", folder / "m.mlir")
    succeed("galvatron-opt", "--search", "--lower", folder / "m.mlir", "--ranks=2", "-o", folder / "out")
    return folder / "out" / "launch"


@pytest.mark.parametrize("weightless", (False, True))
def test_checkpoint_holds_the_state(weightless, tokens, tmp_path):
    torch.manual_seed(1)
    module = Stateful()
    launch = compile_stateful(tmp_path / "model", module, weightless=weightless)
    options = ("--data", tokens, "--lr", "1e-2", "--weight-decay", "0.1", "--weight-decay-on", "all")
    succeed(launch, "--steps", 2, "--save", tmp_path / "two", *options)
    succeed(launch, "--steps", 4, "--load", tmp_path / "two", "--save", tmp_path / "four", *options)
    state, first = module.state_dict(), load_file(tmp_path / "two" / "model.safetensors")
    saved = load_file(tmp_path / "four" / "model.safetensors")
    Stateful().load_state_dict(saved, strict=True)
    trained = {"embedding.weight", "head.weight", "head.bias"}
    parameters = {name for name, _ in module.named_parameters()}
    for name, value in state.items():
        assert saved[name].dtype == value.dtype and saved[name].shape == value.shape, name
        if name in trained:
            assert not torch.equal(saved[name], first[name]), name
            continue
        assert torch.equal(saved[name], first[name]), name
        if name not in parameters or not weightless:
            assert torch.equal(saved[name], value), name
    if weightless:
        assert first["unused.weight"].abs().max() > 0  # drawn, not zero


def test_weights_replace_what_is_frozen(tokens, tmp_path):
    torch.manual_seed(1)
    module = Stateful()
    launch = compile_stateful(tmp_path / "model", module)
    others = {name: value.clone().contiguous() for name, value in module.state_dict().items()}
    others["scale"] += 0.5
    others["unused.weight"] += 1
    others["steps"] += 1  # that the program does not read
    save_file(others, tmp_path / "others.safetensors")
    options = ("--steps", 1, "--data", tokens, "--weights", tmp_path / "others.safetensors")
    succeed(launch, "--save", tmp_path / "saved", "--log", tmp_path / "log.csv", *options)
    saved = load_file(tmp_path / "saved" / "model.safetensors")
    for name in ("scale", "unused.weight", "steps"):
        assert torch.equal(saved[name], others[name]), name
    module.load_state_dict(others)
    rows = torch.frombuffer(bytearray(tokens.read_bytes()[: BATCH * SEQ]), dtype=torch.uint8).long().view(BATCH, SEQ)
    (row,) = compare.read_log(tmp_path / "log.csv")
    assert float(row["loss"]) == pytest.approx(float(module(rows, rows)), rel=1e-5)

    # What the program was made with cannot be replaced.
    others["shift"] += 1
    save_file(others, tmp_path / "others.safetensors")
    refused = call(launch, *options)
    assert refused.returncode == 1
    assert "has other values of the buffer shift than the program was compiled with" in refused.stderr


def test_nothing_to_train_is_an_error(tmp_path):
    module = Stateful()
    ids = torch.arange(2 * SEQ).view(2, SEQ)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_("unused" in name)
    with pytest.raises(GalvatronError, match="reads no parameter but frozen ones"):
        export.save(module, (ids, ids), tmp_path / "m.pt")
    module.requires_grad_(False)
    export.save(module, (ids, ids), tmp_path / "m.pt")
    refused = call("galvatron-import", tmp_path / "m.pt", "-o", tmp_path / "m.mlir")
    assert refused.returncode == 1
    assert "there is nothing to train: the loss depends on no parameter with requires_grad" in refused.stderr
    assert not (tmp_path / "m.mlir").exists()


def test_freeze_at_import(frozen, tmp_path):
    """--freeze makes the very program that requires_grad=False makes."""
    module, model, _ = frozen("scattered")
    patterns = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
    whole = copy.deepcopy(module).requires_grad_(True)
    ids = torch.arange(2 * SEQ).view(2, SEQ)
    export.save(whole, (ids, ids), tmp_path / "m.pt")
    sizes = (tmp_path / "m.pt", "--batch", BATCH, "--seq", SEQ, "-o", tmp_path / "m.mlir")
    succeed("galvatron-import", *sizes, "--freeze", ",".join(patterns[:2]), "--freeze", ",".join(patterns[2:]))
    texts = [
        [re.sub(r"loc\([^)]*\)+", "", line) for line in path.read_text().splitlines() if "graph.parameter" in line]
        for path in (tmp_path / "m.mlir", model.program)
    ]
    assert texts[0] == texts[1] and any("frozen" in line for line in texts[0])
    for words, message in (
        (("--freeze", "*.no_such"), r"--freeze \*.no_such matches no parameter, of which the first is model.embed_tokens.weight"),
        (("--freeze", "*"), "there is nothing to train: the loss depends on no parameter with requires_grad"),
        (("--freeze", "a,,b"), "expects --freeze GLOB,..., but got 'a,,b'"),
    ):
        refused = call("galvatron-import", *sizes, *words)
        assert refused.returncode == 1 and re.search(message, refused.stderr), refused.stderr
