"""Rows that hold several documents: positions restart, attention stays within each, the last token has no label."""

from __future__ import annotations

import json
import re

import pytest
import torch
from harness import BATCH, MODELS, SEQ, VOCABULARY, Compiled, Layout, call, succeed
from safetensors.torch import load_file
from torch.nn import functional

from galvatron import export, huggingface

EOD, STEPS, RATE = 7, 3, 0.5
PLANS = {
    "one": Layout(),
    "tp2_dp2": Layout(ranks=4, tp=2, micro_batches=2),
    "pp2_dp2": Layout(ranks=4, stages=[0, 0, 0, 1, 1], micro_batches=2),
    "cp2_sp2": Layout(ranks=4, cp=2, tp=2, sequence_parallel=True),
    "ulysses2": Layout(ranks=2, ulysses=2),
}
# Beside tp, Ulysses and ranks with samples of their own; on two stages.
RINGS = {
    "rings": Layout(
        ranks=4,
        cp=[4, 2, 4, 2, 2],
        tp=[1, 2, 1, 1, 1],
        ulysses=[1, 1, 1, 2, 1],
        cp_kind="ring",
        cp_zigzag=[True, True, False, True, False],
        micro_batches=2,
    ),
    "rings_on_stages": Layout(
        ranks=4, cp=2, cp_kind="ring", cp_zigzag=True, stages=[0, 0, 0, 1, 1], micro_batches=4, recompute=True
    ),
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
    # Checkpoints of before the keys are of rows of one document.
    text = json.loads((saved / "training.json").read_text())
    assert text.pop("eod") == EOD and text.pop("reset_at_documents")
    (saved / "training.json").write_text(json.dumps(text))
    (saved / "checksums.xxh128").unlink()
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
    for name, layout in (PLANS | {"rings": RINGS["rings"]}).items():
        (tmp_path / "plan.json").write_text(json.dumps(layout.plan(units)))
        succeed("galvatron-opt", f"--plan={tmp_path / 'plan.json'}", "--lower", program, "-o", tmp_path / name)
        run = Compiled(tmp_path / name).train(tmp_path / f"run-{name}", *options, "--reset-at-documents", "--eod", EOD)
        assert run.column("loss") == pytest.approx(expected, rel=1e-4), name
    goes_on_with_its_documents(Compiled(tmp_path / "one"), options, expected, tmp_path)
    # Without the option each row is one document: another loss.
    whole = Compiled(tmp_path / "one").train(tmp_path / "whole", *options)
    assert whole.column("loss") != pytest.approx(expected, rel=1e-4)


# Rows of 16: a document of one token, one that ends with the row, one that the row cuts.
LENGTHS = ((5, 1, 10), (3, 13), (1, 7, 2, 6), (16,), (2, 2, 11, 1))


def cut_rows() -> torch.Tensor:
    """Rows whose documents have the lengths above and end with EOD, but for one in three at the end of its row."""
    generator = torch.Generator().manual_seed(1)
    data = torch.randint(EOD + 1, VOCABULARY, (STEPS * BATCH, SEQ), generator=generator)
    for number, row in enumerate(data):
        end = 0
        for length in LENGTHS[number % len(LENGTHS)]:
            end += length
            row[end - 1] = EOD if end < SEQ or number % 3 else row[end - 1]
    return data


def train_apart(module, data: torch.Tensor) -> list[float]:
    """As if each document were a batch of its own: the mean is over all positions that have a next token."""
    losses = []
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE)
    for rows in data.split(BATCH):
        terms = []
        for row in rows:
            ends = [i + 1 for i, token in enumerate(row.tolist()) if token == EOD or i + 1 == SEQ]
            for begin, end in zip([0, *ends], ends, strict=False):
                logits = module(input_ids=row[None, begin:end], use_cache=False).logits[0]
                terms.append(functional.cross_entropy(logits[:-1], row[begin + 1 : end], reduction="none"))
        loss = torch.cat(terms).mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


def import_documents(name: str, folder):
    """The program of a model that knows of no documents, options of its training, and PyTorch's losses."""
    attention = "eager" if name in ("bloom", "gemma2") else "sdpa"
    arguments = ["--config", MODELS / f"{name}.json", "--attn", attention, "-o", folder / f"{name}.pt"]
    assert export.main([str(argument) for argument in arguments]) == 0
    program = folder / f"{name}.mlir"
    succeed("galvatron-import", folder / f"{name}.pt", "--documents", "--batch", BATCH, "--seq", SEQ, "-o", program)
    with huggingface.quiet():
        module = huggingface.build_random(huggingface.read_config(MODELS / f"{name}.json"), attention, 0).train()
    module.load_state_dict(load_file(program.with_suffix(".safetensors")), strict=False)
    data = cut_rows()
    (folder / "tokens.bin").write_bytes(data.to(torch.uint8).numpy().tobytes())
    options = ["--optimizer", "sgd", "--lr", RATE, "--steps", STEPS, "--data", folder / "tokens.bin"]
    return program, options, train_apart(module, data)


PUT_IN = PLANS | {"rings_on_stages": RINGS["rings_on_stages"]}


# Heads of keys, learned positions, windows and ALiBi where the sequence is cut; the other plans with --wide.
@pytest.mark.parametrize("count", [2, pytest.param(len(PUT_IN), marks=pytest.mark.wide)])
@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral", "bloom"])
def test_documents_put_in_train_as_those_apart(name, count, tmp_path):
    program, options, expected = import_documents(name, tmp_path)
    succeed("galvatron-opt", "--search", "--lower", program, "--ranks=1", "-o", tmp_path / "searched")
    units = Compiled(tmp_path / "searched").units
    for plan in sorted(PUT_IN, key=lambda plan: plan not in ("cp2_sp2", "rings_on_stages"))[:count]:
        (tmp_path / "plan.json").write_text(json.dumps(PUT_IN[plan].plan(units)))
        succeed("galvatron-opt", f"--plan={tmp_path / 'plan.json'}", "--lower", program, "-o", tmp_path / plan)
        # No mask is gathered or kept: kernels read documents in both directions.
        lowered = succeed("galvatron-opt", f"--plan={tmp_path / 'plan.json'}", "--compile-to=lower", program).stdout
        assert '"document_attention_backward"' in lowered and '"attention' not in lowered, plan
        run = Compiled(tmp_path / plan).train(tmp_path / f"run-{plan}", *options, "--reset-at-documents", "--eod", EOD)
        assert run.column("loss") == pytest.approx(expected, rel=1e-4), plan


@pytest.mark.parametrize("name", ["falcon", "falcon_alibi", "gpt_neox", "cohere", "gemma2", "stablelm", "qwen3"])
def test_documents_put_in_other_families(name, tmp_path):
    """Rotations of a part and of neighbours, ALiBi, windows in every other layer, a norm of each head."""
    program, options, expected = import_documents(name, tmp_path)
    weights = program.with_suffix(".safetensors")
    rows = succeed("galvatron-opt", "--evaluate", program, *options, "--eod", EOD, "--weights", weights).stdout.split()
    assert [float(row.split(",")[1]) for row in rows[1:]] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "name",
    ["llama", *(pytest.param(name, marks=pytest.mark.wide) for name in ("gpt_neox", "cohere", "qwen3", "stablelm", "gpt2"))],
)
def test_values_have_the_names_that_they_have_without_documents(name, tmp_path):
    """A plan that recomputes values is one for both programs: positions that are data rotate under the same name."""
    archive, program, names = tmp_path / "model.pt", tmp_path / "model.mlir", []
    assert export.main(["--config", str(MODELS / f"{name}.json"), "-o", str(archive)]) == 0
    ends = [{"path": "embedding"}, {"path": "layers.1"}, {"path": "layers.2"}, {"path": "head"}]
    units = [{"path": "layers.0", "strategy": {"recompute_values": ["nothing"]}}, *ends]
    (tmp_path / "plan.json").write_text(json.dumps({"ranks": 1, "units": units}))
    for options in ((), ("--documents",)):
        succeed("galvatron-import", archive, *options, "--batch", BATCH, "--seq", SEQ, "-o", program)
        refused = call("galvatron-opt", f"--plan={tmp_path / 'plan.json'}", "--compile-to=plan", program)
        names.append(re.search(r"to name values out of (.*), but got 'nothing'", refused.stderr).group(1).split(", "))
    assert sorted(names[0]) == sorted(names[1])
    assert name == "gpt2" or any(value.endswith(".rope") for value in names[0])


class Plain(torch.nn.Module):
    """One block of attention, written out."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = torch.nn.Embedding(VOCABULARY, 16), torch.nn.Embedding(SEQ, 16)
        self.q, self.k, self.v, self.head = (torch.nn.Linear(16, n) for n in (16, 16, 16, VOCABULARY))

    def forward(self, input_ids, labels):
        batch, seq = input_ids.shape
        x = self.words(input_ids) + self.places(torch.arange(seq))
        q, k, v = (linear(x).view(batch, seq, 2, 8).transpose(1, 2) for linear in (self.q, self.k, self.v))
        attention = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        logits = self.head(x + attention.transpose(1, 2).reshape(batch, seq, 16))
        return functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def test_a_batch_of_one(tmp_path):
    """Merging samples and positions changes nothing but the shape: the loss is one of positions all the same."""
    module, ids = Plain(), torch.arange(2 * SEQ).view(2, SEQ)
    export.save(module, (ids, ids), tmp_path / "plain.pt")
    program = tmp_path / "plain.mlir"
    succeed("galvatron-import", tmp_path / "plain.pt", "--documents", "--batch", 1, "--seq", SEQ, "-o", program)
    row = cut_rows()[:1]
    (tmp_path / "tokens.bin").write_bytes(row.to(torch.uint8).numpy().tobytes())
    options = ("--steps", 1, "--data", tmp_path / "tokens.bin", "--eod", EOD)
    words = succeed("galvatron-opt", "--evaluate", program, *options, "--weights", program.with_suffix(".safetensors"))
    documents = [d for d in row[0].split(LENGTHS[0]) if len(d) > 1]
    total = sum(module(d[None], d[None]) * (len(d) - 1) for d in documents)
    expected = (total / sum(len(d) - 1 for d in documents)).item()
    assert float(words.stdout.split()[1].split(",")[1]) == pytest.approx(expected, rel=1e-5)


class Pooled(torch.nn.Module):
    """Adds the mean of all tokens to each."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = torch.nn.Embedding(VOCABULARY, 8), torch.nn.Linear(8, VOCABULARY)

    def forward(self, input_ids, labels):
        x = self.words(input_ids)
        logits = self.head(x + x.mean(1, keepdim=True))
        return functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def test_what_is_not_understood_is_refused(tmp_path):
    ids = torch.arange(2 * SEQ).view(2, SEQ)
    export.save(Pooled(), (ids, ids), tmp_path / "pooled.pt")
    refused = call("galvatron-import", tmp_path / "pooled.pt", "--documents", "-o", tmp_path / "pooled.mlir")
    assert refused.returncode == 1 and not (tmp_path / "pooled.mlir").exists()
    assert "pooled.pt: --documents: the top module (test_documents.py:" in refused.stderr
    assert "joins the positions of a row, so documents cannot be kept apart; export the module with" in refused.stderr


def test_modules_with_position_ids_refuse_documents_put_in(tmp_path):
    with huggingface.quiet():
        module = huggingface.build_random(huggingface.read_config(MODELS / "llama.json"), "sdpa", 0).train()
    ids, positions = torch.arange(2 * SEQ).view(2, SEQ), (torch.arange(SEQ) % 6).expand(2, SEQ).contiguous()
    export.save(module, (ids, ids, positions), tmp_path / "model.pt")
    refused = call("galvatron-import", tmp_path / "model.pt", "--documents", "-o", tmp_path / "model.mlir")
    assert refused.returncode == 1
    assert "--documents is for modules without position_ids as third input; this one has it" in refused.stderr


def test_programs_without_documents_refuse_the_option(tmp_path):
    config = MODELS / "llama.json"
    assert export.main(["--config", str(config), "-o", str(tmp_path / "model.pt")]) == 0
    program = tmp_path / "model.mlir"
    succeed("galvatron-import", tmp_path / "model.pt", "--batch", BATCH, "--seq", SEQ, "-o", program)
    succeed("galvatron-opt", "--search", "--lower", program, "--ranks=1", "-o", tmp_path / "out")
    refused = call(tmp_path / "out" / "launch", "--reset-at-documents", "--eod", EOD)
    assert refused.returncode != 0
    assert "--reset-at-documents needs a program with the inputs positions and documents" in refused.stderr


def test_a_token_outside_the_vocabulary_ends_no_document(tmp_path):
    config = MODELS / "llama.json"
    assert export.main(["--config", str(config), "-o", str(tmp_path / "model.pt")]) == 0
    program = tmp_path / "model.mlir"
    succeed("galvatron-import", tmp_path / "model.pt", "--documents", "--batch", BATCH, "--seq", SEQ, "-o", program)
    succeed("galvatron-opt", "--search", "--lower", program, "--ranks=1", "-o", tmp_path / "out")
    refused = call(tmp_path / "out" / "launch", "--reset-at-documents", "--eod", 70000)
    assert refused.returncode != 0
    assert re.search(r"--eod 70000 is no token of the vocabulary of \d+, so no document would end", refused.stderr)
    refused = call("galvatron-opt", "--evaluate", program, "--eod", 70000)
    assert refused.returncode != 0
    assert re.search(r"expects --eod to be a token of the vocabulary of \d+, but got 70000", refused.stderr)
