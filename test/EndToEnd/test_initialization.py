"""Random numbers are drawn by counter: start values and dropout do not depend on the plan."""

from __future__ import annotations

import numpy
import pytest
from harness import BATCH, SEQ, STEPS
from plans import PLANS

from galvatron import compare


def start_of(compiled, tokens, folder, *options):
    """Weights before the first update: a step with rate 0, saved."""
    compiled.train(folder, "--steps", 1, "--data", tokens, "--lr", "0", "--save", folder / "saved", *options)
    return compare.read_gradients(folder / "saved" / "model.safetensors")[0]


@pytest.mark.parametrize("model", ("llama", "gpt2"))
def test_weightless_start_is_the_same_under_every_plan(model, models, tokens, tmp_path):
    weightless = models(model, "--weightless")
    one = weightless.compile("one", PLANS["one"])
    start = start_of(one, tokens, tmp_path / "one")
    losses = one.train(tmp_path / "losses", "--steps", 5, "--data", tokens).log
    for plan in ("tp4", "dp2-tp2-pp2", "mixed"):
        compiled = weightless.compile(plan, PLANS[plan])
        other = start_of(compiled, tokens, tmp_path / plan)
        assert other.keys() == start.keys()
        for name, value in start.items():
            assert numpy.array_equal(value, other[name]), f"{name} under {plan}"
        run = compiled.train(tmp_path / f"losses-{plan}", "--steps", 5, "--data", tokens)
        assert not [d for d in compare.compare_columns(run.log, losses, "loss", 5e-4) if not d.passed]


@pytest.mark.parametrize("model", ("llama", "gpt2"))
def test_weightless_start_has_the_configured_distributions(model, models, tokens, tmp_path):
    start = start_of(models(model, "--weightless").compile("one", PLANS["one"]), tokens, tmp_path)
    matrices = {name: value for name, value in start.items() if value.ndim == 2}
    assert matrices
    for name, value in matrices.items():
        # GPT-2 draws what enters the residual with 0.02 / sqrt(2 · layers).
        expected = 0.02 / 6**0.5 if model == "gpt2" and name.endswith("c_proj.weight") else 0.02
        assert abs(value.std() / expected - 1) < 5 / (2 * value.size) ** 0.5, name
        assert abs(value.mean()) < 5 * expected / value.size**0.5, name
    for name, value in start.items():
        if value.ndim == 1:
            assert numpy.all(value == (0 if name.endswith("bias") else 1)), name
    values = list(matrices.values())
    assert not any(numpy.array_equal(a.ravel()[:64], b.ravel()[:64]) for a, b in zip(values, values[1:], strict=False))


def test_seeds_differ(models, tokens, tmp_path):
    compiled = models("llama", "--weightless").compile("dp2-tp2-pp2", PLANS["dp2-tp2-pp2"])
    starts = [start_of(compiled, tokens, tmp_path / str(k), "--seed", seed) for k, seed in enumerate((1, 1, 2))]
    for name, value in starts[0].items():
        assert numpy.array_equal(value, starts[1][name]), name
        assert value.ndim == 1 or not numpy.array_equal(value, starts[2][name]), name


@pytest.fixture(scope="module")
def dropout_on_one_rank(models, tokens, tmp_path_factory):
    compiled = models("gpt2_dropout").compile("one", PLANS["one"])
    folder = tmp_path_factory.mktemp("dropout")
    return compiled.train(folder, "--steps", STEPS, "--data", tokens, "--dump-gradients", folder / "gradients")


@pytest.mark.parametrize(
    "plan",
    ("accumulate", "tp4", "dp2-tp2-pp2", "mixed", "recompute-pp2", "uneven")
    + tuple(pytest.param(plan, marks=pytest.mark.wide) for plan in ("dp2", "pp2-gpipe", "recompute", "tp2")),
)
def test_dropout_is_the_same_under_every_plan(plan, models, tokens, tmp_path, dropout_on_one_rank):
    compiled = models("gpt2_dropout").compile(plan, PLANS[plan])
    run = compiled.train(tmp_path, "--steps", STEPS, "--data", tokens, "--dump-gradients", tmp_path / "gradients")
    [actual, wanted] = [
        compare.read_gradients(sorted((r.folder / "gradients").iterdir())[0])[0] for r in (run, dropout_on_one_rank)
    ]
    assert not [d for d in compare.compare_gradients(actual, wanted) if not d.passed]
    assert not [d for d in compare.compare_columns(run.log, dropout_on_one_rank.log, "loss", 5e-4) if not d.passed]


def test_dropout_drops(models, tokens, tmp_path, dropout_on_one_rank):
    """Other bits with another seed and in every step; the loss is near that without dropout."""
    compiled = models("gpt2_dropout").compile("one", PLANS["one"])
    same = tmp_path / "same.bin"
    same.write_bytes(tokens.read_bytes()[: BATCH * SEQ] * 3)
    frozen = ("--data", same, "--lr", "0", "--steps", 3)
    losses = compiled.train(tmp_path / "a", *frozen).losses
    assert len(set(losses)) == 3, "every step drops other elements of the same window"
    assert compiled.train(tmp_path / "b", *frozen).losses == losses
    assert compiled.train(tmp_path / "c", *frozen, "--seed", 5).losses != losses
    assert max(abs(float(loss) - 5.55) for loss in losses) < 0.1
