"""Training under every plan equals PyTorch: gradients of the first step, 20 losses, gradient norms."""

from __future__ import annotations

import pytest
from harness import STEPS, VOCABULARY, Layout
from plans import PLANS

from galvatron import compare

MODELS = ("gpt2", "llama", "gpt2_untied", "llama_tied")
# The gradient norm starts at about 1.5, so that 1 clips; rates at which the loss falls by a third.
SGD = ("--optimizer", "sgd", "--lr", "0.2", "--clip-grad", "1")
ADAMW = ("--lr", "3e-3", "--lr-schedule", "cosine", "--warmup", "3", "--min-lr", "1e-4", "--weight-decay", "0.1")
# fp32 sums in another order; AdamW divides by a root of a moment that may itself be rounding.
TOLERANCE = {SGD: 1e-4, ADAMW: 5e-4}


def judge(differences: list[compare.Difference]) -> float:
    """The largest error as a share of what is allowed."""
    failed = [f"{d.name}: {d.detail}" for d in differences if not d.passed]
    assert not failed, "\n".join(failed[:8])
    return max(d.ratio for d in differences)


def losses_and_norms(run, expected, tolerance: float, norms: float) -> dict[str, float]:
    result = {
        "loss": judge(compare.compare_columns(run.log, expected.log, "loss", tolerance)) * tolerance,
        "grad_norm": judge(compare.compare_columns(run.log, expected.log, "grad_norm", norms)) * norms,
    }
    judge(compare.compare_columns(run.log, expected.log, "lr", 1e-6))
    return result


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("plan", PLANS)
def test_sgd(model, plan, models, reference, tokens, record_property):
    """With clipping, so that losses depend on the norm; gradients are those before clipping."""
    compiled = models(model).compile(plan, PLANS[plan])
    folder = compiled.folder.with_name(f"sgd-{plan}")
    run = compiled.train(
        folder, "--steps", STEPS, "--data", tokens, "--dump-gradients", folder / "gradients", *SGD
    )
    expected = reference(model, *SGD)
    [pair] = compare.gradient_pairs(folder / "gradients", expected.folder / "gradients", 1)
    (actual, _), (wanted, ties) = compare.read_gradients(pair[1]), compare.read_gradients(pair[2])
    worst = {"gradient": judge(compare.compare_gradients(actual, wanted, ties)) * compare.GRADIENT_TOLERANCE}
    worst |= losses_and_norms(run, expected, TOLERANCE[SGD], 1e-5)
    for name, value in worst.items():
        record_property(f"{name} error", f"{value:.2e}")
    assert float(run.log[-1]["loss"]) < float(run.log[0]["loss"]) - 0.1


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("plan", PLANS)
def test_adamw(model, plan, models, reference, tokens, record_property):
    compiled = models(model).compile(plan, PLANS[plan])
    run = compiled.train(
        compiled.folder.with_name(f"adamw-{plan}"), "--steps", STEPS, "--data", tokens, *ADAMW
    )
    worst = losses_and_norms(run, reference(model, *ADAMW), TOLERANCE[ADAMW], 5e-4)
    for name, value in worst.items():
        record_property(f"{name} error", f"{value:.2e}")
