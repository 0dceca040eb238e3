"""Losses as people write them, against PyTorch on the same weights and tokens.

What a mean divides by is counted over the whole batch, whatever plan and micro-batches; terms that do not depend on
the batch count once a step; several layers may add to the loss.
"""

from __future__ import annotations

import json
import sys

import numpy
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from harness import BATCH, SEQ, VOCABULARY, Layout, Model, call, succeed

HIDDEN, STEPS, RATE, BLANK = 16, 5, 0.5, 32

PLANS = {
    "one": Layout(),
    "dp2-micro2": Layout(ranks=2, micro_batches=2),
    "pp2-tp2-micro4": Layout(ranks=4, tp=2, stages=[0, 0, 0, 1, 1], micro_batches=4),
}


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(HIDDEN), nn.Linear(HIDDEN, 32), nn.Linear(32, HIDDEN)

    def forward(self, x):
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Decoder(nn.Module):
    """Returns loss(self, logits, labels, hidden states)."""

    def __init__(self, loss):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, HIDDEN)
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.head = nn.Linear(HIDDEN, VOCABULARY, bias=False)
        self.register_buffer("class_weights", torch.linspace(0.5, 2, VOCABULARY))
        self.loss = loss

    def forward(self, input_ids, labels):
        x, hidden = self.embed(input_ids), []
        for block in self.blocks:
            x = block(x)
            hidden.append(x)
        return self.loss(self, self.head(x), labels, hidden)


def flat(logits, labels, **options):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), **options)


def shifted(logits, labels, **options):
    return flat(logits[:, :-1], labels[:, 1:], **options)


def by_pad(model, z, labels, hidden):
    return flat(z, F.pad(labels[:, 1:], (0, 1), value=-100))


def by_cat(model, z, labels, hidden):
    return flat(z, torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], -100)], 1))


def by_where(model, z, labels, hidden):
    last = torch.arange(labels.shape[1]) == labels.shape[1] - 1
    return flat(z, torch.where(last, -100, labels.roll(-1, 1)))


def masked(model, z, labels, hidden):
    return shifted(z, labels.masked_fill(labels == BLANK, -100))


def ignored(model, z, labels, hidden):
    return shifted(z, labels, ignore_index=BLANK)


def sum_by_count(model, z, labels, hidden):
    labels = labels.masked_fill(labels == BLANK, -100)[:, 1:]
    return F.cross_entropy(z[:, :-1].transpose(1, 2), labels, reduction="sum") / (labels != -100).sum()


def weighted_rows(model, z, labels, hidden):
    w = (labels[:, 1:] != BLANK).float() * 0.5 + 0.25
    return (shifted(z, labels, reduction="none").view_as(w) * w).sum() / w.sum()


def normalized_weights(model, z, labels, hidden):
    w = (labels[:, 1:] != BLANK).float()
    return (shifted(z, labels, reduction="none") * w.flatten() / w.sum()).sum()


def at_least_one(model, z, labels, hidden):
    w = (labels[:, 1:] > 100).float()
    return (shifted(z, labels, reduction="none").view_as(w) * w).sum() / w.sum().clamp(min=1)


def mean_of_rows(model, z, labels, hidden):
    w = (labels[:, 1:] != BLANK).float()
    return ((shifted(z, labels, reduction="none").view_as(w) * w).sum(1) / w.sum(1).clamp(min=1)).mean()


def in_other_types(model, z, labels, hidden):
    """Casts: logits, weights and a mean in float64, and labels in int32."""
    w = (labels[:, 1:] != BLANK).double()
    rows = shifted(z.double(), labels.int().long(), reduction="none").view_as(w)
    return ((rows * w).sum() / w.sum() + 0.1 * shifted(z, labels, reduction="none").mean(dtype=torch.float64)).float()


def smoothed(model, z, labels, hidden):
    return shifted(z, labels, label_smoothing=0.1)


def smoothed_weighted(model, z, labels, hidden):
    return shifted(z, labels, label_smoothing=0.1, weight=model.class_weights, ignore_index=BLANK)


def class_weights(model, z, labels, hidden):
    return shifted(z, labels, weight=model.class_weights)


def class_weights_sum(model, z, labels, hidden):
    return shifted(z, labels, weight=model.class_weights, reduction="sum") / 100


def z_loss(model, z, labels, hidden):
    return shifted(z, labels, ignore_index=BLANK) + 1e-2 * torch.logsumexp(z, -1).pow(2).mean()


def negative_log_likelihood(model, z, labels, hidden):
    return F.nll_loss(F.log_softmax(z[:, :-1].flatten(0, 1), -1), labels[:, 1:].flatten(), ignore_index=BLANK)


def flattened_log_probabilities(model, z, labels, hidden):
    return F.nll_loss(F.log_softmax(z[:, :-1], -1).reshape(-1, VOCABULARY), labels[:, 1:].flatten(), ignore_index=BLANK)


def gathered(model, z, labels, hidden):
    target, w = labels[:, 1:], labels[:, 1:] != BLANK
    chosen = F.log_softmax(z[:, :-1], -1).gather(-1, target[..., None])[..., 0]
    return -(chosen * w).sum() / w.sum()


def of_probabilities(model, z, labels, hidden):
    target = F.one_hot(labels[:, 1:].flatten(), VOCABULARY).float() * 0.9 + 0.1 / VOCABULARY
    return F.cross_entropy(z[:, :-1].flatten(0, 1), target)


def of_elements(model, z, labels, hidden):
    """Each with a target between, at and beyond the kinks, and a gradient to both sides."""
    a, b = hidden[0], hidden[-1]
    wanted = F.one_hot(labels, VOCABULARY).float()
    logs = F.log_softmax(z, -1)
    return (
        F.mse_loss(a, b)
        + F.l1_loss(a, b)
        + F.smooth_l1_loss(a, b, beta=0.3)
        + F.huber_loss(a, b, delta=0.2)
        + F.binary_cross_entropy_with_logits(z, wanted, pos_weight=model.class_weights)
        + F.kl_div(logs, F.softmax(z / 2, -1), reduction="batchmean") / z.shape[1]
        + F.kl_div(logs, F.log_softmax(z / 2, -1).detach(), log_target=True, reduction="sum") / 100
        + F.kl_div(logs, wanted, reduction="none").mean()
    )


def two_counts(model, z, labels, hidden):
    return shifted(z, labels, ignore_index=BLANK) + 0.3 * flat(z[:, :-2], labels[:, 2:], ignore_index=101)


def penalty(model, z, labels, hidden):
    return shifted(z, labels) + 10 * model.embed.weight.pow(2).mean()


def penalty_of_all(model, z, labels, hidden):
    return shifted(z, labels, ignore_index=BLANK) + 1e-3 * sum(p.pow(2).sum() for p in model.parameters())


def constant(model, z, labels, hidden):
    return shifted(z, labels) + 1.0


def of_several_layers(model, z, labels, hidden):
    return shifted(z, labels, ignore_index=BLANK) + 0.1 * sum(h.pow(2).mean() for h in hidden)


def deep_supervision(model, z, labels, hidden):
    return (sum(shifted(model.head(h), labels) for h in hidden[:-1]) + shifted(z, labels, ignore_index=BLANK)) / 3


def scaled_by_count(model, z, labels, hidden):
    return shifted(z, labels, ignore_index=BLANK) * (labels[:, 1:] != BLANK).float().mean()


# Through binaries under every plan; the others through the evaluator after the phase shard.
RUN = [
    masked, ignored, weighted_rows, in_other_types, smoothed_weighted, two_counts, penalty_of_all, of_several_layers,
    deep_supervision,
]  # fmt: skip
EVALUATE = [
    by_pad, by_cat, by_where, sum_by_count, normalized_weights, at_least_one, mean_of_rows, smoothed, class_weights,
    class_weights_sum, z_loss, negative_log_likelihood, flattened_log_probabilities, gathered, of_probabilities, of_elements, penalty, constant, scaled_by_count,
]  # fmt: skip


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    """Text, a byte a token: blanks are spread unevenly over rows."""
    path = tmp_path_factory.mktemp("data") / "tokens.bin"
    words = "the quick  brown fox   jumps over a    lazy dog, and so does its     shadow at noon. "
    generator = numpy.random.default_rng(0)
    text = "".join(generator.choice(words.split(" ")) + " " * generator.integers(1, 7) for _ in range(900))
    path.write_bytes(text.encode())
    return path


def windows(path, step: int) -> torch.Tensor:
    values = numpy.frombuffer(path.read_bytes(), numpy.uint8)[(step - 1) * BATCH * SEQ : step * BATCH * SEQ]
    return torch.tensor(values.astype(numpy.int64)).view(BATCH, SEQ)


def reference(model: nn.Module, data) -> tuple[list[float], list[float], dict[str, torch.Tensor]]:
    """Losses and gradient norms of the steps, and the first step's gradients."""
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    losses, norms, first = [], [], {}
    for step in range(1, STEPS + 1):
        x = windows(data, step)
        optimizer.zero_grad()
        loss = model(x, x)
        loss.backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        losses.append(loss.item())
        norms.append(sum(float(g.double().pow(2).sum()) for g in gradients.values()) ** 0.5)
        first = first or {name: g.clone() for name, g in gradients.items()}
        optimizer.step()
    return losses, norms, first


def model_of(loss, folder) -> tuple[Decoder, Model]:
    torch.manual_seed(0)
    module = Decoder(loss)
    return module, Model(loss.__name__, module, folder / loss.__name__)


def options(data, gradients) -> list:
    return [
        "--steps", STEPS, "--optimizer", "sgd", "--lr", RATE, "--data", data, "--data-dtype", "u8",
        "--dump-gradients", gradients,
    ]  # fmt: skip


def check(found_losses, found_norms, folder, expected) -> None:
    losses, norms, first = expected
    assert found_losses == pytest.approx(losses, rel=1e-5)
    assert found_norms == pytest.approx(norms, rel=1e-4)
    file = sorted(folder.glob("*.safetensors"))[0]
    found = load_file(file)
    total = sum(float(g.double().pow(2).sum()) for g in first.values()) ** 0.5
    for name, gradient in first.items():
        allowed = 1e-4 * max(float(gradient.norm()), 1e-5 * total)
        assert float((found[name] - gradient).norm()) <= allowed, name


@pytest.mark.parametrize("loss", RUN, ids=lambda loss: loss.__name__)
def test_binaries_equal_torch(loss, tokens, tmp_path):
    module, model = model_of(loss, tmp_path)
    expected = reference(module, tokens)
    for name, layout in PLANS.items():
        gradients = tmp_path / f"gradients-{name}"
        run = model.compile(name, layout).train(
            tmp_path / name, "--weight-decay", 0, *options(tokens, gradients)
        )
        check(run.column("loss"), run.column("grad_norm"), gradients, expected)


def evaluated_equals_torch(loss, layout, pad, tokens, tmp_path) -> None:
    module, model = model_of(loss, tmp_path)
    expected = reference(module, tokens)
    sharded, gradients, file = tmp_path / "sharded.mlir", tmp_path / "gradients", tmp_path / "plan.json"
    plan = layout.plan(["embed", "blocks.0", "blocks.1", "blocks.2", "head"])
    for unit in plan["units"]:
        unit["strategy"]["pad"] = pad
    file.write_text(json.dumps(plan))
    succeed("galvatron-opt", f"--plan={file}", "--compile-to=shard", model.program, "-o", sharded)
    output = succeed(
        "galvatron-opt", "--evaluate", sharded, "--weights", tmp_path / loss.__name__ / "model.safetensors",
        *options(tokens, gradients),
    ).stdout  # fmt: skip
    rows = [line.split(",") for line in output.splitlines()[1:]]
    check([float(row[1]) for row in rows], [float(row[2]) for row in rows], gradients, expected)


@pytest.mark.parametrize("loss", EVALUATE, ids=lambda loss: loss.__name__)
def test_sharded_program_equals_torch(loss, tokens, tmp_path):
    evaluated_equals_torch(loss, Layout(ranks=4, tp=2, micro_batches=2), False, tokens, tmp_path)


# One of each kind: a mean over labels that count, of rows, weights, logarithms of sums, elements, sums of several layers.
PADDED = (ignored, mean_of_rows, class_weights, z_loss, gathered, of_elements, deep_supervision)


@pytest.mark.parametrize(
    "loss",
    [loss if loss in PADDED else pytest.param(loss, marks=pytest.mark.wide) for loss in RUN + EVALUATE],
    ids=lambda loss: loss.__name__,
)
def test_padded_program_equals_torch(loss, tokens, tmp_path, monkeypatch):
    """A vocabulary of 251 and widths of 32 over three ranks."""
    monkeypatch.setattr(sys.modules[__name__], "VOCABULARY", 251)
    evaluated_equals_torch(loss, Layout(ranks=3, tp=3, micro_batches=2), True, tokens, tmp_path)


def no_label_in_step_two(path) -> None:
    data = bytearray(b"abcdefgh" * (STEPS * BATCH * SEQ // 8))
    data[BATCH * SEQ : 2 * BATCH * SEQ] = bytes([BLANK]) * (BATCH * SEQ)
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("plan", PLANS)
def test_batch_without_a_label_changes_nothing(plan, tmp_path):
    """Loss 0, no update: moments, AdamW's count of updates and weight decay included; a resumed run knows the count."""
    module, model = model_of(ignored, tmp_path)
    data = tmp_path / "tokens.bin"
    no_label_in_step_two(data)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.01, weight_decay=0.1)
    losses, norms = [], []
    for step in range(1, STEPS + 1):
        x = windows(data, step)
        optimizer.zero_grad()
        loss = module(x, x)
        if not torch.isfinite(loss):
            losses.append(0), norms.append(0)
            continue
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(module.parameters(), 0.5)))
        losses.append(loss.item())
        optimizer.step()
    compiled = model.compile(plan, PLANS[plan])
    common = ["--lr", 0.01, "--weight-decay", 0.1, "--weight-decay-on", "all", "--clip-grad", 0.5]
    common += ["--betas", "0.9,0.999", "--data", data, "--data-dtype", "u8"]
    first = compiled.train(tmp_path / "first", "--steps", 3, "--save", tmp_path / "saved", *common)
    second = compiled.train(tmp_path / "second", "--steps", STEPS, "--load", tmp_path / "saved", *common)
    assert first.column("loss") + second.column("loss") == pytest.approx(losses, rel=1e-5)
    assert first.column("grad_norm") + second.column("grad_norm") == pytest.approx(norms, rel=1e-4)


def squared(model, z, labels, hidden):
    return shifted(z, labels).pow(2)


def test_what_needs_the_whole_batch_is_refused_with_its_line(tmp_path):
    _, model = model_of(squared, tmp_path)
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(Layout(micro_batches=2).plan(model.units)))
    result = call("galvatron-opt", f"--plan={plan}", "--lower", model.program, "-o", tmp_path / "out")
    assert result.returncode == 1
    assert "test_losses.py:" in result.stderr and "needs the whole batch at once" in result.stderr
