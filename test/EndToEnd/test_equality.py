"""Training under every plan equals PyTorch: gradients of the first step, 20 losses, gradient norms."""

from __future__ import annotations

import pytest
from equality import ADAMW, PLAIN, SGD, equals_pytorch
from harness import BATCH, Compiled, succeed
from plans import PLANS

MODELS = ("gpt2", "llama", "gpt2_untied", "llama_tied")

# What a table that is tied or not may do otherwise, and each optimizer: under some of the plans; under all with --wide.
CHOSEN = ("one", "tp4", "dp2-tp2-pp2", "mixed-pp2", "uneven")


def under_all(*models: str, chosen: tuple[str, ...] = ()) -> list:
    """Pairs of model and plan: `models` under all plans, those `chosen` under some."""
    return [(model, plan) for model in models for plan in PLANS] + [
        pytest.param(model, plan, marks=() if plan in CHOSEN else pytest.mark.wide) for model in chosen for plan in PLANS
    ]


@pytest.mark.parametrize("model, plan", under_all("gpt2", "llama", chosen=("gpt2_untied", "llama_tied")))
def test_sgd(model, plan, models, reference, tokens, record_property):
    """With clipping, so that losses depend on the norm; gradients are those before clipping."""
    compiled = models(model).compile(plan, PLANS[plan])
    equals_pytorch(compiled, tokens, reference(model, *SGD), SGD, 1e-5, record_property)


@pytest.mark.parametrize("model, plan", under_all("llama", chosen=("gpt2",)))
def test_adamw(model, plan, models, reference, tokens, record_property):
    compiled = models(model).compile(plan, PLANS[plan])
    equals_pytorch(compiled, tokens, reference(model, *ADAMW), ADAMW, 1e-5, record_property)


@pytest.mark.parametrize("model", ("gpt2", "llama"))
@pytest.mark.parametrize("plan", ("one", "dp2-tp2-pp2"))
def test_without_clipping(model, plan, models, reference, tokens, record_property):
    compiled = models(model).compile(plan, PLANS[plan])
    equals_pytorch(compiled, tokens, reference(model, *PLAIN), PLAIN, 1e-5, record_property)


@pytest.mark.parametrize("model", MODELS)
def test_plan_with_the_reference_keys(model, models, reference, tokens, record_property):
    plan = {
        "pp_deg": 2, "tp_sizes_enc": "2,1,2", "tp_consecutive_flags": "1,1,1", "dp_types_enc": "0,0,0",
        "use_sp": "0,0,0", "checkpoint": "0,1,0", "global_bsz": BATCH, "chunks": 4, "pp_division": "2,1",
        "pipeline_type": "pipedream_flush", "default_dp_type": "ddp", "vtp": 2, "vsp": 0, "embed_sdp": 0,
    }  # fmt: skip
    compiled = models(model).compile_plan("reference", plan | {"world_size": 4})
    equals_pytorch(compiled, tokens, reference(model, *SGD), SGD, 1e-5, record_property)


@pytest.mark.parametrize("model", ("gpt2", "llama"))
@pytest.mark.parametrize("memory", ("1GiB", "1000KiB"))
def test_searched_plan(model, memory, models, reference, tokens, record_property):
    """The smaller budget leaves little choice."""
    program, output = models(model).program, models(model).folder / f"out-searched-{memory}"
    options = ("--ranks=4", f"--memory={memory}", f"--global-batch={BATCH}", "-o", output)
    succeed("galvatron-opt", "--search", "--lower", program, *options)
    equals_pytorch(Compiled(output), tokens, reference(model, *SGD), SGD, 1e-5, record_property)
