"""The comparer passes what the rule allows and fails everything else, with its exit code."""

from __future__ import annotations

import json
import math

import numpy
import pytest
from safetensors.numpy import save_file

from galvatron import compare


def gradients(**changes) -> dict[str, numpy.ndarray]:
    generator = numpy.random.default_rng(1)
    base = {
        "embed.weight": generator.normal(size=(8, 4)),
        "key.bias": generator.normal(size=4) * 1e-9,  # zero in exact arithmetic
        "norm.weight": generator.normal(size=4),
    }
    return {k: v.astype(numpy.float32) for k, v in {**base, **changes}.items()}


def failures(actual, expected, ties=()) -> list[str]:
    return [d.name for d in compare.compare_gradients(actual, expected, ties) if not d.passed]


def test_equal_gradients_pass():
    assert failures(gradients(), gradients()) == []


def test_the_rule_is_relative_to_each_parameter():
    wanted = gradients()
    for share, failed in ((0.5e-4, []), (2e-4, ["norm.weight"])):
        close = {**wanted, "norm.weight": wanted["norm.weight"] * numpy.float32(1 + share)}
        assert failures(close, wanted) == failed


def test_gradients_that_should_be_zero_have_a_floor():
    wanted = gradients()
    total = math.sqrt(sum(float((g.astype(float) ** 2).sum()) for g in wanted.values()))
    for size, failed in ((0.5e-9, []), (2e-9, ["key.bias"])):
        noise = numpy.full(4, size * total / 2, numpy.float32)
        assert failures({**wanted, "key.bias": wanted["key.bias"] + noise}, wanted) == failed


def test_missing_extra_misshapen_and_nan():
    wanted = gradients()
    less = {k: v for k, v in wanted.items() if k != "norm.weight"}
    assert failures(less, wanted) == ["norm.weight"]
    assert failures({**wanted, "other": wanted["norm.weight"]}, wanted) == ["other"]
    assert failures({**wanted, "norm.weight": wanted["norm.weight"][:2]}, wanted) == ["norm.weight"]
    broken = {**wanted, "norm.weight": wanted["norm.weight"] * numpy.nan}
    assert failures(broken, wanted) == ["norm.weight"]


def test_tied_parameters_go_by_any_of_their_names():
    wanted = gradients()
    ties = [["embed.weight", "head.weight"]]
    other = {("head.weight" if k == "embed.weight" else k): v for k, v in wanted.items()}
    assert failures(other, wanted, ties) == []
    assert failures(other, wanted) == ["embed.weight", "head.weight"]
    both = {**wanted, "head.weight": wanted["embed.weight"] * 2}
    assert failures(both, wanted, ties) == ["embed.weight"]


def write(folder, step, tensors, ties=()):
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / f"step-{step:06d}.safetensors", {"ties": json.dumps(ties)})


def test_command_line(tmp_path, capsys):
    wanted = gradients()
    for step in (1, 2):
        write(tmp_path / "reference", step, wanted)
        write(tmp_path / "good", step, wanted)
        write(tmp_path / "bad", step, {**wanted, "norm.weight": wanted["norm.weight"] * step})
    write(tmp_path / "few", 1, wanted)
    expected = str(tmp_path / "reference")

    def run(name, *options) -> int:
        return compare.main(["--gradients", str(tmp_path / name), expected, *options])

    assert run("good") == 0
    assert "step 2 gradients: 3 passed" in capsys.readouterr().out
    assert run("bad") == 1
    output = capsys.readouterr().out
    assert "step 1 gradients: 3 passed" in output
    assert "step 2 gradients: 1 of 3 FAILED" in output and "! " in output
    assert run("bad", "--steps", "1") == 0
    assert run("few", "--steps", "1") == 0
    assert run("few") == 2
    assert "has no gradients of step 2" in capsys.readouterr().err
    one = "step-000002.safetensors"
    files = [str(tmp_path / "bad" / one), str(tmp_path / "reference" / one)]
    assert compare.main(["--gradients", *files]) == 1


HEADER = "step,loss,lr,grad_norm,tokens_per_second,peak_bytes\n"


def test_losses(tmp_path, capsys):
    expected = tmp_path / "expected.csv"
    expected.write_text(HEADER + "1,5.5,0.1,2,1,1\n2,5,0.1,2,1,1\n")
    cases = [
        ("1,5.5002,0.1,2,9,9\n2,5.0001,0.1,2,9,9\n3,4,0,0,0,0\n", 0),
        ("1,5.5,0.1,2,9,9\n2,5.001,0.1,2,9,9\n", 1),
        ("1,5.5,0.1,2,9,9\n", 1),
        ("1,5.5,0.1,2,9,9\n2,nan,0.1,2,9,9\n", 1),
        ("1,5.5,0.1,2,9,9\n2,5,0.1,2.1,9,9\n", 1),
    ]
    for rows, code in cases:
        actual = tmp_path / "actual.csv"
        actual.write_text(HEADER + rows)
        options = ["--norm-tolerance", "1e-3"]
        assert compare.main(["--losses", str(actual), str(expected), *options]) == code
    assert "grad_norm: 1 of 2 FAILED" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments,message",
    [
        ([], "nothing to compare"),
        (["--losses", "none.csv", "none.csv"], "cannot read none.csv"),
        (["--gradients", "none", "none"], "has no safetensors files"),
    ],
)
def test_errors(arguments, message, capsys):
    assert compare.main(arguments) == 2
    assert message in capsys.readouterr().err
