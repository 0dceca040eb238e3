"""Rows that hold several documents: positions restart, attention stays within each, the last token has no label."""

from __future__ import annotations

import json

import pytest
import torch
from harness import BATCH, MODELS, SEQ, VOCABULARY, Compiled, Layout, call, succeed

from galvatron import export, huggingface

EOD, STEPS, RATE = 7, 3, 0.5
PLANS = {
    "one": Layout(),
    "tp2_dp2": Layout(ranks=4, tp=2, micro_batches=2),
    "pp2_dp2": Layout(ranks=4, stages=[0, 0, 0, 1, 1], micro_batches=2),
    "cp2_sp2": Layout(ranks=4, cp=2, tp=2, sequence_parallel=True),
    "ulysses2": Layout(ranks=2, ulysses=2),
}


def packed(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels and position_ids of rows, int64 [batch, seq], whose documents end with EOD."""
    labels, positions = rows.clone(), torch.zeros_like(rows)
    for b in range(len(rows)):
        for i in range(1, rows.shape[1]):
            begins = rows[b, i - 1] == EOD
            positions[b, i] = 0 if begins else positions[b, i - 1] + 1
            labels[b, i] = -100 if begins else rows[b, i]
    return labels, positions


def train(module, data: torch.Tensor) -> list[float]:
    losses = []
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE)
    for rows in data.split(BATCH):
        labels, positions = packed(rows)
        loss = module(input_ids=rows, labels=labels, position_ids=positions, use_cache=False).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request, tmp_path_factory):
    """The program's path, options of its training, and the losses that PyTorch has."""
    folder = tmp_path_factory.mktemp(request.param)
    with huggingface.quiet():
        config = huggingface.read_config(MODELS / f"{request.param}.json")
        module = huggingface.build_random(config, "sdpa", 0).train()
    ids, positions = torch.arange(2 * SEQ).view(2, SEQ), (torch.arange(SEQ) % 6).expand(2, SEQ).contiguous()
    export.save(module, (ids, ids, positions), folder / "model.pt")
    program = folder / "model.mlir"
    succeed("galvatron-import", folder / "model.pt", "--batch", BATCH, "--seq", SEQ, "-o", program)
    generator = torch.Generator().manual_seed(1)
    data = torch.randint(0, VOCABULARY, (STEPS * BATCH, SEQ), generator=generator)
    data[torch.rand(data.shape, generator=generator) < 0.15] = EOD
    (folder / "tokens.bin").write_bytes(data.to(torch.uint8).numpy().tobytes())
    options = ["--optimizer", "sgd", "--lr", RATE, "--steps", STEPS, "--data", folder / "tokens.bin"]
    return program, options, train(module, data)


def goes_on_with_its_documents(compiled, options, expected, folder):
    """What a checkpoint's run had of --eod, one that goes on must have, or say that it means another."""
    packed_rows, saved = ("--reset-at-documents", "--eod", EOD), folder / "saved"
    compiled.train(folder / "first", *options, "--steps", 1, "--save", saved, *packed_rows)
    rest = compiled.train(folder / "rest", *options, "--load", saved, *packed_rows)
    assert rest.column("loss") == pytest.approx(expected[1:], rel=1e-4)
    refused = call(compiled.folder / "launch", *options, "--load", saved)
    assert refused.returncode == 1
    remedy = "give it what it had, or pass --override documents"
    assert f"on documents that end with token {EOD}, not rows of one document each; {remedy}" in refused.stderr
    compiled.train(folder / "meant", *options, "--load", saved, "--override", "documents")
    # Checkpoints of before the key are of rows of one document.
    text = json.loads((saved / "training.json").read_text())
    assert text.pop("eod") == EOD
    (saved / "training.json").write_text(json.dumps(text))
    refused = call(compiled.folder / "launch", *options, "--load", saved, *packed_rows)
    assert f"on rows of one document each, not documents that end with token {EOD}; {remedy}" in refused.stderr
    compiled.train(folder / "old", *options, "--load", saved)


def test_every_plan_trains_as_pytorch(model, tmp_path):
    program, options, expected = model
    rows = succeed(
        "galvatron-opt", "--evaluate", program, *options, "--eod", EOD,
        "--weights", program.with_suffix(".safetensors"),
    ).stdout.split()[1:]  # fmt: skip
    assert [float(row.split(",")[1]) for row in rows] == pytest.approx(expected, rel=1e-5)
    succeed("galvatron-opt", "--search", "--lower", program, "--ranks=1", "-o", tmp_path / "searched")
    units = Compiled(tmp_path / "searched").units
    for name, layout in PLANS.items():
        (tmp_path / "plan.json").write_text(json.dumps(layout.plan(units)))
        succeed("galvatron-opt", f"--plan={tmp_path / 'plan.json'}", "--lower", program, "-o", tmp_path / name)
        run = Compiled(tmp_path / name).train(tmp_path / f"run-{name}", *options, "--reset-at-documents", "--eod", EOD)
        assert run.column("loss") == pytest.approx(expected, rel=1e-4), name
    goes_on_with_its_documents(Compiled(tmp_path / "one"), options, expected, tmp_path)
    # Without the option each row is one document: another loss.
    whole = Compiled(tmp_path / "one").train(tmp_path / "whole", *options)
    assert whole.column("loss") != pytest.approx(expected, rel=1e-4)


def test_programs_without_documents_refuse_the_option(tmp_path):
    config = MODELS / "llama.json"
    assert export.main(["--config", str(config), "-o", str(tmp_path / "model.pt")]) == 0
    program = tmp_path / "model.mlir"
    succeed("galvatron-import", tmp_path / "model.pt", "--batch", BATCH, "--seq", SEQ, "-o", program)
    succeed("galvatron-opt", "--search", "--lower", program, "--ranks=1", "-o", tmp_path / "out")
    refused = call(tmp_path / "out" / "launch", "--reset-at-documents", "--eod", EOD)
    assert refused.returncode != 0
    assert "--reset-at-documents needs a program with the inputs positions and documents" in refused.stderr
