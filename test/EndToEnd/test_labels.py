"""Which token each position is to predict: the module shifts its labels, or `galvatron-import --labels next` does."""

from __future__ import annotations

import json

import pytest
import torch
from decoder import WORDS, Decoder
from harness import Compiled, call, succeed
from torch.nn import functional

from galvatron import export

BATCH, SEQ, STEPS, RATE = 8, 16, 5, 0.5
COPIES = "compares the logits of each position with the token at the same position"


@pytest.fixture
def export_to(tmp_path):
    def run(module, *options):
        torch.manual_seed(0)
        ids = torch.zeros(2, 8, dtype=torch.int64)
        export.save(module, (ids, ids), tmp_path / "model.pt")
        program = tmp_path / "model.mlir"
        words = [tmp_path / "model.pt", "--batch", BATCH, "--seq", SEQ, "-o", program, *options]
        return program, call("galvatron-import", *words)

    return run


@pytest.mark.parametrize("shifts", [False, True])
def test_next_equals_a_loader_that_shifts(shifts, export_to, tmp_path):
    torch.manual_seed(1)
    module = Decoder(shifts=shifts)
    program, done = export_to(module, "--labels", "next")
    assert done.returncode == 0 and done.stderr == ""
    data = torch.randint(0, WORDS, (STEPS * BATCH, SEQ), generator=torch.Generator().manual_seed(2))
    (tmp_path / "tokens.bin").write_bytes(data.to(torch.uint8).numpy().tobytes())

    expected = []
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE)
    for idx in data.split(BATCH):
        targets = torch.cat([idx[:, 1:], torch.full((BATCH, 1), -1)], 1)
        _, loss = module(idx, idx if shifts else targets)
        expected.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    training = ["--optimizer", "sgd", "--lr", RATE, "--steps", STEPS, "--data", tmp_path / "tokens.bin"]
    weights = ["--weights", program.with_suffix(".safetensors")]
    rows = succeed("galvatron-opt", "--evaluate", program, *weights, *training).stdout.split()[1:]
    assert [float(row.split(",")[1]) for row in rows] == pytest.approx(expected, rel=1e-5)
    for name, options in {"one": ["--ranks=1"], "many": ["--ranks=4", f"--plan={tmp_path / 'plan.json'}"]}.items():
        if name == "many":
            write_plan(tmp_path, Compiled(tmp_path / "one").units)
        else:
            options = ["--search", *options]
        succeed("galvatron-opt", *options, "--lower", program, "-o", tmp_path / name)
        run = Compiled(tmp_path / name).train(tmp_path / f"run-{name}", *training, "--data-dtype", "u8")
        assert run.column("loss") == pytest.approx(expected, rel=1e-5)


def write_plan(folder, units: list[str]):
    """Two stages of two ranks that share the samples, two micro-batches."""
    stages = [int(number >= len(units) / 2) for number in range(len(units))]
    listed = [{"path": path, "stage": stage} for path, stage in zip(units, stages)]
    (folder / "plan.json").write_text(json.dumps({"ranks": 4, "micro_batches": 2, "units": listed}))


@pytest.mark.parametrize(
    "options, labels, warning",
    [
        ({}, "same", COPIES),
        ({"attends": False}, "same", COPIES),
        ({"shifts": True}, "same", None),
        ({"is_causal": False}, "same", None),
        ({"is_causal": False}, "next", None),
        ({"shifts": True}, "next", None),
    ],
)
def test_warnings(options, labels, warning, export_to):
    _, done = export_to(Decoder(**options), "--labels", labels)
    assert done.returncode == 0
    if warning:
        assert done.stderr.count("\n") == 1 and "the loss (decoder.py:" in done.stderr
        assert "galvatron-import: warning: " in done.stderr and warning in done.stderr
    else:
        assert done.stderr == ""


class TwoLosses(Decoder):
    """One for a loader that shifts, one that shifts itself."""

    def forward(self, idx, targets):
        logits = self.head(self.embedding(idx))
        moved = functional.cross_entropy(logits[:, :-1].reshape(-1, WORDS), targets[:, 1:].reshape(-1))
        return functional.cross_entropy(logits.reshape(-1, WORDS), targets.reshape(-1)) + moved


def test_what_is_moved_twice_is_told(export_to):
    _, done = export_to(TwoLosses(), "--labels", "next")
    assert done.returncode == 0
    assert "moves its labels itself, so that --labels next moves them twice; " in done.stderr


class WrittenOut(Decoder):
    def forward(self, idx, targets):
        return (self.head(self.embedding(idx)).mean(-1) - targets.float()).pow(2).mean()


class Gathered(Decoder):
    def forward(self, idx, targets):
        return -self.head(self.embedding(idx)).log_softmax(-1).gather(-1, targets[..., None]).mean()


@pytest.mark.parametrize(
    "module, reason",
    [
        (WrittenOut, "no cross_entropy reads the labels that --labels next moves"),
        (Gathered, "counts every label, so nothing would leave out the last position"),
    ],
)
def test_next_needs_a_loss_that_ignores_labels(module, reason, export_to):
    program, done = export_to(module(), "--labels", "next")
    assert done.returncode == 1 and reason in done.stderr
    assert not program.exists()


def test_another_word_is_refused(export_to):
    _, done = export_to(Decoder(), "--labels", "shifted")
    assert done.returncode == 1 and "expects --labels same or next, but got 'shifted'" in done.stderr
