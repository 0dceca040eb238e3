"""Single operators and writes, imported and evaluated, against PyTorch: the loss and every gradient."""

from __future__ import annotations

import subprocess
import sys

import numpy
import pytest
import torch
from conftest import MODELS

sys.path.insert(0, str(MODELS))

import operators  # noqa: E402  (the folder's path comes first)

from galvatron import compare, export  # noqa: E402

BATCH, SEQ = 4, 16


def call(*command) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def exported(module: operators.Operators, path):
    ids = torch.arange(2 * SEQ).view(2, SEQ) * 3 % 64
    export.save(module, (ids, ids), path)
    return path


@pytest.mark.parametrize("kind", operators.EXPRESSIONS)
def test_equals_pytorch(kind, tmp_path):
    torch.manual_seed(3)
    texts = operators.EXPRESSIONS[kind]
    module = operators.Operators([texts])
    program, differentiated = tmp_path / "model.mlir", tmp_path / "differentiated.mlir"
    archive = exported(module, tmp_path / "model.pt")
    call("galvatron-import", archive, "--batch", BATCH, "--seq", SEQ, "-o", program)
    call("galvatron-opt", program, "--compile-to=differentiate", "-o", differentiated)
    tokens = numpy.random.default_rng(7).integers(0, 64, (BATCH, SEQ))
    tokens.astype(numpy.uint8).tofile(tmp_path / "tokens.bin")
    options = ("--weights", tmp_path / "model.safetensors", "--data", tmp_path / "tokens.bin", "--data-dtype", "u8")
    log = call("galvatron-opt", "--evaluate", differentiated, *options, "--dump-gradients", tmp_path / "gradients")

    ids = torch.from_numpy(tokens)
    loss = module(ids, ids)
    loss.backward()
    numpy.testing.assert_allclose(float(log.split()[-1].split(",")[1]), loss.item(), rtol=1e-5)
    found, ties = compare.read_gradients(tmp_path / "gradients" / "step_000001.safetensors")
    # What the loss does not reach may be no parameter of the program.
    wanted = {name: p.grad for name, p in module.named_parameters() if p.grad is not None or name in found}
    wanted = {name: numpy.zeros_like(found[name]) if g is None else g.numpy() for name, g in wanted.items()}
    failed = [d for d in compare.compare_gradients(found, wanted, ties) if not d.passed]
    assert not failed, "\n".join(f"{operators.text_of(d.name, [texts])}: {d.name} {d.detail}" for d in failed)


@pytest.mark.parametrize("text", operators.REFUSED)
def test_is_refused(text, tmp_path):
    archive = exported(operators.Operators([[text]]), tmp_path / "model.pt")
    done = subprocess.run(["galvatron-import", archive, "-o", tmp_path / "m.mlir"], capture_output=True, text=True)
    operator, reason = operators.REFUSED[text]
    assert done.returncode == 1 and not (tmp_path / "m.mlir").exists()
    assert f"{operator} in layers.0.operators.operator0 (operators.py:" in done.stderr and reason in done.stderr
