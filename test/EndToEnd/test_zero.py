"""ZeRO: ranks share the states of parameters, and training is PyTorch's all the same.

Three AdamW steps or more, as a stale gathered copy shows in the second; weight decay, and clipping that binds.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import struct
from pathlib import Path

import pytest
from equality import ADAMW, SGD, equals_pytorch
from harness import Compiled, Layout, Model, call, check, check_checkpoints, columns, config_of, environment, succeed
from plans import PLANS
from zero_plans import LAYOUTS, compile_zero

TRAIN = ("--lr", "3e-3", "--warmup", "2", "--weight-decay", "0.1", "--clip-grad", "1", "--shuffle")
# All gradients are partial along more than dp, or those of norms are.
SEQUENCE_LAYOUTS = {
    "dp2-sp2": Layout(ranks=4, tp=2, sequence_parallel=True, micro_batches=2),
    "dp2-ulysses2": Layout(ranks=4, ulysses=2, micro_batches=2),
    "cp2-dp2": Layout(ranks=4, cp=2, micro_batches=2),
    "cp2-sp2-dp2": Layout(ranks=8, cp=2, tp=2, sequence_parallel=True),
    "mixed": Layout(
        ranks=4,
        cp=[1, 2, 1, 1, 1],
        ulysses=[1, 1, 2, 1, 4],
        tp=[1, 2, 2, 1, 1],
        sequence_parallel=[False, True, True, False, False],
        micro_batches=2,
    ),
}


def levels(*chosen: int) -> list:
    """All levels of ZeRO: the others with --wide, as test/unit/Equivalence draws them too."""
    return [level if level in chosen else pytest.param(level, marks=pytest.mark.wide) for level in (1, 2, 3)]


@pytest.mark.parametrize(
    "name, level",
    [
        pytest.param(name, level, marks=() if level == 3 or name in ("dp2-accumulate", "mixed-pp2") else pytest.mark.wide)
        for name in LAYOUTS
        for level in (1, 2, 3)
    ],
)
def test_adamw(name, level, models, reference, tokens, record_property):
    compiled = compile_zero(models, "llama", name, level)
    equals_pytorch(compiled, tokens, reference("llama", *ADAMW), ADAMW, 1e-5, record_property)


@pytest.mark.parametrize("level", levels(1, 3))
@pytest.mark.parametrize("model", ("gpt2", "llama_tied"))
@pytest.mark.parametrize("name", ("dp2-pp2", *(pytest.param(n, marks=pytest.mark.wide) for n in ("dp2-tp2", "dp2-accumulate"))))
def test_sgd_with_gradients(name, model, level, models, reference, tokens, record_property):
    """Gradients of the first step, and clipping; a table that both ends read, on one stage or two."""
    compiled = compile_zero(models, model, name, level)
    equals_pytorch(compiled, tokens, reference(model, *SGD), SGD, 1e-5, record_property)


def test_a_level_for_each_layer(models, reference, tokens, record_property):
    compiled = compile_zero(models, "llama", "dp2-accumulate", [3, 1, 0, 2, 1])
    equals_pytorch(compiled, tokens, reference("llama", *ADAMW), ADAMW, 1e-5, record_property)


@pytest.mark.parametrize("level", levels(1, 3))
def test_three_ranks(level, models, tokens, tmp_path):
    """A number that divides no parameter: against one device on the same batch."""
    model = Model("llama", config_of("llama"), tmp_path / "model", batch=6)
    runs = []
    for ranks in (1, 3):
        plan = Layout(ranks=ranks, micro_batches=2).plan(model.units, 6)
        for unit in plan["units"]:
            unit["strategy"]["zero"] = level if ranks > 1 else 0
        compiled = model.compile_plan(f"dp{ranks}", plan)
        runs.append(compiled.train(tmp_path / str(ranks), "--steps", 5, "--data", tokens, *TRAIN))
    check(columns(runs[1], runs[0], loss=1e-4, grad_norm=1e-4))


@pytest.mark.parametrize("level", (1, 2, 3))
@pytest.mark.parametrize("name", ("dp2", "dp2-tp2-pp2", "dp2-accumulate"))
def test_peak_equals_the_plan(name, level, models, tokens, tmp_path):
    compiled = compile_zero(models, "llama", name, level)
    run = compiled.train(tmp_path, "--steps", 2, "--data", tokens)
    assert run.list_by_rank("peak bytes") == compiled.plan["peak_bytes_per_rank"]


def test_levels_save_memory(models):
    peaks = [
        max(compile_zero(models, "llama", "dp4", level).plan["peak_bytes_per_rank"]) for level in (0, 1, 2, 3)
    ]
    assert peaks == sorted(peaks, reverse=True) and len(set(peaks)) == 4


def saved(compiled, tokens, folder, steps, *options):
    compiled.train(folder, "--steps", steps, "--data", tokens, "--save", folder / "saved", *TRAIN, *options)
    return folder / "saved"


@pytest.mark.parametrize(
    "model, level",
    [("llama", 1), ("llama", 3), ("gpt2", 2)]
    + [pytest.param(*case, marks=pytest.mark.wide) for case in (("llama", 2), ("gpt2", 1), ("gpt2", 3))],
)
def test_checkpoints_under_any_plan(model, level, models, tokens, tmp_path):
    """Written under a level, read under pp and under no level, moments and all; and the other way round."""
    zero = compile_zero(models, model, "dp2-tp2-pp2", level)
    others = [models(model).compile("pp2-1f1b", PLANS["pp2-1f1b"]), models(model).compile("one", PLANS["one"])]
    first = saved(zero, tokens, tmp_path / "first", 3)
    expected = saved(others[1], tokens, tmp_path / "expected", 3)
    check_checkpoints(first, expected)
    # One step on from the same checkpoint.
    for number, other in enumerate([*others, zero]):
        again = saved(other, tokens, tmp_path / f"again{number}", 4, "--load", first)
        rest = saved(zero, tokens, tmp_path / f"rest{number}", 4, "--load", first)
        check_checkpoints(again, rest)


@pytest.mark.parametrize("level", levels(1, 3))
def test_continues_exactly(level, models, tokens, tmp_path):
    compiled = compile_zero(models, "llama", "dp2-accumulate", level)
    whole = saved(compiled, tokens, tmp_path / "whole", 6)
    half = saved(compiled, tokens, tmp_path / "half", 3)
    rest = saved(compiled, tokens, tmp_path / "rest", 6, "--load", half)
    for file in ("model.safetensors", "optimizer.safetensors"):
        assert (whole / file).read_bytes() == (rest / file).read_bytes()


def test_nothing_to_share_is_refused(models, tmp_path):
    plan = Layout(ranks=2, tp=2).plan(models("llama").units)
    plan["units"][1]["strategy"]["zero"] = 2
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    options = (f"--plan={tmp_path / 'plan.json'}", "--lower", "-o", tmp_path / "out")
    result = call("galvatron-opt", models("llama").program, *options)
    assert result.returncode == 1
    assert "'model.layers.0' (stage 0) key 'zero' expects 0 where dp x ulysses x cp is 1, but got 2" in result.stderr


@pytest.mark.parametrize("level, every", [(0, True), (1, True), (2, False), (3, False)])
@pytest.mark.parametrize("name", ("dp2-accumulate", "dp2-pp2"))
def test_when_gradients_are_reduced(name, level, every, models, reference, tokens, tmp_path, record_property):
    """A table that both ends read, too; memory is as planned."""
    compiled = compile_zero(models, "llama_tied", name, level, every=every)
    equals_pytorch(compiled, tokens, reference("llama_tied", *SGD), SGD, 1e-5, record_property)
    run = compiled.train(tmp_path, "--steps", 1, "--data", tokens)
    assert run.list_by_rank("peak bytes") == compiled.plan["peak_bytes_per_rank"]


def test_reductions_once_a_step_take_memory(models):
    """Of all layers' whole gradients; after each micro-batch of ZeRO 0, of another copy of one layer's or two."""
    peaks = {
        (level, every): max(
            compile_zero(models, "llama", "dp2-accumulate", level, every=every).plan["peak_bytes_per_rank"]
        )
        for level in (0, 1, 2, 3)
        for every in (False, True)
    }
    assert peaks[0, False] < peaks[0, True]
    assert peaks[1, True] == peaks[2, True] < peaks[1, False] == peaks[2, False]
    assert peaks[3, True] < peaks[3, False]
    assert max(compile_zero(models, "llama", "dp2-accumulate", 2).plan["peak_bytes_per_rank"]) == peaks[2, True]


@pytest.mark.parametrize(
    "name, model, level",
    [
        ("dp2-sp2", "llama", 2),
        ("dp2-ulysses2", "llama", 1),
        ("cp2-dp2", "gpt2", 3),
        ("cp2-sp2-dp2", "llama", 1),
        ("mixed", "llama", 2),
        ("mixed", "gpt2", 3),
    ],
)
def test_with_sequence_parallelism(name, model, level, models, reference, tokens, record_property):
    compiled = compile_zero(models, model, name, level, SEQUENCE_LAYOUTS[name])
    equals_pytorch(compiled, tokens, reference(model, *SGD), SGD, 1e-5, record_property)


@pytest.mark.parametrize("level", levels(1, 3))
def test_bf16(level, models, tokens, tmp_path):
    """Bodies read gathered copies, which the update rounds: the same bits as without ZeRO, but for sums' order."""
    model, runs = models("llama"), []
    for own in (0, level):
        plan = LAYOUTS["dp2-accumulate"].plan(model.units, model.batch)
        for unit in plan["units"]:
            unit["strategy"]["zero"] = own
        (tmp_path / f"{own}.json").write_text(json.dumps(plan))
        options = (f"--plan={tmp_path / f'{own}.json'}", "--lower", "--precision=bf16", "--verify-timetable")
        proof = succeed("galvatron-opt", model.program, *options, "-o", tmp_path / f"out{own}").stdout
        assert ("0 lists of states" in proof) == (own == 0)
        runs.append(Compiled(tmp_path / f"out{own}").train(tmp_path / f"run{own}", "--steps", 8, "--data", tokens, *TRAIN))
    check(columns(runs[1], runs[0], loss=2e-3, grad_norm=2e-3))
    plan = Compiled(tmp_path / f"out{level}").plan
    assert runs[1].list_by_rank("peak bytes") == plan["peak_bytes_per_rank"]


#===------------------------------------------------------------------------===#
# Bad input and faults
#===------------------------------------------------------------------------===#


@pytest.fixture(scope="module")
def sharing(models):
    """Two stages of two ranks that share all states, parameters too."""
    return compile_zero(models, "llama", "dp2-pp2", 3)


def test_not_finite_is_agreed_on(sharing, tokens, tmp_path):
    """What is not finite lies in one rank's piece alone: all ranks end with one message, and no checkpoint changes."""
    from safetensors.numpy import load_file, save_file

    before = saved(sharing, tokens, tmp_path, 2)
    files = {path: path.read_bytes() for path in before.iterdir()}
    tensors = load_file(before / "optimizer.safetensors")
    key = "model.layers.2.mlp.down_proj.weight.exp_avg"
    tensors[key][-1, -1] = float("nan")
    bad = tmp_path / "bad"
    shutil.copytree(before, bad)
    save_file(tensors, bad / "optimizer.safetensors")
    (bad / "checksums.xxh128").unlink()
    result = sharing.launch("--quiet", "--steps", 4, "--data", tokens, "--load", bad, "--save", before, *TRAIN)
    assert result.returncode == 72 and result.stderr.count("error:") == 1, result.stderr
    told = r"step 4: .*: parameter model\.layers\.2\.mlp\.down_proj\.weight \(stage 1\) is nan at \[\d+, \d+\], and so are its moments"
    assert re.search(told, result.stderr), result.stderr
    assert {path: path.read_bytes() for path in before.iterdir()} == files


def test_gradients_that_overflow(sharing, tokens):
    """The norm of pieces is not finite: no rank updates anything, and all say the same."""
    result = sharing.launch("--quiet", "--steps", 9, "--data", tokens, "--optimizer", "sgd", "--lr", "1e25")
    assert result.returncode == 72 and result.stderr.count("error:") == 1, result.stderr
    assert re.search(r"error: step 2: .*; try a smaller --lr", result.stderr), result.stderr


@pytest.mark.parametrize("file", ("model.safetensors", "optimizer.safetensors"))
def test_truncated_and_damaged_checkpoints(file, sharing, tokens, tmp_path):
    from safetensors.numpy import load_file, save_file

    good = saved(sharing, tokens, tmp_path, 1)

    def told(name: str, change) -> str:
        bad = tmp_path / name
        shutil.copytree(good, bad)
        (bad / "checksums.xxh128").unlink()  # what is told without them
        change(bad / file)
        result = sharing.launch("--quiet", "--steps", 2, "--data", tokens, "--load", bad, *TRAIN)
        assert result.returncode == 1 and result.stderr.count("error:") == 1, result.stderr
        assert str(bad / file) in result.stderr
        return result.stderr

    def leave_out(path: Path):
        tensors = load_file(path)
        del tensors[next(key for key in tensors if "layers.1.mlp.up_proj" in key)]
        save_file(tensors, path)

    def reshape(path: Path):
        tensors = load_file(path)
        key = next(key for key in tensors if "layers.1.mlp.up_proj" in key)
        tensors[key] = tensors[key].reshape(-1)
        save_file(tensors, path)

    error = told("truncated", lambda path: os.truncate(path, path.stat().st_size - 100))
    assert re.search(r"tensor \S+ lies at bytes .*; it may be truncated", error), error
    for name, change in (("left out", leave_out), ("reshaped", reshape)):
        assert "model.layers.1.mlp.up_proj.weight" in told(name, change)


def tensor_bytes(path: Path, name: str) -> tuple[int, int]:
    """Where a tensor lies in its file."""
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        begin, end = json.loads(file.read(size))[name]["data_offsets"]
    return 8 + size + begin, 8 + size + end


@pytest.mark.parametrize("level", [pytest.param(0, marks=pytest.mark.wide), pytest.param(2, marks=pytest.mark.wide), 3])
def test_a_byte_that_differs(level, models, tokens, tmp_path):
    """The size is right and every number finite; the file, and the tensor in it, are named whatever level wrote them."""
    compiled = compile_zero(models, "llama", "dp2-pp2", level)
    good = saved(compiled, tokens, tmp_path, 1)
    succeed("xxh128sum", "-c", "checksums.xxh128", cwd=good)
    for file, suffix in (("model", ""), ("optimizer", ".exp_avg_sq")):
        path, name = good / f"{file}.safetensors", f"model.layers.2.mlp.up_proj.weight{suffix}"
        before = path.read_bytes()
        place = random.Random(level).randrange(*tensor_bytes(path, name))
        path.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
        result = compiled.launch("--quiet", "--steps", 2, "--data", tokens, "--load", good, *TRAIN)
        assert result.returncode == 1 and result.stderr.count("error:") == 1, result.stderr
        assert f"{path} is damaged, or of another save than" in result.stderr, result.stderr
        assert f"tensor {name} differs; copy" in result.stderr, result.stderr
        path.write_bytes(before)
    assert compiled.launch("--quiet", "--steps", 2, "--data", tokens, "--load", good, *TRAIN).returncode == 0


@pytest.mark.parametrize("number", (signal.SIGSEGV, signal.SIGKILL))
def test_a_rank_that_dies_inside_a_gather(number, sharing, tokens, monkeypatch):
    """The others wait for its piece: they end with it, and there is a message."""
    tool = Path(shutil.which("galvatron-opt", path=environment()["PATH"])).resolve()
    library = tool.parent.parent / "lib" / "libdies-in-gather.so"
    monkeypatch.setenv("MPIRUN_FLAGS", f"-x LD_PRELOAD={library}")
    for name, value in (("RANK", 1), ("CALL", 9), ("SIGNAL", int(number))):
        monkeypatch.setenv(f"DIES_{name}", str(value))
    words = ("--quiet", "--steps", "2", "--data", str(tokens))
    result = call(sharing.folder / "launch", *words, timeout=60)
    assert result.returncode != 0
    if number == signal.SIGSEGV:
        told = r"error: rank 1 \(stage 0\), step 1, gather parameters of model\.\S+ micro-batch \d.*: Segmentation fault"
        assert re.search(told, result.stderr), result.stderr
    else:
        assert re.search(r"error: rank 1 \(stage 0\) on host \S+, process \d+, died", result.stderr), result.stderr
