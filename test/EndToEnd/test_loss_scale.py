"""The loss scale of fp16 is torch.amp.GradScaler's: which steps make no update, and what follows each of them."""

from __future__ import annotations

import json
import math

import numpy
import pytest
import torch
from harness import Compiled, succeed
from plans import PLANS
from safetensors.numpy import load_file, save_file

DATA = ("--lr", "3e-3", "--warmup", "2", "--clip-grad", "1", "--seed", "3")
HIGH = 2.0**40  # far beyond what gradients in f16 bear


@pytest.fixture(scope="module")
def compiled(models):
    """A model under a plan, in fp16 unless said, compiled once."""
    made = {}

    def get(plan: str, precision: str = "fp16", name: str = "llama") -> Compiled:
        key = (plan, precision, name)
        if key not in made:
            model = models(name)
            file, output = model.folder / f"scale-{plan}.json", model.folder / f"out-scale-{plan}-{precision}"
            file.write_text(json.dumps(PLANS[plan].plan(model.units)))
            lowering = ("--lower", model.program, f"--precision={precision}", "-o", output)
            succeed("galvatron-opt", f"--plan={file}", *lowering)
            made[key] = Compiled(output)
        return made[key]

    return get


def state(folder, step: int) -> dict:
    return json.loads((folder / f"step_{step:06}" / "training.json").read_text())


def grad_scaler(overflows: list[bool], window: int) -> list[tuple[float, int, int]]:
    """Scale, steps since it moved and updates so far after each step, where PyTorch sees these gradients."""
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([parameter], lr=1)
    scaler = torch.amp.GradScaler("cpu", init_scale=HIGH, growth_interval=window)
    result, updates = [], 0
    for overflow in overflows:
        scaler.scale(parameter.sum()).backward()
        if overflow:
            parameter.grad[1] = math.inf
        before = parameter.detach().clone()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        updates += not torch.equal(before, parameter.detach())
        result.append((scaler.get_scale(), scaler._get_growth_tracker(), updates))
    return result


def run_from_high(compiled: Compiled, folder, tokens, steps: int, window: int):
    options = ("--initial-loss-scale", f"{HIGH:.0f}", "--loss-scale-window", window, *DATA)
    saved = ("--save", folder / "saved", "--save-every", 1)
    return compiled.train(folder, "--steps", steps, "--data", tokens, *saved, *options)


def expect_grad_scaler(run, steps: int, window: int):
    overflows = [row["grad_norm"] == "inf" for row in run.log]
    assert overflows[0] and not all(overflows[-2 * window :])
    assert all(math.isfinite(loss) for loss in run.column("loss"))
    states = [state(run.folder / "saved", step) for step in range(1, steps + 1)]
    found = [(entry["loss_scale"], entry["loss_scale_steps"], entry["updates"]) for entry in states]
    assert found == grad_scaler(overflows, window)
    # It grew again until it overflowed again.
    assert any(overflows[index] for index in range(overflows.index(False), steps))


def test_scales_and_skipped_steps_are_those_of_grad_scaler(compiled, tokens, tmp_path):
    steps, window = 40, 2
    run = run_from_high(compiled("dp2"), tmp_path, tokens, steps, window)
    expect_grad_scaler(run, steps, window)
    message = "step 1: gradients are not finite at the loss scale 1.09951e+12, so there was no update"
    assert message in run.output
    weights = [load_file(tmp_path / "saved" / f"step_{step:06}" / "model.safetensors") for step in (1, 2)]
    for name, value in weights[0].items():
        numpy.testing.assert_array_equal(value, weights[1][name])


@pytest.mark.wide
@pytest.mark.parametrize("plan", ("one", "tp2", "pp2-1f1b", "mixed-pp2"))
def test_every_plan_has_these_scales(plan, compiled, tokens, tmp_path):
    expect_grad_scaler(run_from_high(compiled(plan), tmp_path, tokens, 40, 2), 40, 2)


def test_a_resumed_run_goes_on_bit_for_bit(compiled, tokens, tmp_path):
    """From within the overflows, and from between two growths."""
    steps, program = 34, compiled("dp2")
    options = ("--data", tokens, "--initial-loss-scale", f"{HIGH:.0f}", "--loss-scale-window", 3, *DATA)
    whole = program.train(tmp_path / "whole", "--steps", steps, "--save", tmp_path / "all", *options)
    losses = []
    for part, last in enumerate((5, 30, steps)):
        load = ("--load", tmp_path / str(part - 1)) if part else ()
        run = program.train(tmp_path / f"run{part}", "--steps", last, *load, "--save", tmp_path / str(part), *options)
        losses += run.losses
    assert losses == whole.losses
    for file in ("model.safetensors", "optimizer.safetensors"):
        assert (tmp_path / "2" / file).read_bytes() == (tmp_path / "all" / file).read_bytes()


def test_gradients_and_updates_do_not_show_the_scale(compiled, tokens, tmp_path):
    """A power of two is exact; another number rounds what it multiplies, no more."""
    runs = {
        scale: compiled("dp2").train(
            tmp_path / scale, "--steps", 3, "--loss-scale", scale, "--dump-gradients", tmp_path / scale / "gradients",
            "--data", tokens, *DATA,
        )
        for scale in ("1024", "4096", "3000")
    }  # fmt: skip
    dumped = {scale: load_file(tmp_path / scale / "gradients" / "step_000001.safetensors") for scale in runs}
    for name, value in dumped["4096"].items():
        for scale in ("1024", "3000"):
            error = numpy.linalg.norm(dumped[scale][name] - value)
            assert error <= 6e-3 * numpy.linalg.norm(value) + 1e-6, (scale, name)
    losses = numpy.array([run.column("loss") for run in runs.values()])
    numpy.testing.assert_allclose(losses, losses[:1].repeat(3, 0), rtol=1e-3)


def test_a_loss_that_is_not_finite_is_no_overflow(compiled, tokens, tmp_path):
    """Weights that make it so: the run ends with the code of a NaN, at whatever scale."""
    program = compiled("one")
    program.train(tmp_path, "--steps", 1, "--data", tokens, "--save", tmp_path / "saved", *DATA)
    weights = load_file(tmp_path / "saved" / "model.safetensors")
    weights = {name: value * (1e6 if "lm_head" in name else 1) for name, value in weights.items()}
    save_file(weights, tmp_path / "large.safetensors")
    result = program.launch("--steps", 2, "--data", tokens, "--weights", tmp_path / "large.safetensors", *DATA)
    assert result.returncode == 72, result.stderr
    assert "step 1: the loss is" in result.stderr


def test_options_without_use_are_refused(compiled, tokens):
    result = compiled("one", "bf16").launch("--steps", 1, "--data", tokens, "--loss-scale", "dynamic")
    assert result.returncode == 1
    assert "--loss-scale is for programs of fp16" in result.stderr
    assert "compile with --precision=fp16" in result.stderr


def test_the_evaluator_knows_f16(models, tmp_path):
    """The reference executor, on the timetables of a mixed plan and on the undivided program."""
    model = models("llama")
    plan, losses = tmp_path / "plan.json", []
    plan.write_text(json.dumps(PLANS["dp2-tp2-pp2"].plan(model.units)))
    for how in (("--compile-to=differentiate",), (f"--plan={plan}", "--compile-to=stage")):
        program = tmp_path / f"{len(losses)}.mlir"
        succeed("galvatron-opt", *how, "--precision=fp16", model.program, "-o", program)
        rows = succeed("galvatron-opt", "--evaluate", program, "--steps", 2).stdout.split()[1:]
        losses.append([float(row.split(",")[1]) for row in rows])
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)
    assert losses[0] != losses[1]  # of other roundings


@pytest.mark.wide
@pytest.mark.parametrize("model", ("llama", "gpt2"))
def test_fp16_is_within_a_percent_after_200_steps(model, compiled, tokens, tmp_path):
    options = ("--steps", 200, "--data", tokens, "--shuffle", *DATA)
    runs = {
        precision: compiled("dp2-tp2-pp2", precision, model).train(tmp_path / precision, *options)
        for precision in ("fp32", "fp16")
    }
    last = {precision: numpy.mean(run.column("loss")[-10:]) for precision, run in runs.items()}
    assert last["fp16"] == pytest.approx(last["fp32"], rel=1e-2)
    assert last["fp32"] < runs["fp32"].column("loss")[0] - 1
