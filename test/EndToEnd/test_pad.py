"""Padding: what a degree does not divide is padded where the plan asks for it, and training is PyTorch's all the same.

A vocabulary of 257 (a prime), a feed-forward width of 50, 12 heads, or 6 over 2 of keys and values: none of 2, 3, 4 and
5 divides all of them. Files hold the model's own shapes. Sequences of 15 tokens are of 16 positions for all layers.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy
import pytest
from equality import ADAMW, SGD, equals_pytorch
from harness import BATCH, STEPS, Compiled, Layout, Model, call, check_checkpoints, config_of, succeed, targets

CONFIGS = {
    "gpt2": config_of("gpt2", vocab_size=257, n_embd=48, n_head=12, n_inner=50, n_layer=2),
    "llama": config_of(
        "llama",
        vocab_size=257,
        hidden_size=48,
        intermediate_size=50,
        num_attention_heads=6,
        num_key_value_heads=2,
        num_hidden_layers=2,
        attention_bias=True,
    ),
    "qwen3": config_of("qwen3", vocab_size=257, intermediate_size=50, num_hidden_layers=2, tie_word_embeddings=True),
    "alibi": config_of("falcon_alibi", vocab_size=257, ffn_hidden_size=50, num_hidden_layers=2),
}
PLANS = {
    "tp2": Layout(ranks=2, tp=2),
    "tp3": Layout(ranks=3, tp=3),
    "tp4": Layout(ranks=4, tp=4, recompute=[False, True, False, False]),
    "tp5": Layout(ranks=5, tp=5),
    "dp2-tp3-pp2": Layout(ranks=12, tp=3, stages=[0, 0, 1, 1], micro_batches=2),
    "ulysses4": Layout(ranks=4, ulysses=4),
    "tp4-sp": Layout(ranks=4, tp=4, sequence_parallel=True),
    # One layer type padded in two ways, and a tied table to what both its readers need.
    "mixed": Layout(ranks=4, tp=[4, 4, 2, 2]),
    "mixed-pp2": Layout(ranks=8, tp=[4, 2, 1, 4], stages=[0, 0, 1, 1], micro_batches=2),
}


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    made: dict[str, Model] = {}

    def get(name: str) -> Model:
        if name not in made:
            made[name] = Model(name, CONFIGS[name], tmp_path_factory.mktemp("odd") / name)
        return made[name]

    return get


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    """As the session's, but of a vocabulary beyond a byte: u16."""
    generator = numpy.random.default_rng(7)
    words = [generator.integers(0, 257, 5) for _ in range(12)]
    tokens = numpy.concatenate([words[i] for i in generator.integers(0, 12, 800)])
    path = tmp_path_factory.mktemp("tokens") / "tokens.bin"
    path.write_bytes(tokens.astype(numpy.uint16).tobytes())
    return path


@pytest.fixture(scope="module")
def expected(odd, pytorch, text, tmp_path_factory):
    runs = {}

    def get(name: str, *options):
        if (name, options) not in runs:
            folder = tmp_path_factory.mktemp("expected") / name
            data = ("--data", text, "--data-dtype", "u16")
            runs[name, options] = pytorch(odd(name), folder, *data, "--steps", STEPS, *options)
        return runs[name, options]

    return get


def compile_padded(model: Model, name: str, layout: Layout, zero: int = 0, pad: bool = True):
    plan = layout.plan(model.units, BATCH)
    for unit in plan["units"]:
        unit["strategy"] |= {"pad": pad, "zero": zero}
    return model.compile_plan(f"{name}-zero{zero}", plan)


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("model", ("llama", pytest.param("gpt2", marks=pytest.mark.wide)))
def test_sgd_with_gradients(model, name, odd, expected, text, record_property):
    compiled = compile_padded(odd(model), name, PLANS[name])
    equals_pytorch(compiled, text, expected(model, *SGD), SGD, 1e-5, record_property)


@pytest.mark.parametrize("name", ("tp3", "tp4"))
@pytest.mark.parametrize("model", ("qwen3", "alibi"))
def test_other_families(model, name, odd, expected, text, record_property):
    """Norms of heads without bias, tied embeddings; biases of attention by head."""
    compiled = compile_padded(odd(model), name, PLANS[name])
    equals_pytorch(compiled, text, expected(model, *SGD), SGD, 1e-5, record_property)


@pytest.mark.parametrize("name,zero", [("tp5", 0), ("dp2-tp3-pp2", 0), ("dp2-tp3-pp2", 1), ("dp2-tp3-pp2", 3)])
@pytest.mark.parametrize("model", ("gpt2", "llama"))
def test_adamw(model, name, zero, odd, expected, text, record_property):
    compiled = compile_padded(odd(model), name, PLANS[name], zero)
    equals_pytorch(compiled, text, expected(model, *ADAMW), ADAMW, 1e-5, record_property)


TRAIN = ("--lr", "3e-3", "--weight-decay", "0.1", "--clip-grad", "1")


def saved(compiled, text, folder, steps, *options):
    compiled.train(folder, "--steps", steps, "--data", text, "--save", folder / "saved", *TRAIN, *options)
    return folder / "saved"


@pytest.mark.parametrize("zero", (0, pytest.param(1, marks=pytest.mark.wide), 3))
@pytest.mark.parametrize("model", ("gpt2", pytest.param("llama", marks=pytest.mark.wide)))
def test_checkpoints_hold_the_models_shapes(model, zero, odd, text, tmp_path):
    """Written padded, read without padding, moments and all; and the other way round."""
    padded = compile_padded(odd(model), "dp2-tp3-pp2", PLANS["dp2-tp3-pp2"], zero)
    one = odd(model).compile("one", Layout())
    first, expected = saved(padded, text, tmp_path / "first", 3), saved(one, text, tmp_path / "expected", 3)
    runs = [(first, expected)]
    # One step on from the same checkpoint.
    for start in (first, expected):
        name = start.parent.name
        runs.append(
            (
                saved(padded, text, tmp_path / f"{name}-padded", 4, "--load", start),
                saved(one, text, tmp_path / f"{name}-one", 4, "--load", start),
            )
        )
    for found, wanted in runs:
        check_checkpoints(found, wanted)


def test_peak_equals_the_plan(odd, text, tmp_path):
    compiled = compile_padded(odd("gpt2"), "dp2-tp3-pp2", PLANS["dp2-tp3-pp2"], 1)
    run = compiled.train(tmp_path, "--steps", 2, "--data", text)
    assert run.list_by_rank("peak bytes") == compiled.plan["peak_bytes_per_rank"]


def test_initial_values_are_those_without_padding(odd, text, tmp_path):
    """Drawn by the number of an element in the model's own tensor."""
    from safetensors.numpy import load_file

    runs = [compile_padded(odd("gpt2"), "tp5", PLANS["tp5"]), odd("gpt2").compile("one", Layout())]
    files = []
    for number, compiled in enumerate(runs):
        options = ("--data", text, "--steps", 1, "--optimizer", "sgd", "--lr", "0", "--save", tmp_path / str(number))
        compiled.train(tmp_path / f"run{number}", *options)
        files.append(load_file(tmp_path / str(number) / "model.safetensors"))
    for name, value in files[1].items():
        assert numpy.array_equal(files[0][name], value), name


def test_a_written_plan_is_read_again(odd):
    """Under the names of layer types and values that the model has without padding."""
    compiled = compile_padded(odd("llama"), "mixed-pp2", PLANS["mixed-pp2"])
    assert compiled.plan["predicted_step_seconds"] > 0
    assert set(compiled.plan["recomputable_values"]) == {"decoder", "head"}
    # The prediction is part of a program, and a plan by hand has none.
    plan = {key: value for key, value in compiled.plan.items() if not key.endswith("_step_seconds")}
    again = odd("llama").compile_plan("again", plan)
    for stage in ("stage0", "stage1"):
        assert (compiled.folder / stage).read_bytes() == (again.folder / stage).read_bytes()


SEQUENCE = 15
SEQUENCE_CONFIGS = {
    "gpt2": config_of("gpt2", n_positions=SEQUENCE, n_layer=2),  # no row of the table for padding
    "llama": config_of("llama", num_hidden_layers=2),
    "gemma2": config_of("gemma2", num_hidden_layers=2, sliding_window=4),
    "alibi": config_of("falcon_alibi", num_hidden_layers=2),
}
SEQUENCE_PLANS = {
    "cp2-zigzag-pp2": Layout(ranks=4, cp=2, cp_zigzag=True, stages=[0, 0, 1, 1], micro_batches=2),
    "ulysses2-tp2-sp": Layout(ranks=4, ulysses=2, tp=2, sequence_parallel=True, recompute=[False, True, False, False]),
    "cp2-dp2": Layout(ranks=4, cp=2),
    "mixed": Layout(ranks=4, cp=[4, 2, 1, 2], cp_kind=[None, "ring", None, None], tp=[1, 2, 2, 1]),
}


@pytest.fixture(scope="module")
def odd_sequences(tmp_path_factory):
    made: dict[str, Model] = {}

    def get(name: str) -> Model:
        if name not in made:
            folder = tmp_path_factory.mktemp("odd") / name
            made[name] = Model(name, SEQUENCE_CONFIGS[name], folder, "--seq", SEQUENCE, seq=SEQUENCE)
        return made[name]

    return get


def sequence_equals_pytorch(model: Model, name: str, zero: int, pytorch, tokens, folder: Path, record_property):
    compiled = compile_padded(model, name, SEQUENCE_PLANS[name], zero)
    assert "positions: 15, padded to 16" in compiled.plan["reasons"]["notes"]
    expected = pytorch(model, folder, "--steps", STEPS, *SGD)
    equals_pytorch(compiled, tokens, expected, SGD, 1e-5, record_property)


@pytest.mark.parametrize("model,name,zero", [("gpt2", "cp2-zigzag-pp2", 0), ("llama", "ulysses2-tp2-sp", 1)])
def test_sequences(model, name, zero, odd_sequences, pytorch, tokens, tmp_path, record_property):
    sequence_equals_pytorch(odd_sequences(model), name, zero, pytorch, tokens, tmp_path / "torch", record_property)


@pytest.mark.wide
@pytest.mark.parametrize("name,zero", [("cp2-dp2", 0), ("cp2-dp2", 3), ("ulysses2-tp2-sp", 2)])
@pytest.mark.parametrize("model", SEQUENCE_CONFIGS)
def test_sequences_of_families(model, name, zero, odd_sequences, pytorch, tokens, tmp_path, record_property):
    """Sliding windows, capped scores, biases of attention."""
    sequence_equals_pytorch(odd_sequences(model), name, zero, pytorch, tokens, tmp_path / "torch", record_property)


@pytest.mark.wide
@pytest.mark.parametrize("model", ("gpt2", "llama"))
def test_sequences_of_mixed_layers(model, odd_sequences, pytorch, tokens, tmp_path, record_property):
    """15 positions under 4, 2 and 1: 16 for all."""
    sequence_equals_pytorch(odd_sequences(model), "mixed", 0, pytorch, tokens, tmp_path / "torch", record_property)


def test_peak_with_padded_sequences(odd_sequences, tokens, tmp_path):
    name = "cp2-zigzag-pp2"
    compiled = compile_padded(odd_sequences("gpt2"), name, SEQUENCE_PLANS[name])
    run = compiled.train(tmp_path, "--steps", 2, "--data", tokens)
    assert run.list_by_rank("peak bytes") == compiled.plan["peak_bytes_per_rank"]


def test_documents_of_padded_sequences(odd_sequences, tokens, tmp_path):
    """As the evaluator has them without padding, which lies in a document of the row."""
    program, eod = tmp_path / "model.mlir", tokens.read_bytes()[3]
    shape = ("--batch", BATCH, "--seq", SEQUENCE)
    succeed("galvatron-import", odd_sequences("llama").archive, "--documents", *shape, "-o", program)
    options = ("--steps", 3, "--lr", "3e-3", "--data", tokens, "--eod", eod)
    weights = ("--weights", program.with_suffix(".safetensors"))
    rows = succeed("galvatron-opt", "--evaluate", program, *options, *weights).stdout.split()[1:]
    plan = SEQUENCE_PLANS["cp2-zigzag-pp2"].plan(odd_sequences("llama").units, BATCH)
    for unit in plan["units"]:
        unit["strategy"]["pad"] = True
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    planned = ("galvatron-opt", f"--plan={tmp_path / 'plan.json'}", program)
    assert "document_attention" in succeed(*planned, "--compile-to=lower").stdout  # not masks of all positions
    succeed(*planned, "--lower", "-o", tmp_path / "out")
    run = Compiled(tmp_path / "out").train(tmp_path / "run", *options, "--reset-at-documents")
    for number, column in enumerate(("loss", "grad_norm"), 1):
        assert run.column(column) == pytest.approx([float(row.split(",")[number]) for row in rows], rel=1e-4)


@pytest.mark.parametrize("target", targets())
def test_bf16(target, odd, tmp_path):
    """Losses of one rank and of three, as far as bf16 goes; on a GPU the same program compiles."""
    losses = []
    for name, layout in (("one", Layout()), ("tp3", PLANS["tp3"])):
        plan = layout.plan(odd("gpt2").units, BATCH)
        for unit in plan["units"]:
            unit["strategy"]["pad"] = True
        file, output = tmp_path / f"{name}.json", tmp_path / name
        file.write_text(json.dumps(plan))
        options = (f"--plan={file}", "--lower", "--precision=bf16", f"--target={target}", "-o", output)
        succeed("galvatron-opt", odd("gpt2").program, *options)
        if target == "cpu":
            losses.append(Compiled(output).train(tmp_path / f"run-{name}", "--steps", 5).column("loss"))
    if losses:
        assert numpy.allclose(losses[0], losses[1], rtol=1e-2)


def test_refused_unless_asked(odd, tmp_path):
    plan = Layout(ranks=3, tp=3).plan(odd("gpt2").units)
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    options = (f"--plan={tmp_path / 'plan.json'}", "--lower", "-o", tmp_path / "out")
    result = call("galvatron-opt", odd("gpt2").program, *options)
    assert result.returncode == 1
    assert "cannot use tp = 3: expects it to divide 257 (dimension 0 of" in result.stderr
    assert 'use a degree that does, or say "pad": true in its strategy' in result.stderr


def test_the_search_never_pads(odd_sequences, tmp_path):
    """So it does not cut 15 positions by what 4 ranks have."""
    output = tmp_path / "searched"
    succeed("galvatron-opt", "--search", "--lower", odd_sequences("llama").program, "--ranks=4", "-o", output)
    plan = Compiled(output).plan
    for unit in plan["units"]:
        strategy = unit["strategy"]
        assert not strategy.get("pad") and not strategy.get("sequence_parallel")
        assert strategy.get("cp", 1) == strategy.get("ulysses", 1) == 1
    assert not [note for note in plan["reasons"]["notes"] if "padded" in note]


def test_a_layer_that_does_not_ask_is_refused(odd_sequences, tmp_path):
    """Although it would be padded for the others."""
    plan = Layout(ranks=2, cp=2).plan(odd_sequences("llama").units)
    for unit in plan["units"][1:]:
        unit["strategy"]["pad"] = True
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    options = (f"--plan={tmp_path / 'plan.json'}", "--lower", "-o", tmp_path / "out")
    result = call("galvatron-opt", odd_sequences("llama").program, *options)
    assert result.returncode == 1
    expected = "layer 'embedding' cannot use cp = 2: expects it to divide 15 positions; use a degree that does"
    assert expected in result.stderr
