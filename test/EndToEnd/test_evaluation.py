"""Evaluation: the mean loss over data that are not trained on, by forwards alone under the same plan, without dropout."""

from __future__ import annotations

import json
import math
import subprocess
import time

import numpy
import pytest
import torch
from harness import BATCH, SEQ, Layout, call, environment, succeed
from plans import PLANS
from safetensors.torch import load_file

from galvatron import huggingface

PLAN_NAMES = ["one", "mixed-pp2", "zero3-pp2"]
WIDE = ["dp2-tp2-pp2", "pp2-gpipe", "uneven", "recompute-pp2", "cp2", "ulysses2", "zero1"]
TRAIN = ["--steps", 5, "--lr", 1e-2, "--save-every", 4]


def compiled_under(model, name):
    layouts = PLANS | {"cp2": Layout(ranks=2, cp=2), "ulysses2": Layout(ranks=2, ulysses=2)}
    if name in layouts:
        return model.compile(name, layouts[name])
    plan = Layout(ranks=4, stages=[0, 0, 0, 1, 1], micro_batches=2).plan(model.units)
    for unit in plan["units"]:
        unit["strategy"]["zero"] = int(name[4])
    return model.compile_plan(name, plan)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    """Tokens of 44 windows, which is no whole number of batches."""
    path = tmp_path_factory.mktemp("evaluation") / "held_out.bin"
    path.write_bytes(numpy.random.default_rng(3).integers(0, 256, 44 * SEQ + 5).astype(numpy.uint8).tobytes())
    return path


def pytorch_loss(model, weights, held_out, windows) -> float:
    with huggingface.quiet():
        module = huggingface.build_random(huggingface.read_config(model.folder / "config.json"), "sdpa", 0).eval()
    module.load_state_dict(load_file(weights), strict=False)
    module.tie_weights()
    rows = torch.from_numpy(numpy.fromfile(held_out, numpy.uint8).astype(numpy.int64))[: windows * SEQ].view(-1, SEQ)
    with torch.no_grad():
        return module(input_ids=rows, labels=rows).loss.item()


@pytest.mark.parametrize("plan", PLAN_NAMES + [pytest.param(name, marks=pytest.mark.wide) for name in WIDE])
def test_training_is_as_without_and_the_loss_pytorchs(plan, models, tokens, held_out, tmp_path):
    model = models("gpt2_dropout")
    compiled = compiled_under(model, plan)
    words = ["--data", tokens, *TRAIN]
    alone = compiled.train(tmp_path / "alone", *words, "--save", tmp_path / "alone" / "saved")
    asked = ["--eval-every", 2, "--eval-data", held_out, "--eval-batches", 3]
    run = compiled.train(tmp_path / "with", *words, *asked, "--save", tmp_path / "with" / "saved")
    assert list(run.log[0])[6:] == ["eval_loss", "eval_perplexity"]
    measured = ("tokens_per_second", "eval_loss", "eval_perplexity")
    strip = lambda row: {name: value for name, value in row.items() if name not in measured}  # noqa: E731
    assert [strip(row) for row in run.log] == [strip(row) for row in alone.log]
    for file in ("model.safetensors", "optimizer.safetensors"):
        both = [(tmp_path / way / "saved" / "step_000005" / file).read_bytes() for way in ("alone", "with")]
        assert both[0] == both[1]
    losses = [row["eval_loss"] for row in run.log]
    assert [bool(loss) for loss in losses] == [False, True, False, True, False]
    assert float(run.log[3]["eval_perplexity"]) == pytest.approx(math.exp(float(losses[3])), rel=1e-6)
    step4 = tmp_path / "with" / "saved" / "step_000004"
    assert float(losses[3]) == pytest.approx(pytorch_loss(model, step4 / "model.safetensors", held_out, 24), rel=1e-5)
    # What was loaded is what was evaluated then; no rank takes more memory.
    done = succeed(compiled.folder / "launch", *asked[2:], "--eval-only", "--load", step4, "--quiet")
    assert done.stdout == f"eval loss {float(losses[3]):.8f}\n"
    assert run.list_by_rank("peak bytes") == compiled.plan["peak_bytes_per_rank"]


def test_an_epoch_ends_with_rows_without_labels(models, held_out, tmp_path):
    model = models("gpt2")
    program, plan, saved = tmp_path / "model.mlir", tmp_path / "plan.json", tmp_path / "saved"
    succeed("galvatron-import", model.archive, "--labels", "next", "--batch", BATCH, "--seq", SEQ, "-o", program)
    plan.write_text(json.dumps(PLANS["mixed-pp2"].plan(model.units)))
    succeed("galvatron-opt", f"--plan={plan}", "--lower", program, "-o", tmp_path / "out")
    succeed(tmp_path / "out" / "launch", "--steps", 1, "--lr", 0, "--save", saved)
    words = ["--eval-only", "--eval-data", held_out, "--eval-batches", 0]
    done = succeed(tmp_path / "out" / "launch", *words, "--load", saved, "--dump-batches", tmp_path / "batches", "--quiet")
    files = sorted((tmp_path / "batches").iterdir())
    assert [file.name for file in files] == [f"evaluation_{number:06}.safetensors" for number in range(1, 7)]
    labels = torch.cat([load_file(file)["labels"] for file in files])
    assert (labels[44:] == -100).all() and (labels[:44, :-1] != -100).all()
    expected = pytorch_loss(model, saved / "model.safetensors", held_out, 44)
    assert float(done.stdout.removeprefix("eval loss ")) == pytest.approx(expected, rel=1e-5)
    refused = call(model.compile("one", PLANS["one"]).folder / "launch", *words)
    assert refused.returncode == 1
    assert "the last batch of 44 samples up with rows without labels, but this program takes it that all" in refused.stderr


def test_what_cannot_be_evaluated_is_refused(models, tokens, tmp_path):
    launch = models("gpt2_dropout").compile("one", PLANS["one"]).folder / "launch"
    (tmp_path / "short.bin").write_bytes(bytes(100))
    for options, message in (
        (["--eval-every", 2, "--data", tokens], "--eval-every has no data to evaluate: give them with --eval-data, or a"),
        (["--eval-only", "--data", tokens, "--split", "9,1"], "--split is for --samples gpt, but these samples are windows"),
        (["--eval-only", "--eval-data", tmp_path / "none"], "error: --eval-data: cannot open "),
        (["--eval-only", "--eval-data", tmp_path / "short.bin"], "100 tokens, but one batch needs 8 windows of 16, 128 tokens"),
        (["--eval-only", "--eval-batches", 0, "--eval-data", tmp_path / "short.bin"], "have 6 samples, but one batch needs 8"),
        (
            ["--eval-only", "--eval-data", tokens, "--eval-labels", "x"],
            "--eval-labels is for --samples row and packed, but these samples are windows; leave it out",
        ),
        (["--eval-batches", 2], "--eval-batches says what to evaluate, but not when; give --eval-every N or --eval-only"),
        (["--eval-only", "--save", tmp_path / "x"], "--save is of a run that trains, but --eval-only does not; leave one"),
    ):
        refused = call(launch, *options)
        assert refused.returncode == 1 and message in refused.stderr, refused.stderr
        assert refused.stderr.count("error: ") == 1


def test_what_may_be_meant_otherwise_is_a_warning(models, tokens, held_out, tmp_path):
    launch = models("gpt2_dropout").compile("one", PLANS["one"]).folder / "launch"
    words = [launch, "--data", tokens, "--steps", 3, "--quiet", "--eval-data", held_out]
    assert succeed(*words, "--eval-every", 3, "--eval-batches", 5).stderr == ""
    short = tmp_path / "short.bin"
    short.write_bytes(held_out.read_bytes()[: 5 * SEQ])
    words[words.index("--eval-data") + 1] = short
    refused = call(*words, "--eval-every", 3)
    assert refused.returncode == 1 and "give more data to evaluate, or compile for a smaller --global-batch" in refused.stderr
    words[words.index("--eval-data") + 1] = held_out
    done = succeed(*words, "--eval-every", 4)
    assert done.stderr.splitlines() == [
        "warning: --eval-batches 10 takes 80 samples, but the data to evaluate have 44, so some count more than once; give "
        "at most 5, or 0, which takes each once",
        "warning: --eval-every 4 evaluates after none of the steps 1 to 3; give a smaller number, or leave it out",
    ]


@pytest.mark.parametrize("options", (["--eval-only"], ["--steps", 9, "--eval-every", 1]), ids=("only", "training"))
def test_a_signal_does_not_wait_for_all_batches(options, models, tokens, tmp_path):
    """Hours of them: the run ends all the same, saved."""
    launch = models("gpt2_dropout").compile("pp2-1f1b", PLANS["pp2-1f1b"]).folder / "launch"
    words = [launch, "--eval-data", tokens, "--eval-batches", 10**6, "--events", tmp_path / "events", *options]
    if "--steps" in options:
        words += ["--data", tokens, "--save", tmp_path / "saved"]
    run = subprocess.Popen(list(map(str, words)), env=environment(), stderr=subprocess.PIPE, text=True)
    events, begun = tmp_path / "events" / "rank_00000.jsonl", '"event":"step"' if "--steps" in options else '"event":"start"'
    while not events.exists() or begun not in events.read_text():
        assert run.poll() is None
        time.sleep(0.05)
    run.terminate()
    errors = run.communicate()[1]
    assert run.returncode == 75, errors
    if "--steps" in options:
        assert json.loads((tmp_path / "saved" / "training.json").read_text())["step"] == 1
    else:
        assert "ended by SIGTERM before all batches were evaluated, so there is no loss" in errors
