"""Training under every plan equals PyTorch: gradients of the first step, 20 losses, gradient norms.

Each error is recorded as a property of its test (--junitxml).
"""

from __future__ import annotations

import pytest
from harness import BATCH, STEPS, Compiled, succeed
from plans import PLANS

from galvatron import compare

MODELS = ("gpt2", "llama", "gpt2_untied", "llama_tied")
# The gradient norm starts at about 1.5, so that 1 clips; rates at which the loss falls by a third.
SGD = ("--optimizer", "sgd", "--lr", "0.2", "--clip-grad", "1")
PLAIN = ("--optimizer", "sgd", "--lr", "0.03")
ADAMW = (
    "--optimizer",
    "adamw",
    "--lr",
    "3e-3",
    "--lr-schedule",
    "cosine",
    "--warmup",
    "3",
    "--min-lr",
    "1e-4",
    "--weight-decay",
    "0.1",
)
# fp32 sums in another order; AdamW divides by a root of a moment that may itself be rounding.
TOLERANCE = {SGD: 1e-4, PLAIN: 1e-4, ADAMW: 5e-4}


def judge(differences: list[compare.Difference]) -> float:
    """The largest error as a share of what is allowed."""
    failed = [f"{d.name}: {d.detail}" for d in differences if not d.passed]
    assert not failed, "\n".join(failed[:8])
    return max(d.ratio for d in differences)


def equals_pytorch(compiled, tokens, expected, options, norms: float, record_property):
    """`norms`: tolerance of the gradient norms' column."""
    folder = compiled.folder.with_name(f"{compiled.folder.name}-{'-'.join(options[1::2])}")
    gradients = () if options is ADAMW else ("--dump-gradients", folder / "gradients")
    run = compiled.train(folder, "--steps", STEPS, "--data", tokens, *gradients, *options)
    worst = {}
    if gradients:
        [(_, found, wanted)] = compare.gradient_pairs(folder / "gradients", expected.folder / "gradients", 1)
        wanted, ties = compare.read_gradients(wanted)
        differences = compare.compare_gradients(compare.read_gradients(found)[0], wanted, ties)
        worst["gradient"] = judge(differences) * compare.GRADIENT_TOLERANCE
    for column, tolerance in (("loss", TOLERANCE[options]), ("grad_norm", norms), ("lr", 1e-6)):
        worst[column] = judge(compare.compare_columns(run.log, expected.log, column, tolerance)) * tolerance
    for name, value in worst.items():
        record_property(f"{name} error", f"{value:.2e}")
    assert run.column("loss")[-1] < run.column("loss")[0] - 0.1


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("plan", PLANS)
def test_sgd(model, plan, models, reference, tokens, record_property):
    """With clipping, so that losses depend on the norm; gradients are those before clipping."""
    compiled = models(model).compile(plan, PLANS[plan])
    equals_pytorch(compiled, tokens, reference(model, *SGD), SGD, 1e-5, record_property)


@pytest.mark.parametrize("model", ("gpt2", "llama"))
@pytest.mark.parametrize("plan", PLANS)
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
