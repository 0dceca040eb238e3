"""Runs galvatron-import on what tests export, and the program that comes out; what it refuses."""

from __future__ import annotations

import os
import re
import subprocess
import textwrap
from collections.abc import Sequence
from pathlib import Path

import imported_program
import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from galvatron import export

IMPORTER = Path(os.environ.get("GALVATRON_BUILD", ROOT / "build")) / "bin" / "galvatron-import"
needs_importer = pytest.mark.skipif(not IMPORTER.exists(), reason=f"{IMPORTER} is not built")


def run_importer(*arguments: object) -> subprocess.CompletedProcess:
    command = [str(IMPORTER), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def imported(archive: Path, batch: int, seq: int) -> tuple[str, dict[str, torch.Tensor]]:
    output = archive.with_suffix(".mlir")
    done = run_importer(archive, "--batch", batch, "--seq", seq, "-o", output)
    assert done.returncode == 0, done.stderr
    weights = archive.with_suffix(".safetensors")
    return output.read_text(), load_file(weights) if weights.exists() else {}


def tokens(batch: int, seq: int) -> torch.Tensor:
    ids = torch.randint(0, 256, (batch, seq), generator=torch.Generator().manual_seed(11))
    ids[0, :4] = torch.arange(4)  # padding rows are among the first words
    return ids


def check_equal(archive: Path, batch: int, seq: int) -> str:
    """Loss and gradients of the imported text against the exported archive itself."""
    text, parameters = imported(archive, batch, seq)
    for parameter in parameters.values():
        parameter.requires_grad_()
    ids, labels = tokens(batch, seq), tokens(batch, seq).flip(0)
    loss = imported_program.run(text, parameters, ids, labels)
    loss.backward()
    loaded = torch.jit.load(str(archive))
    expected = loaded(ids, labels)
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=2e-6, atol=0)
    gradients = {n: p.grad for n, p in loaded.named_parameters() if n in parameters}
    assert gradients.keys() == parameters.keys()
    for name, parameter in parameters.items():
        # Another order of summation; some gradients (a key's bias) are zero but for rounding.
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-6)
    return text


class Small(nn.Module):
    """[batch, seq] -> loss, with something in the middle that a test replaces."""

    def __init__(self, middle=lambda x: x) -> None:
        super().__init__()
        self.table = nn.Embedding(32, 8)
        self.head = nn.Linear(8, 32)
        self.middle = middle

    def forward(self, input_ids, labels):
        x = self.middle(self.table(input_ids))
        return functional.cross_entropy(self.head(x).flatten(0, 1), labels.flatten())


def exported(tmp_path: Path, module: nn.Module) -> Path:
    example = (torch.zeros(2, 16, dtype=torch.long), torch.zeros(2, 16, dtype=torch.long))
    export.save(module, example, tmp_path / "model.pt")
    return tmp_path / "model.pt"


def check_refused(tmp_path: Path, message: str, *arguments: object) -> None:
    output = tmp_path / "out" / "model.mlir"
    output.parent.mkdir(exist_ok=True)
    done = run_importer(*arguments, "-o", output)
    assert done.returncode == 1
    assert re.search(message, done.stderr), done.stderr
    assert len(done.stderr.splitlines()) == 1 and not list(output.parent.iterdir())


def scripted(tmp_path: Path, *lines: str, result: str = "x.mean()", methods: Sequence[str] = ()) -> Path:
    """An archive of a module without parameters: x, float [batch, seq, 8], depends on data; then the lines, which may call
    the methods."""

    class Scripted(torch.jit.ScriptModule):
        """Each has a type of its own, which a method can be added to."""

    body = ["x = torch.embedding(torch.ones([32, 8]), input_ids)", *lines, f"return {result}\n"]
    module = Scripted()
    for method in methods:
        module.define(method)
    module.define("def forward(self, input_ids, labels):\n" + textwrap.indent("\n".join(body), "    "))
    module.save(str(tmp_path / "model.pt"))
    return tmp_path / "model.pt"
