"""Indexed data: samples in Megatron's order, with a label for each position, under every plan and across a resume."""

from __future__ import annotations

import importlib.util
import json
import sys

import numpy as np
import pytest
import torch
from decoder import Decoder
from harness import MODELS, ROOT, Compiled, Layout, call, succeed
from safetensors.torch import load_file
from torch.nn import functional

from galvatron import export, huggingface
from galvatron.data import indexed

sys.path.insert(0, str(ROOT / "scripts"))
import write_megatron_orders as orders  # noqa: E402

BATCH, SEQ, RATE = 4, orders.SEQ, 0.5
WANTED = json.loads(orders.FILE.read_text())
QUICK = ("blend", "last epoch apart", "evaluation of a blend")


class Model(Decoder):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(orders.VOCABULARY, 16)
        self.head = torch.nn.Linear(16, orders.VOCABULARY)

    def forward(self, idx, targets):
        x = self.embedding(idx)
        q, k, v = (part.unsqueeze(1) for part in self.qkv(x).chunk(3, -1))
        logits = self.head(x + functional.scaled_dot_product_attention(q, k, v, is_causal=True).squeeze(1))
        return functional.cross_entropy(logits.reshape(-1, orders.VOCABULARY), targets.reshape(-1))


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The program's folder, with two plans lowered: one rank, and two that share the samples of each of two micro-batches."""
    folder = tmp_path_factory.mktemp("samples")
    torch.manual_seed(0)
    ids = torch.zeros(2, 8, dtype=torch.int64)
    export.save(Model(), (ids, ids), folder / "model.pt")
    sizes = ["--batch", BATCH, "--seq", SEQ]
    succeed("galvatron-import", folder / "model.pt", "--labels", "next", *sizes, "-o", folder / "model.mlir")
    succeed("galvatron-opt", "--search", "--lower", folder / "model.mlir", "--ranks=1", "-o", folder / "one")
    plan = Layout(ranks=2, micro_batches=2).plan(Compiled(folder / "one").units, BATCH)
    (folder / "plan.json").write_text(json.dumps(plan))
    succeed("galvatron-opt", f"--plan={folder / 'plan.json'}", "--lower", folder / "model.mlir", "-o", folder / "many")
    return folder


def options_of(case: dict, folder) -> list:
    """Writes a case's data; what `launch` is told of them."""
    words = []
    for number, documents in enumerate(orders.sequences(case)):
        orders.write_indexed(folder / f"set{number}", documents)
        words += [*case.get("weights", [])[number : number + 1], folder / f"set{number}"]
    split = ["--split", case["split"]] if "split" in case else []
    return ["--data", *words, *split, "--data-seed", case["seed"]]


def dumped(folder, steps: range, prefix: str = "step") -> dict[str, torch.Tensor]:
    files = [load_file(folder / f"{prefix}_{step:06}.safetensors") for step in steps]
    return {name: torch.cat([file[name] for file in files]) for name in files[0]}


def case_names() -> list:
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.wide) for name in orders.CASES]


@pytest.mark.parametrize("name", case_names())
def test_order_is_megatrons(name, program, tmp_path):
    case = orders.CASES[name]
    steps = case["samples"] // BATCH
    isEvaluated = case.get("share") == 1
    task = ["--eval-only", "--eval-batches", steps] if isEvaluated else ["--steps", steps, "--lr", 0]
    done = succeed(program / "one" / "launch", *options_of(case, tmp_path), *task, "--dump-batches", tmp_path / "batches")
    assert f"set0: {len(orders.sequences(case)[0]) if 'split' not in case else ''}" in done.stdout
    batches = dumped(tmp_path / "batches", range(1, steps + 1), "evaluation" if isEvaluated else "step")
    wanted = torch.tensor(WANTED[name])
    assert torch.equal(batches["input_ids"], wanted[:, :-1])
    assert torch.equal(batches["labels"], wanted[:, 1:])
    assert torch.equal(batches["positions"], torch.arange(SEQ).expand_as(batches["positions"]))
    assert not batches["documents"].any()


HAS_MEGATRON = pytest.mark.skipif(not importlib.util.find_spec("megatron"), reason="megatron-core is not installed")


@pytest.mark.wide
@HAS_MEGATRON
def test_megatron_reads_what_we_write_and_we_what_it_writes(program, tmp_path):
    from megatron.core.datasets.indexed_dataset import IndexedDataset, IndexedDatasetBuilder

    sequences = orders.sequences({"datasets": [40], "seed": 0})[0]
    with indexed.writing(tmp_path / "ours", {"": "u16"}) as writers:
        for sequence in sequences:
            writers[""].add(sequence)
    read = IndexedDataset(str(tmp_path / "ours"))
    assert len(read) == len(sequences) == len(read.document_indices) - 1
    assert all(np.array_equal(read[number], sequence) for number, sequence in enumerate(sequences))
    builder = IndexedDatasetBuilder(str(tmp_path / "theirs.bin"), dtype=np.int32)
    for sequence in sequences:
        builder.add_item(torch.from_numpy(sequence))
        builder.end_document()
    builder.finalize(str(tmp_path / "theirs.idx"))
    for name in ("ours", "theirs"):
        words = ["--data", tmp_path / name, "--steps", 3, "--dump-batches", tmp_path / f"{name}-batches"]
        succeed(program / "one" / "launch", *words)
    ours, theirs = (dumped(tmp_path / f"{name}-batches", range(1, 4)) for name in ("ours", "theirs"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.wide
@HAS_MEGATRON
def test_the_files_are_what_megatron_gives():
    assert orders.all_samples() == WANTED
    assert orders.all_rates() == json.loads(orders.RATES_FILE.read_text())


def train(module, rows: torch.Tensor) -> list[float]:
    losses = []
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE)
    for batch in rows.split(BATCH):
        logits = module(input_ids=batch[:, :-1], use_cache=False).logits
        loss = functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


PLANS = {
    "one": Layout(),
    "pp2_dp2": Layout(ranks=4, stages=[0, 0, 0, 1, 1], micro_batches=2),
    "cp2_sp2": Layout(ranks=4, cp=2, tp=2, sequence_parallel=True),
}


def fresh_llama():
    with huggingface.quiet():
        return huggingface.build_random(huggingface.read_config(MODELS / "llama.json"), "sdpa", 0).train()


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A model that shifts its labels itself, under each plan; and what PyTorch's losses are of rows of SEQ + 1 tokens."""
    folder = tmp_path_factory.mktemp("llama")
    module = fresh_llama()
    ids = torch.zeros(2, 8, dtype=torch.int64)
    export.save(module, (ids, ids), folder / "model.pt")
    sizes = ["--batch", BATCH, "--seq", SEQ]
    succeed("galvatron-import", folder / "model.pt", "--labels", "next", *sizes, "-o", folder / "model.mlir")
    succeed("galvatron-opt", "--search", "--lower", folder / "model.mlir", "--ranks=1", "-o", folder / "searched")
    compiled = {}
    for name, layout in PLANS.items():
        (folder / "plan.json").write_text(json.dumps(layout.plan(Compiled(folder / "searched").units, BATCH)))
        succeed("galvatron-opt", f"--plan={folder / 'plan.json'}", "--lower", folder / "model.mlir", "-o", folder / name)
        compiled[name] = Compiled(folder / name)
    return compiled, lambda rows: train(module, rows)


def test_every_plan_trains_as_pytorch_and_goes_on(llama, tmp_path):
    name = "blend"
    case, steps = orders.CASES[name], orders.CASES[name]["samples"] // BATCH
    words = [*options_of(case, tmp_path), "--steps", steps, "--optimizer", "sgd", "--lr", RATE]
    compiled, reference = llama
    expected = reference(torch.tensor(WANTED[name]))
    for plan in compiled:
        run = compiled[plan].train(tmp_path / plan, *words)
        assert run.column("loss") == pytest.approx(expected, rel=1e-4), plan
    one, many = compiled["one"], compiled["pp2_dp2"]
    # Until a step in the middle, then on under the other plan.
    saved, samples = tmp_path / "saved", ["--train-samples", case["samples"]]
    one.train(tmp_path / "first", *words, *samples, "--steps", 5, "--save", saved)
    rest = many.train(tmp_path / "rest", *words, "--load", saved)
    assert rest.column("loss") == pytest.approx(expected[5:], rel=1e-4)
    text = json.loads((saved / "training.json").read_text())
    assert text["sample_order"] == "gpt" and text["data_seed"] == case["seed"] and text["samples"] == 5 * BATCH
    for changed, word in ((["--data-seed", 12], "data-seed"), (["--split", "1,1"], "split"), (["--steps", 40], None)):
        refused = call(many.folder / "launch", *words, *changed, "--load", saved)
        assert refused.returncode == 1 and refused.stderr.startswith("error: ")
        assert f"--override {word or 'train-samples'}" in refused.stderr
    many.train(tmp_path / "meant", *words, "--data-seed", 12, "--load", saved, "--override", "data-seed")


def test_what_cannot_be_taken_is_refused(program, tmp_path):
    words = options_of({"datasets": [40], "seed": 0}, tmp_path)
    prefix = words[1]
    (tmp_path / "tokens.bin").write_bytes(np.arange(256, dtype=np.uint8).tobytes())
    file = ["--data", tmp_path / "tokens.bin"]
    orders.write_indexed(tmp_path / "wide", [np.arange(1000)])
    for options, message in (
        (["--data", prefix, "--samples", "windows"], "--samples windows reads one file, but --data names indexed data"),
        ([*file, "--samples", "gpt"], f"--samples gpt reads indexed data, but --data names {tmp_path / 'tokens.bin'}"),
        (["--samples", "gpt"], "--samples gpt reads indexed data, but --data names none"),
        (["--data", prefix, "--shuffle"], "--shuffle is for --samples windows and row, but these samples are gpt;"),
        ([*file, "--split", "1,1"], "--split is for --samples gpt, but these samples are windows; leave it out"),
        (["--data", prefix, "--seed", 1 << 40], "cannot order samples, whose seeds are below 2^32; pass --data-seed"),
        (["--data", tmp_path / "wide"], "wide: token 256 of sequence 0 is 256, outside the vocabulary of 256"),
        (["--data", prefix, "--reset-at-documents"], "--reset-at-documents needs a program with the inputs positions"),
        (["--data", prefix, "--train-samples", 4, "--steps", 2], "pass --train-samples 8 or more, or fewer --steps"),
    ):
        plan = "many" if "wide" in message else "one"
        refused = call(program / plan / "launch", *options, "--save", tmp_path / "saved")
        assert refused.returncode == 1 and message in refused.stderr, refused.stderr
        assert refused.stderr.count("error: ") == 1 and not (tmp_path / "saved").exists()


def test_a_program_that_shifts_itself_is_refused(program, tmp_path):
    sizes = ["--batch", BATCH, "--seq", SEQ]
    succeed("galvatron-import", program / "model.pt", *sizes, "-o", tmp_path / "model.mlir")
    succeed("galvatron-opt", "--search", "--lower", tmp_path / "model.mlir", "--ranks=1", "-o", tmp_path / "out")
    refused = call(tmp_path / "out" / "launch", *options_of({"datasets": [40], "seed": 0}, tmp_path))
    assert refused.returncode == 1
    assert "so it cannot take them; import it again with --labels next, or" in refused.stderr
    assert "name one PREFIX.bin as a file" in refused.stderr
    refused = call(tmp_path / "out" / "launch", "--eod", 7)
    assert refused.returncode == 1
    assert "this program takes it that all have one; import it again with --labels next" in refused.stderr


def test_documents_are_the_indexs_or_a_tokens(program, tmp_path):
    case = orders.CASES["one epoch"]
    sizes = ["--batch", BATCH, "--seq", SEQ]
    succeed("galvatron-import", program / "model.pt", "--labels", "next", "--documents", *sizes, "-o", tmp_path / "m.mlir")
    succeed("galvatron-opt", "--search", "--lower", tmp_path / "m.mlir", "--ranks=1", "-o", tmp_path / "out")
    words = [*options_of(case, tmp_path), "--steps", 4, "--lr", 0]
    # By the index: each sequence is a document.
    succeed(tmp_path / "out" / "launch", *words, "--reset-at-documents", "--dump-batches", tmp_path / "index")
    batches = dumped(tmp_path / "index", range(1, 5))
    sequences = {tuple(document) for document in orders.sequences(case)[0]}
    ends, wanted = batches["labels"] == -100, torch.tensor(WANTED["one epoch"])
    assert torch.equal(batches["labels"][~ends], wanted[:, 1:][~ends])
    for ids, documents, last in zip(batches["input_ids"], batches["documents"], ends):
        inner = [tuple(ids[documents == number].tolist()) for number in range(1, int(documents.max()))]
        assert all(document in sequences for document in inner)
        assert torch.equal(last[:-1], documents[1:] != documents[:-1])
    for positions, documents in zip(batches["positions"], batches["documents"]):
        counts = torch.bincount(documents)
        assert positions.tolist() == [place for count in counts.tolist() for place in range(count)]
    refused = call(tmp_path / "out" / "launch", "--reset-at-documents")
    assert "needs to know where documents end, which only indexed data say themselves; give --eod ID" in refused.stderr
    # By a token, and by it alone only its label is gone.
    token = int(batches["input_ids"].flatten().mode().values)
    succeed(tmp_path / "out" / "launch", *words, "--eod", token, "--dump-batches", tmp_path / "alone")
    alone = dumped(tmp_path / "alone", range(1, 5))
    assert torch.equal(alone["labels"] == -100, alone["input_ids"] == token) and not alone["documents"].any()
    succeed(tmp_path / "out" / "launch", *words, "--reset-at-documents", "--eod", token, "--dump-batches", tmp_path / "b")
    both = dumped(tmp_path / "b", range(1, 5))
    assert torch.equal(both["labels"], alone["labels"])
    assert torch.equal(both["documents"][:, 1:], (both["input_ids"] == token).cumsum(1)[:, :-1])


def fine_tuning(folder) -> tuple[list, list[np.ndarray], list[np.ndarray]]:
    """Two batches of sequences with few labels, a row, a micro-batch and a rank without any; what `launch` is told."""
    generator = np.random.default_rng(1)
    lengths = [3, 12, SEQ, 5, 1, 9, 7, 2]
    sequences = [generator.integers(0, orders.VOCABULARY, length) for length in lengths]
    labels = [np.where(generator.random(len(row)) < 0.5, row, -100) for row in sequences]
    labels[2][:], labels[0][1] = -100, sequences[0][1]
    orders.write_indexed(folder / "chat", sequences)
    orders.write_indexed(folder / "chat_labels", labels, np.int32)
    return ["--data", folder / "chat", "--labels", folder / "chat_labels"], sequences, labels


def losses_apart(module, sequences, labels, batches: list[slice], step) -> list[float]:
    """Each sequence a batch of its own; the mean is over all labels of the batch."""
    losses = []
    for batch in batches:
        terms, count = [], 0
        for row, wanted in zip(sequences[batch], labels[batch]):
            target = torch.tensor(wanted[1:])
            if (target != -100).any():
                logits = module(torch.tensor(row)[None])
                terms.append(functional.cross_entropy(logits[0, :-1], target, ignore_index=-100, reduction="sum"))
                count += int((target != -100).sum())
        loss = sum(terms) / count
        losses.append(loss.item())
        step(loss)
    return losses


def sgd(module):
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE)

    def step(loss):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def test_rows_train_as_pytorch_whatever_labels_they_have(llama, tmp_path):
    options, sequences, labels = fine_tuning(tmp_path)
    words = ["--samples", "row", *options, "--steps", 2, "--optimizer", "sgd", "--lr", RATE]
    compiled, _ = llama
    module = fresh_llama()
    halves = [slice(0, BATCH), slice(BATCH, 2 * BATCH)]
    expected = losses_apart(lambda ids: module(ids).logits, sequences, labels, halves, sgd(module))
    for plan in compiled:
        run = compiled[plan].train(tmp_path / plan, *words, "--pad-token", 3)
        assert run.column("loss") == pytest.approx(expected, rel=1e-4), plan
    # Evaluated, batches weigh as many labels as they have.
    start = fresh_llama()
    mean = losses_apart(lambda ids: start(ids).logits, sequences, labels, [slice(0, 2 * BATCH)], lambda loss: None)[0]
    asked = ["--samples", "row", "--eval-data", options[1], "--eval-labels", options[3], "--eval-batches", 2]
    done = succeed(compiled["pp2_dp2"].folder / "launch", *asked, "--eval-only", "--quiet")
    assert float(done.stdout.removeprefix("eval loss ")) == pytest.approx(mean, rel=1e-5)
    # A batch without a label: no loss, and no update.
    orders.write_indexed(tmp_path / "chat_labels", [np.full(len(row), -100) for row in sequences], np.int32)
    run = compiled["one"].train(tmp_path / "none", *words)
    assert run.column("loss") == [0, 0] and run.column("grad_norm") == [0, 0]


def test_packed_rows_are_documents(tmp_path):
    options, sequences, labels = fine_tuning(tmp_path)
    module = fresh_llama()
    ids = torch.zeros(2, 8, dtype=torch.int64)
    export.save(module, (ids, ids), tmp_path / "model.pt")
    sizes = ["--batch", 2, "--seq", SEQ]
    succeed("galvatron-import", tmp_path / "model.pt", "--documents", *sizes, "-o", tmp_path / "m.mlir")
    succeed("galvatron-opt", "--search", "--lower", tmp_path / "m.mlir", "--ranks=1", "-o", tmp_path / "out")
    words = ["--samples", "packed", *options, "--steps", 2, "--optimizer", "sgd", "--lr", RATE]
    # Rows of 3 + 12, 16, 5 + 1 + 9 and 7 + 2 tokens.
    batches = [slice(0, 3), slice(3, 8)]
    expected = losses_apart(lambda ids: module(ids).logits, sequences, labels, batches, sgd(module))
    run = Compiled(tmp_path / "out").train(tmp_path / "run", *words, "--dump-batches", tmp_path / "batches")
    assert run.column("loss") == pytest.approx(expected, rel=1e-4)
    documents = dumped(tmp_path / "batches", range(1, 3))["documents"]
    assert [torch.bincount(row).tolist() for row in documents] == [[3, 12, 1], [16], [5, 1, 9, 1], [7, 2, 7]]


@pytest.mark.wide
def test_options_of_rows(llama, tmp_path):
    options, *_ = fine_tuning(tmp_path)
    compiled, _ = llama
    prefix = tmp_path / "chat"
    for words, message in (
        (["--samples", "packed", *options], "--samples packed needs a program with the inputs positions and documents"),
        (["--samples", "row", "--data", 1, prefix], "takes the sequences of --data in order, which weights do not change"),
        (["--samples", "row", *options, "--pad-token", 256], "--pad-token 256 is no token of the vocabulary of 256"),
        (["--samples", "row", *options, "--split", "1"], "--split is for --samples gpt, but these samples are row"),
        (options, "--labels is for --samples row and packed, but these samples are gpt; leave it out"),
    ):
        refused = call(compiled["one"].folder / "launch", *words)
        assert refused.returncode == 1 and message in refused.stderr, refused.stderr
