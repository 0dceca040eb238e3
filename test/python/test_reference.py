"""The reference: data windows, schedules, optimizers, log and gradients; and its own equality with
a training loop written here without it."""

from __future__ import annotations

import csv

import numpy
import pytest
import torch
from conftest import MODELS
from safetensors.torch import load_file, save_file

from galvatron import export, huggingface, reference, tracing
from galvatron.errors import GalvatronError
from galvatron.schedule import LearningRate, Windows


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    for name in ("llama", "gpt2", "llama_tied"):
        config = str(MODELS / f"{name}.json")
        assert export.main(["--config", config, "-o", str(folder / f"{name}.pt")]) == 0
    return folder


def run(model, data, *options) -> int:
    arguments = [model, "--data", data, "--batch", 4, "--seq", 32, "--quiet", *options]
    return reference.main([str(a) for a in arguments])


def read(path) -> list[dict[str, float]]:
    with open(path, newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def test_windows_go_in_order_and_wrap(tmp_path):
    path = tmp_path / "tokens.bin"
    path.write_bytes(numpy.arange(31, dtype=numpy.uint8).tobytes())
    windows = Windows(path, "u8", batch=2, seq=10)  # 3 windows; the last token is unused
    assert windows.at(1)[:, 0].tolist() == [0, 10]
    assert windows.at(2)[:, 0].tolist() == [20, 0]
    assert windows.at(3)[:, 0].tolist() == [10, 20]
    assert windows.at(1)[0].tolist() == list(range(10)) and windows.at(1).dtype == numpy.int64


@pytest.mark.parametrize("kind,size", [("u8", 1), ("u16", 2), ("u32", 4), ("i32", 4), ("i64", 8)])
def test_token_types(kind, size, tmp_path):
    path = tmp_path / "tokens.bin"
    value = 200 if size == 1 else 256 ** (size - 1) * 3 + 1
    path.write_bytes(value.to_bytes(size, "little") * 8)
    assert Windows(path, kind, batch=2, seq=4).at(1).tolist() == [[value] * 4] * 2


RATES = [
    (dict(schedule="constant"), [1.0] * 5),
    (dict(schedule="constant", warmup=4), [0.25, 0.5, 0.75, 1.0, 1.0]),
    (dict(schedule="linear", minimum=0.1), [0.82, 0.64, 0.46, 0.28, 0.1]),
    (dict(schedule="linear", warmup=1), [1.0, 0.75, 0.5, 0.25, 0.0]),
    (dict(schedule="cosine", warmup=1), [1.0, 0.8535533906, 0.5, 0.1464466094, 0.0]),
    (dict(schedule="cosine", warmup=5), [0.2, 0.4, 0.6, 0.8, 1.0]),
]


@pytest.mark.parametrize("settings,expected", RATES)
def test_learning_rates(settings, expected):
    rate = LearningRate(peak=1.0, steps=5, **settings)
    assert [rate.at(step) for step in range(1, 6)] == pytest.approx(expected)


@pytest.mark.parametrize("name", ["llama", "gpt2", "llama_tied"])
@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_equals_a_plain_training_loop(name, kind, archives, tokens, tmp_path):
    options = ["--optimizer", kind, "--lr", 0.01, "--steps", 4, "--weight-decay", 0.1]
    options += ["--clip-grad", 1, "--log", tmp_path / "log.csv", "--save", tmp_path / "end.st"]
    options += ["--dump-gradients", tmp_path / "gradients", "--dump-steps", 1]
    assert run(archives / f"{name}.pt", tokens, *options) == 0

    config = huggingface.read_config(MODELS / f"{name}.json")
    model = huggingface.build_random(config, "sdpa", seed=0).train()
    matrices = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    make = torch.optim.AdamW if kind == "adamw" else torch.optim.SGD
    optimizer = make(groups, lr=0.01)
    rows = numpy.fromfile(tokens, dtype=numpy.uint8)
    rows = torch.from_numpy(rows[: len(rows) // 32 * 32].astype(numpy.int64)).view(-1, 32)
    log = read(tmp_path / "log.csv")
    for step in range(4):
        batch = rows[step * 4 : step * 4 + 4]
        loss = tracing.loss_function(model)(batch, batch)
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            gradients = load_file(tmp_path / "gradients" / "step-000001.safetensors")
            parameters = dict(model.named_parameters())
            assert gradients.keys() == parameters.keys()
            for key, value in gradients.items():
                torch.testing.assert_close(value, parameters[key].grad, rtol=1e-4, atol=1e-7)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        assert log[step]["step"] == step + 1
        assert log[step]["loss"] == pytest.approx(float(loss.detach()), rel=2e-6)
        assert log[step]["grad_norm"] == pytest.approx(float(norm), rel=1e-4)
    assert not (tmp_path / "gradients" / "step-000002.safetensors").exists()
    saved = load_file(tmp_path / "end.st")
    for key, parameter in model.named_parameters():
        torch.testing.assert_close(saved[key], parameter.detach(), rtol=1e-3, atol=1e-5)


def test_micro_batches_change_nothing(archives, tokens, tmp_path):
    for name, extra in (("a", []), ("b", ["--micro-batch", 1])):
        log = ["--log", tmp_path / f"{name}.csv", "--steps", 3, *extra]
        assert run(archives / "llama.pt", tokens, *log) == 0
    for one, other in zip(read(tmp_path / "a.csv"), read(tmp_path / "b.csv")):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-5)


def test_what_has_no_gradient_stays(tokens, tmp_path):
    """Frozen, or read for its value alone, or not at all: not even decayed."""

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.unused = torch.nn.Embedding(256, 256), torch.nn.Linear(2, 2)
            self.frozen = torch.nn.Parameter(torch.ones(256), requires_grad=False)
            self.stopped = torch.nn.Parameter(torch.ones(256))

        def forward(self, input_ids, labels):
            logits = self.table(input_ids) * self.frozen + self.stopped.detach()
            return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())

    module, ids = Module(), torch.arange(64).view(2, 32)
    save_file(module.state_dict(), tmp_path / "start.st")
    options = ("--steps", 2, "--weight-decay", 0.5, "--weight-decay-on", "all", "--dump-gradients", tmp_path / "g")
    for name, weightless in (("real", False), ("weightless", True)):
        export.save(module, (ids, ids), tmp_path / f"{name}.pt", weightless=weightless)
        weights = ("--weights", tmp_path / "start.st", "--save", tmp_path / f"{name}.st")
        assert run(tmp_path / f"{name}.pt", tokens, *options, *weights) == 0
        assert load_file(tmp_path / "g" / "step-000001.safetensors").keys() == {"table.weight"}
        saved = load_file(tmp_path / f"{name}.st")
        assert saved.keys() == module.state_dict().keys()
        changed = {key for key, value in module.state_dict().items() if not torch.equal(saved[key], value)}
        assert changed == {"table.weight"}


def test_learns(archives, tokens, tmp_path):
    log = tmp_path / "log.csv"
    assert run(archives / "llama.pt", tokens, "--steps", 25, "--lr", 0.01, "--log", log) == 0
    rows = read(log)
    assert list(rows[0]) == list(reference.LOG_COLUMNS)
    assert rows[-1]["loss"] < rows[0]["loss"] - 2


def test_a_configuration_is_its_export(archives, tokens, tmp_path):
    assert run(MODELS / "llama.json", tokens, "--steps", 2, "--log", tmp_path / "a.csv") == 0
    assert run(archives / "llama.pt", tokens, "--steps", 2, "--log", tmp_path / "b.csv") == 0
    for one, other in zip(read(tmp_path / "a.csv"), read(tmp_path / "b.csv")):
        assert one["loss"] == pytest.approx(other["loss"], rel=2e-6)


def test_a_weightless_archive_takes_weights(archives, tokens, tmp_path, capsys):
    config = str(MODELS / "llama_tied.json")
    path = tmp_path / "m.pt"
    assert export.main(["--config", config, "-o", str(path), "--weightless"]) == 0
    assert run(path, tokens) == 1
    assert "has no weights; give --weights" in capsys.readouterr().err
    start = tmp_path / "start.safetensors"
    assert run(archives / "llama_tied.pt", tokens, "--steps", 1, "--lr", 0, "--save", start) == 0
    assert "lm_head.weight" not in load_file(start)  # a tied parameter once, by its first name
    options = ["--steps", 2, "--log"]
    assert run(path, tokens, "--weights", start, *options, tmp_path / "a.csv") == 0
    assert run(archives / "llama_tied.pt", tokens, *options, tmp_path / "b.csv") == 0
    for one, other in zip(read(tmp_path / "a.csv"), read(tmp_path / "b.csv")):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-6)


def test_errors(archives, tokens, tmp_path, capsys):
    model = archives / "llama.pt"
    short = tmp_path / "short.bin"
    short.write_bytes(b"abc")
    partial = tmp_path / "partial.safetensors"
    save_file({"lm_head.weight": torch.zeros(2, 2)}, partial)
    cases = [
        ((model, short), "has 3 tokens, fewer than one batch of 4 x 32"),
        ((model, tmp_path / "none.bin"), "cannot read tokens from"),
        ((model, tokens, "--data-dtype", "u16"), "step 1 failed"),
        ((model, tokens, "--weights", partial), "has no tensor for parameter"),
        ((short, tokens), "expects an archive of galvatron.export"),
        ((model, tokens, "--steps", 1, "--log", tmp_path / "no" / "log"), "cannot write"),
    ]
    for arguments, message in cases:
        assert run(*arguments) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_errors_are_galvatron_errors(tmp_path):
    with pytest.raises(GalvatronError):
        Windows(tmp_path / "none", "u8", 1, 1)
