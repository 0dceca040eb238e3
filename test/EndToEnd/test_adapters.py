"""Adapters of peft are trained as peft trains them, and each checkpoint has them in a folder that peft loads."""

from __future__ import annotations

import copy
import json
import re
import shutil

import peft
import pytest
import torch
import transformers
from harness import BATCH, SEQ, Compiled, Layout, Model, call, check, columns, config_of, succeed
from safetensors.torch import load_file, save_file
from torch import nn

from galvatron import compare, export
from galvatron.errors import GalvatronError

# Their gradients are made of few terms; some are 0 but for rounding until the other factor has moved.
OPTIONS = ("--steps", 5, "--lr", "3e-3", "--weight-decay", "0.1", "--clip-grad", "1", "--eps", "1e-6")
LAYOUTS = {
    "one": lambda units: Layout(micro_batches=4),
    "dp2": lambda units: Layout(ranks=2, micro_batches=2),
    "tp2": lambda units: Layout(ranks=2, tp=2),
    "pp2": lambda units: Layout(ranks=2, stages=[2 * unit // units for unit in range(units)], micro_batches=4),
    "zero3": lambda units: Layout(ranks=2, zero=3, micro_batches=2),
    "tp2-pp2-recompute": lambda units: Layout(
        ranks=4, tp=2, stages=[2 * unit // units for unit in range(units)], micro_batches=2, recompute=True
    ),
}
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def lora(**options) -> peft.LoraConfig:
    return peft.LoraConfig(task_type="CAUSAL_LM", **({"r": 3, "lora_alpha": 8, "target_modules": PROJECTIONS} | options))


# Ranks that tp does not divide; adapters on fused matrices; whole modules, biases and other tuners beside them.
ADAPTERS = {
    "lora": ("llama", lora()),
    "rslora": ("llama", lora(r=4, use_rslora=True, rank_pattern={"q_proj": 5}, alpha_pattern={"v_proj": 2})),
    "dora": ("llama", lora(use_dora=True, target_modules=["q_proj", "v_proj", "down_proj"])),
    "fused": ("gpt2", lora(target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)),
    "bias": ("gpt2", lora(target_modules=["c_attn"], fan_in_fan_out=True, bias="lora_only")),
    "head": ("llama", lora(target_modules=["q_proj"], modules_to_save=["lm_head"])),
    "words": ("llama", lora(target_modules=["embed_tokens", "v_proj"])),
    "upper": ("llama", lora(layers_to_transform=[2], lora_bias=True)),
    "ia3": ("llama", peft.IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"])),
    "vera": ("llama", peft.VeraConfig(target_modules=["q_proj", "o_proj"], r=6)),
}
# One plan an adapter, each plan somewhere; the others with --wide.
CHOSEN = {
    "lora": "tp2-pp2-recompute", "rslora": "tp2", "dora": "dp2", "fused": "tp2", "bias": "pp2", "head": "zero3",
    "words": "one", "upper": "pp2", "ia3": "tp2", "vera": "one",
}  # fmt: skip


def base(family: str) -> nn.Module:
    config = config_of(family)
    torch.manual_seed(3)
    module = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(config.pop("model_type"), **config))
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return module


class Adapted:
    """A module with its adapter, imported once, and PyTorch's run of it."""

    def __init__(self, name: str, folder, pytorch):
        family, config = ADAPTERS[name]
        self.base = base(family)
        torch.manual_seed(4)
        self.module = peft.get_peft_model(copy.deepcopy(self.base), copy.deepcopy(config)).train()
        for key, parameter in self.module.named_parameters():
            if parameter.requires_grad and not bool(parameter.any()):  # else the other factor has no gradient at first
                nn.init.normal_(parameter, std=0.05)
        self.model = Model(name, self.module, folder)
        self.expected = pytorch(self.model, folder / "pytorch", *map(str, OPTIONS))


@pytest.fixture(scope="module")
def adapted(work, pytorch):
    made: dict[str, Adapted] = {}

    def get(name: str) -> Adapted:
        if name not in made:
            made[name] = Adapted(name, work / f"adapter-{name}", pytorch)
        return made[name]

    return get


def cases():
    for name in ADAPTERS:
        for layout in LAYOUTS:
            yield pytest.param(name, layout, marks=[] if CHOSEN[name] == layout else [pytest.mark.wide], id=f"{name}-{layout}")


@pytest.mark.parametrize("name,layout", cases())
def test_trains_as_peft_does(name, layout, adapted, tokens, tmp_path):
    case = adapted(name)
    compiled = case.model.compile(layout, LAYOUTS[layout](len(case.model.units)))
    saved = tmp_path / "saved"
    run = compiled.train(tmp_path, "--data", tokens, "--save", saved, "--dump-gradients", tmp_path / "gradients", *OPTIONS)
    [(_, found, wanted)] = compare.gradient_pairs(tmp_path / "gradients", case.expected.folder / "gradients", 1)
    found, (wanted, ties) = compare.read_gradients(found)[0], compare.read_gradients(wanted)
    assert found.keys() == {key for key, parameter in case.module.named_parameters() if parameter.requires_grad}
    check(compare.compare_gradients(found, wanted, ties) + columns(run, case.expected, loss=1e-5, grad_norm=1e-4))
    assert run.list_by_rank("peak bytes") == compiled.plan["peak_bytes_per_rank"]
    # What peft loads upon the base computes what the checkpoint's tensors do in the adapted module.
    ids = torch.arange(2 * SEQ).view(2, SEQ) % 256
    loaded = peft.PeftModel.from_pretrained(copy.deepcopy(case.base), saved / "adapter").eval()
    trained = copy.deepcopy(case.module).eval()
    missing, unexpected = trained.load_state_dict(load_file(saved / "model.safetensors"), strict=False)
    assert not unexpected
    kept = {key for key, parameter in case.module.named_parameters() if not parameter.requires_grad}
    assert {key for key in kept if "original_module" not in key} <= set(missing)  # the loss reaches no such module
    with torch.no_grad():
        torch.testing.assert_close(loaded(input_ids=ids).logits, trained(input_ids=ids).logits, rtol=1e-5, atol=1e-6)
        assert not torch.allclose(loaded(input_ids=ids).logits, case.base.eval()(input_ids=ids).logits, atol=1e-4)
    succeed("xxh128sum", "-c", "checksums.xxh128", cwd=saved)


def test_resumed(adapted, tokens, tmp_path):
    """What was saved twice in one place, and half way, is what one run has."""
    case = adapted("lora")
    compiled, options = case.model.compile("dp2", LAYOUTS["dp2"](0)), ("--data", tokens, *OPTIONS[2:])
    whole, half = tmp_path / "whole", tmp_path / "half"
    compiled.train(tmp_path, *options, "--steps", 4, "--save", whole)
    compiled.train(tmp_path, *options, "--steps", 2, "--save", half)
    compiled.train(tmp_path, *options, "--steps", 4, "--load", half, "--save", half)
    for name in ("adapter/adapter_model.safetensors", "adapter/adapter_config.json", "model.safetensors"):
        assert (whole / name).read_bytes() == (half / name).read_bytes(), name
    # With all weights, and under another plan.
    compiled.train(tmp_path, *options, "--steps", 2, "--save", half, "--save-frozen", "yes")
    assert set(load_file(half / "model.safetensors")) >= set(dict(case.module.named_parameters()))
    other = case.model.compile("pp2", LAYOUTS["pp2"](len(case.model.units)))
    other.train(tmp_path, *options, "--steps", 4, "--load", half, "--save", tmp_path / "other")
    for key, value in load_file(whole / "adapter" / "adapter_model.safetensors").items():
        found = load_file(tmp_path / "other" / "adapter" / "adapter_model.safetensors")[key]
        torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("precision", ("bf16", "fp16"))
def test_in_16_bits(precision, adapted, tokens, tmp_path):
    """What is frozen is in memory, and in files that have it, in 16 bits alone; a run goes on from either kind bit for bit."""
    case = adapted("lora")
    output = case.model.folder / f"out-{precision}"
    succeed("galvatron-opt", "--search", "--lower", f"--precision={precision}", "--ranks=2", "-o", output, case.model.program)
    compiled, options = Compiled(output), ("--data", tokens, *OPTIONS[2:])
    whole = compiled.train(tmp_path, *options, "--steps", 4, "--save", tmp_path / "whole")
    differences = compare.compare_columns(whole.log, case.expected.log[:4], "loss", 1e-2)
    assert not [f"{d.name}: {d.detail}" for d in differences if not d.passed]
    assert whole.list_by_rank("peak bytes") == compiled.plan["peak_bytes_per_rank"]
    for kept in ("yes", "no"):
        half = tmp_path / f"half-{kept}"
        compiled.train(tmp_path, *options, "--steps", 2, "--save", half, "--save-frozen", kept)
        compiled.train(tmp_path, *options, "--steps", 4, "--load", half, "--save", half)
        name = "adapter/adapter_model.safetensors"
        assert (tmp_path / "whole" / name).read_bytes() == (half / name).read_bytes()


def test_frozen_weights_are_those_of_the_start(adapted, tokens, tmp_path):
    """A checkpoint without them goes on under any plan, with the weights that its run began with, and with no others."""
    case = adapted("lora")
    others, saved = tmp_path / "others.safetensors", tmp_path / "saved"
    state = {name: value.detach().clone() for name, value in case.module.named_parameters()}
    state["base_model.model.model.norm.weight"] += 0.5
    save_file(state, others)
    compiled, options = case.model.compile("dp2", LAYOUTS["dp2"](0)), ("--data", tokens, *OPTIONS[2:])
    compiled.train(tmp_path, *options, "--steps", 2, "--save", saved, "--weights", others)
    assert len(json.loads((saved / "training.json").read_text())["model"]["frozen"]) == 16
    other = case.model.compile("pp2", LAYOUTS["pp2"](len(case.model.units)))
    refused = other.launch(*options, "--steps", 3, "--load", saved)
    assert refused.returncode == 1
    assert re.search(r"with other frozen weights \([0-9a-f]{16}\) than those of weights of \S+ \([0-9a-f]{16}\)", refused.stderr)
    assert "pass --override model to go on all the same" in refused.stderr
    run = other.launch(*options, "--steps", 3, "--load", saved, "--weights", others)
    assert run.returncode == 0, run.stderr
    assert other.launch(*options, "--steps", 3, "--load", saved, "--override", "model").returncode == 0


def test_a_damaged_adapter_is_no_whole_checkpoint(adapted, tokens, tmp_path):
    case = adapted("lora")
    compiled, saved = case.model.compile("dp2", LAYOUTS["dp2"](0)), tmp_path / "saved"
    compiled.train(tmp_path, "--data", tokens, "--steps", 1, "--save", saved)
    with (saved / "adapter" / "adapter_model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    refused = compiled.launch("--data", tokens, "--steps", 2, "--load", saved)
    assert refused.returncode == 1
    assert "adapter/adapter_model.safetensors is damaged, or of another save" in refused.stderr


def test_a_damaged_description(adapted, tokens, tmp_path):
    case = adapted("lora")
    folder = tmp_path / "program"
    shutil.copytree(case.model.compile("dp2", LAYOUTS["dp2"](0)).folder, folder)
    description = json.loads((folder / "adapter.json").read_text())
    key = next(iter(description["tensors"]))
    other = description | {"tensors": description["tensors"] | {key: "no.such"}}
    for text, message in (
        (json.dumps(other), f'tensor {key} is of "no.such", which the program has not; compile the program again'),
        ("[]", "adapter.json: expects an object with config and tensors; compile the program again"),
        ("{", "adapter.json"),
    ):
        (folder / "adapter.json").write_text(text)
        refused = Compiled(folder).launch("--data", tokens, "--steps", 1, "--save", tmp_path / "saved")
        assert refused.returncode == 1 and message in refused.stderr, refused.stderr
        assert not (tmp_path / "saved").exists()


def exported(tmp_path, *options):
    config = tmp_path / "llama.json"
    config.write_text(json.dumps(config_of("llama")))
    return call("python", "-m", "galvatron.export", "--config", config, "-o", tmp_path / "m.pt", *options)


def test_from_a_config(tokens, tmp_path):
    """Of an adapter without weights, with weights, and of values that the runtime draws."""
    folder = tmp_path / "adapter"
    torch.manual_seed(5)
    module = peft.get_peft_model(base("llama"), lora(r=4))
    for key, parameter in module.named_parameters():
        if "lora_B" in key:
            nn.init.normal_(parameter)
    module.save_pretrained(folder)
    done = exported(tmp_path, "--peft", folder)
    assert done.returncode == 0, done.stderr
    own = dict(torch.jit.load(tmp_path / "m.pt").named_parameters())
    for key, parameter in module.named_parameters():
        assert "lora_" not in key or torch.equal(own[key], parameter), key
    for weights in folder.glob("adapter_model.*"):
        weights.unlink()
    assert exported(tmp_path, "--peft", folder).returncode == 0
    own = dict(torch.jit.load(tmp_path / "m.pt").named_parameters())
    assert not any(bool(value.any()) for key, value in own.items() if "lora_B" in key)
    assert exported(tmp_path, "--peft", folder, "--weightless").returncode == 0
    succeed("galvatron-import", tmp_path / "m.pt", "--batch", BATCH, "--seq", SEQ, "-o", tmp_path / "m.mlir")
    succeed("galvatron-opt", "--search", "--lower", tmp_path / "m.mlir", "--ranks=1", "-o", tmp_path / "out")
    succeed(tmp_path / "out" / "launch", "--data", tokens, "--steps", 1, "--lr", 0, "--save", tmp_path / "saved")
    drawn = load_file(tmp_path / "saved" / "adapter" / "adapter_model.safetensors")
    for key, value in drawn.items():
        bound = value.shape[1] ** -0.5
        if "lora_A" in key:  # Kaiming's uniform with a = sqrt(5)
            assert 0.8 * bound < value.abs().max() <= bound, key
        else:
            assert not bool(value.any()), key


def test_of_another_base(tmp_path):
    folder = tmp_path / "adapter"
    peft.get_peft_model(base("gpt2"), lora(target_modules=["c_attn"], fan_in_fan_out=True)).save_pretrained(folder)
    refused = exported(tmp_path, "--peft", folder)
    assert refused.returncode == 1 and "is it of another base?" in refused.stderr
    peft.get_peft_model(base("llama"), lora(layers_to_transform=[0])).save_pretrained(folder)
    text = json.loads((folder / "adapter_config.json").read_text())
    for change, message in (({"layers_to_transform": [1]}, "which the model has not"), ({"layers_to_transform": [0, 1]}, "lacks")):
        (folder / "adapter_config.json").write_text(json.dumps(text | change))
        refused = exported(tmp_path, "--peft", folder)
        assert refused.returncode == 1 and message in refused.stderr
    refused = exported(tmp_path, "--peft", tmp_path)
    assert refused.returncode == 1 and "is no adapter: it has no adapter_config.json" in refused.stderr
    assert not (tmp_path / "m.pt").exists()


def test_several_adapters(tmp_path):
    module = peft.get_peft_model(base("llama"), lora())
    module.add_adapter("other", lora())
    ids = torch.arange(32).view(2, 16)
    with pytest.raises(GalvatronError, match="the module has the adapters default, other, but one is exported at a time"):
        export.save(module, (ids, ids), tmp_path / "m.pt")


def test_prompts(tmp_path):
    module = peft.get_peft_model(base("llama"), peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    ids = torch.arange(32).view(2, 16)
    with pytest.raises(GalvatronError, match="stand in the prompt and are no part of the module's layers"):
        export.save(module, (ids, ids), tmp_path / "m.pt")


class Packed(nn.Parameter):
    """As packages of quantised products have them."""


def test_quantised_bases(tmp_path):
    module = base("llama")
    module.lm_head.weight = Packed(module.lm_head.weight.detach(), requires_grad=False)
    ids = torch.arange(32).view(2, 16)
    with pytest.raises(GalvatronError, match="parameter lm_head.weight is of .*Packed, a quantised type, which is unsupported"):
        export.save(module, (ids, ids), tmp_path / "m.pt")
