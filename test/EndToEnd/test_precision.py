"""Training in bf16 and fp16 follows training in fp32, and every plan follows every other.

bf16 has 8 bits: a value is off by up to 2⁻⁹ of itself, and errors of many elements average out. f16 has 11, so its runs come
nearer; test_loss_scale.py has what is special in them.
"""

from __future__ import annotations

import json

import numpy
import pytest
from harness import STEPS, Compiled, Run, call, succeed
from plans import ONE, PLANS
from safetensors.numpy import load_file

OPTIONS = ("--optimizer", "sgd", "--lr", "0.2", "--clip-grad", "1")
TOLERANCES = {"bf16": (1e-2, 3e-2), "fp16": (2e-3, 6e-3)}  # of losses and gradients
CHOSEN = ("one", "dp2", "tp2", "pp2-1f1b", "pp2-gpipe", "dp2-tp2-pp2", "mixed-pp2", "recompute", "accumulate")
MODELS = ("gpt2", "llama", pytest.param("llama_tied", marks=pytest.mark.wide))  # gpt2 is tied, too


def plan_of(name: str, units: list[str]) -> dict:
    """`zero3-…`: the plan with states and parameters of all layers shared."""
    plan = name.removeprefix("zero3-")
    made = PLANS.get(plan, ONE).plan(units)
    for unit in made["units"] if name != plan else ():
        unit["strategy"]["zero"] = 3
    return made


@pytest.fixture(scope="module")
def train(models, tokens):
    """A run by model, plan and precision, made when first asked for."""
    made: dict[tuple, Run] = {}

    def get(name: str, plan: str, precision: str, *export: str) -> Run:
        key = (name, plan, precision, export)
        if key not in made:
            model = models(name, *export)
            file = model.folder / f"{plan}-{precision}.json"
            file.write_text(json.dumps(plan_of(plan, model.units)))
            output = model.folder / f"out-{plan}-{precision}"
            lowering = ("--lower", model.program, f"--precision={precision}", "-o", output)
            succeed("galvatron-opt", f"--plan={file}", *lowering)
            folder = model.folder / f"run-{plan}-{precision}"
            gradients = ("--dump-gradients", folder / "gradients")
            made[key] = Compiled(output).train(folder, "--steps", STEPS, "--data", tokens, *gradients, *OPTIONS)
        return made[key]

    return get


def gradients(run: Run) -> dict[str, numpy.ndarray]:
    return load_file(run.folder / "gradients" / "step_000001.safetensors")


def expect_near(run: Run, expected: Run, record_property, precision="bf16"):
    losses = numpy.array(run.column("loss")), numpy.array(expected.column("loss"))
    worst = numpy.max(numpy.abs(losses[0] - losses[1]) / losses[1])
    found, wanted = gradients(run), gradients(expected)
    assert found.keys() == wanted.keys()
    errors = {
        name: numpy.linalg.norm(found[name] - value) / max(numpy.linalg.norm(value), 1e-6)
        for name, value in wanted.items()
    }
    # A key's bias moves all scores of a row alike: its gradient is zero but for rounding.
    scale = max(numpy.linalg.norm(value) for value in wanted.values())
    errors = {name: error for name, error in errors.items() if numpy.linalg.norm(wanted[name]) > 1e-4 * scale}
    record_property("loss error", f"{worst:.2e}")
    record_property("gradient error", f"{max(errors.values()):.2e}")
    loss, gradient = TOLERANCES[precision]
    assert worst < loss
    assert max(errors.values()) < gradient, max(errors, key=errors.get)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("plan", CHOSEN)
def test_bf16_follows_fp32(model, plan, train, record_property):
    run = train(model, plan, "bf16")
    expect_near(run, train(model, "one", "fp32"), record_property)
    # Rounded indeed: equal bits would mean that nothing was.
    assert run.losses != train(model, "one", "fp32").losses


@pytest.mark.parametrize(
    "model, plan",
    [("llama", "dp2-tp2-pp2"), ("gpt2", "zero3-dp2")]
    + [
        pytest.param(model, plan, marks=pytest.mark.wide)
        for model in ("gpt2", "llama")
        for plan in ("one", "dp2", "tp2", "pp2-1f1b", "mixed-pp2", "recompute", "accumulate", "zero3-dp2-tp2")
    ],
)
def test_fp16_follows_fp32(model, plan, train, record_property):
    run = train(model, plan, "fp16")
    expect_near(run, train(model, "one", "fp32"), record_property, "fp16")
    assert run.losses != train(model, "one", "fp32").losses


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("plan", CHOSEN[1:])
def test_plans_agree(model, plan, train, record_property):
    expect_near(train(model, plan, "bf16"), train(model, "one", "bf16"), record_property)


@pytest.mark.parametrize("model", ("gpt2", "llama"))
def test_eager_attention(model, train, record_property):
    run = train(model, "dp2-tp2-pp2", "bf16", "--attn", "eager")
    expect_near(run, train(model, "one", "fp32"), record_property)


def test_a_run_repeats_bit_for_bit(models, tokens, train):
    first = train("llama", "dp2-tp2-pp2", "bf16")
    compiled = Compiled(models("llama").folder / "out-dp2-tp2-pp2-bf16")
    again = compiled.train(first.folder.with_name("again"), "--steps", STEPS, "--data", tokens, *OPTIONS)
    assert again.losses == first.losses


def test_a_checkpoint_continues_bit_for_bit(models, tokens, train):
    """Copies are made again from the masters that were saved."""
    whole = train("llama", "tp2", "bf16")
    compiled = Compiled(models("llama").folder / "out-tp2-bf16")
    folder = whole.folder.with_name("halves")
    data = ("--data", tokens, *OPTIONS)
    first = compiled.train(folder / "1", "--steps", STEPS // 2, "--save", folder / "saved", *data)
    second = compiled.train(folder / "2", "--steps", STEPS, "--load", folder / "saved", *data)
    assert first.losses + second.losses == whole.losses


def test_activations_take_less(models, train):
    """Masters, gradients and moments are f32 either way: what is halved is what is saved."""
    train("llama", "one", "fp32"), train("llama", "one", "bf16")
    sizes = {
        precision: Compiled(models("llama").folder / f"out-one-{precision}").plan["peak_bytes_per_rank"][0]
        for precision in ("fp32", "bf16")
    }
    assert sizes["bf16"] < sizes["fp32"]


def test_precision_is_checked(models):
    program = models("llama").program
    result = call("galvatron-opt", "--search", program, "--ranks=1", "--precision=fp8")
    assert result.returncode != 0
    assert "expects --precision fp32, bf16 or fp16, but got 'fp8'" in result.stderr
