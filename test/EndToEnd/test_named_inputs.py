"""Encoders, encoder-decoders, images, sound and losses of several kinds: named inputs from a folder, equal to PyTorch."""

from __future__ import annotations

import json
import re
import sys

import numpy
import pytest
import torch
from harness import Compiled, Layout, Run, call, check, columns, first_gradients, succeed
from named_models import BATCH, SAMPLES, SEQ, ZOO
from safetensors.numpy import load_file, save_file

from galvatron import compare, export

OPTIONS = ("--steps", 4, "--lr", "3e-3", "--weight-decay", "0.1", "--clip-grad", "1", "--eps", "1e-6")


class NamedModel:
    """A model of the zoo, exported and imported once, with its data and PyTorch's run of it."""

    def __init__(self, name: str, folder):
        self.name, self.folder, self.data = name, folder, folder / "data"
        self.data.mkdir(parents=True)
        torch.manual_seed(0)
        module, self.inputs = ZOO[name].build().train(), ZOO[name].data()
        for input_name, tensor in self.inputs.items():
            numpy.save(self.data / f"{input_name}.npy", tensor.numpy())
        self.archive, self.program = folder / "model.pt", folder / "model.mlir"
        export.save(module, {n: t[:BATCH] for n, t in self.inputs.items()}, self.archive)
        succeed("galvatron-import", self.archive, "-o", self.program)
        self._expected: Run | None = None

    @property
    def expected(self) -> Run:
        if self._expected is None:
            run = self.folder / "expected"
            run.mkdir()
            seq = self.inputs["input_ids"].shape[1] if "input_ids" in self.inputs else 1
            sizes = ("--batch", BATCH, "--seq", seq, "--log", run / "log.csv", "--dump-gradients", run / "gradients")
            succeed(sys.executable, "-m", "galvatron.reference", self.archive, "--data", self.data, *sizes, *OPTIONS)
            self._expected = Run(run, "")
        return self._expected

    def compile(self, name: str, *options) -> Compiled:
        succeed("galvatron-opt", "--lower", self.program, *options, "-o", self.folder / f"out-{name}")
        return Compiled(self.folder / f"out-{name}")

    def compile_layout(self, name: str, layout: Layout) -> Compiled:
        plan = self.folder / f"{name}.json"
        plan.write_text(json.dumps(layout.plan(self.units, BATCH)))
        return self.compile(name, f"--plan={plan}")

    @property
    def units(self) -> list[str]:
        if not (self.folder / "out-units").exists():
            self.compile("units", "--search", "--ranks=1")
        return Compiled(self.folder / "out-units").units


@pytest.fixture(scope="module")
def models(work):
    made: dict[str, NamedModel] = {}

    def model(name: str) -> NamedModel:
        if name not in made:
            made[name] = NamedModel(name, work / f"named-{name}")
        return made[name]

    return model


def gradients(model: NamedModel, run: Run) -> list[compare.Difference]:
    differences = first_gradients(run, model.expected)
    return [difference for difference in differences if not any(name in difference.name for name in ZOO[model.name].zero)]


def halves(count: int) -> list[int]:
    return [int(unit >= count / 2) for unit in range(count)]


LAYOUTS = {
    "one": lambda units: Layout(micro_batches=4),
    "dp2": lambda units: Layout(ranks=2, micro_batches=2),
    "tp2": lambda units: Layout(ranks=2, tp=2),
    "pp2": lambda units: Layout(ranks=2, stages=halves(units), micro_batches=4),
    "dp2-tp2-pp2": lambda units: Layout(ranks=8, tp=2, stages=halves(units), micro_batches=2),
    "zero3": lambda units: Layout(ranks=2, zero=3, micro_batches=2),
    "mixed": lambda units: Layout(
        ranks=4, tp=[1 + unit % 2 for unit in range(units)], recompute=[unit % 2 == 0 for unit in range(units)],
        stages=halves(units), micro_batches=2,
    ),
}  # fmt: skip
# One plan a model, each plan somewhere; the others with --wide.
CHOSEN = {
    "bert-masked": "dp2", "bert-classes": "tp2", "bert-regression": "pp2", "bert-answers": "zero3", "roberta-tokens": "one",
    "llama-left": "pp2", "llama-left-eager": "dp2", "t5": "mixed", "bart": "pp2", "vit": "dp2-tp2-pp2", "swin": "tp2",
    "whisper": "mixed", "multilabel": "dp2", "weighted": "zero3", "sound": "dp2",
}  # fmt: skip


def cases():
    for name in ZOO:
        for layout in LAYOUTS:
            marks = [] if CHOSEN[name] == layout else [pytest.mark.wide]
            yield pytest.param(name, layout, marks=marks, id=f"{name}-{layout}")


@pytest.mark.parametrize("name,layout", cases())
def test_equals_pytorch(name, layout, models, tmp_path):
    """Losses, gradient norms and each gradient, in 4 steps of AdamW."""
    model = models(name)
    compiled = model.compile_layout(layout, LAYOUTS[layout](len(model.units)))
    run = compiled.train(tmp_path, "--data", model.data, "--dump-gradients", tmp_path / "gradients", *OPTIONS)
    check(gradients(model, run) + columns(run, model.expected, loss=1e-4, grad_norm=1e-4))


@pytest.fixture(scope="module")
def bert(models):
    model = models("bert-masked")
    return model, model.compile_layout("dp2", LAYOUTS["dp2"](len(model.units)))


def test_precisions_take_float_data(models, tmp_path):
    """Data stay as they are read; what is computed of them is of 16 bits."""
    model = models("vit")
    compiled = model.compile("bf16", "--search", "--ranks=2", "--precision=bf16")
    run = compiled.train(tmp_path, "--data", model.data, *OPTIONS)
    check(columns(run, model.expected, loss=5e-3))


def shard(data, folder, cuts=(0, 10, SAMPLES)):
    """The same samples as safetensors, in pieces and in other types."""
    folder.mkdir()
    narrow = {"int64": numpy.int16, "float32": numpy.float64}
    arrays = {path.stem: numpy.load(path) for path in data.glob("*.npy")}
    for begin, end in zip(cuts, cuts[1:]):
        tensors = {name: array[begin:end].astype(narrow[str(array.dtype)]) for name, array in arrays.items()}
        save_file(tensors, folder / f"part-{begin:03}.safetensors")


def test_shards_are_the_same_samples(bert, tmp_path):
    model, compiled = bert
    shard(model.data, tmp_path / "shards")
    run = compiled.train(tmp_path / "a", "--data", model.data, *OPTIONS)
    other = compiled.train(tmp_path / "b", "--data", tmp_path / "shards", *OPTIONS)
    assert run.losses == other.losses


def test_batches_as_they_are_fed(bert, tmp_path):
    """Step k takes samples (k-1)·B ... k·B - 1, wrapping."""
    model, compiled = bert
    compiled.train(tmp_path, "--data", model.data, "--dump-batches", tmp_path / "batches", *OPTIONS)
    for step in range(1, 5):
        found = load_file(tmp_path / "batches" / f"step_{step:06}.safetensors")
        rows = (numpy.arange(BATCH) + (step - 1) * BATCH) % SAMPLES
        names = {path.stem for path in model.data.glob("*.npy")}
        assert set(found) == names
        for name in names:
            assert (found[name] == numpy.load(model.data / f"{name}.npy")[rows]).all()


def test_shuffled_and_resumed(bert, tmp_path):
    """Another order, in which a run that goes on takes what the whole run would have."""
    model, compiled = bert
    data = ("--data", model.data, "--shuffle")
    whole = compiled.train(tmp_path / "whole", *data, *OPTIONS)
    plain = compiled.train(tmp_path / "plain", "--data", model.data, *OPTIONS)
    assert whole.losses != plain.losses
    half = ("--steps", 2, *OPTIONS[2:])
    compiled.train(tmp_path / "half", *data, "--save", tmp_path / "saved", *half)
    rest = compiled.train(tmp_path / "rest", *data, "--load", tmp_path / "saved", *OPTIONS)
    assert whole.losses[2:] == rest.losses


def test_evaluation(bert, tmp_path):
    model, compiled = bert
    options = ("--eval-every", 2, "--eval-data", model.data, "--eval-batches", 2)
    run = compiled.train(tmp_path, "--data", model.data, *options, *OPTIONS)
    plain = compiled.train(tmp_path / "plain", "--data", model.data, *OPTIONS)
    assert run.losses == plain.losses and [bool(row["eval_loss"]) for row in run.log] == [False, True] * 2
    result = compiled.launch("--eval-only", "--eval-data", model.data, "--eval-batches", 1)
    assert result.returncode == 0, result.stderr
    # Before its first update the model has this loss on the first batch.
    found = float(re.search(r"^eval loss (\S+)", result.stdout, re.MULTILINE).group(1))
    assert abs(found - float(plain.losses[0])) < 1e-6


def test_without_data(bert, tmp_path):
    """Integers within their tables, masks of ones."""
    model, compiled = bert
    compiled.train(tmp_path, "--dump-batches", tmp_path / "batches", *OPTIONS)
    found = load_file(tmp_path / "batches" / "step_000001.safetensors")
    assert (found["attention_mask"] == 1).all() and 0 <= found["input_ids"].min() < found["input_ids"].max() < 96


def test_evaluator(bert, tmp_path):
    """galvatron-opt --evaluate reads the folder, too."""
    model, _ = bert
    weights = model.program.with_suffix(".safetensors")
    options = (f"--data={model.data}", "--steps=1", f"--weights={weights}")
    result = succeed("galvatron-opt", "--evaluate", model.program, *options)
    loss = float(result.stdout.splitlines()[1].split(",")[1])
    assert abs(loss - model.expected.column("loss")[0]) < 1e-4


def test_token_programs_read_folders(work, tmp_path):
    """Labels as forward takes them, some of which do not count where the program was made from a dictionary."""
    torch.manual_seed(0)
    module = ZOO["llama-left"].build().train()
    words = torch.randint(0, 96, (SAMPLES, SEQ))
    labels = torch.where(torch.rand(words.shape) < 0.4, words, -100)
    data = tmp_path / "data"
    data.mkdir()
    numpy.save(data / "input_ids.npy", words.numpy().astype(numpy.uint8))
    numpy.save(data / "labels.npy", labels.numpy().astype(numpy.int16))
    example = {"input_ids": words[:BATCH], "labels": labels[:BATCH]}
    export.save(module, example, tmp_path / "model.pt")
    program = tmp_path / "model.mlir"
    succeed("galvatron-import", tmp_path / "model.pt", "-o", program)
    sizes = ("--batch", BATCH, "--seq", SEQ, "--log", tmp_path / "log.csv")
    succeed(sys.executable, "-m", "galvatron.reference", tmp_path / "model.pt", "--data", data, *sizes, *OPTIONS)
    expected = Run(tmp_path, "")
    for labels_option in ("same", "next"):
        program = tmp_path / f"{labels_option}.mlir"
        succeed("galvatron-import", tmp_path / "model.pt", "--labels", labels_option, "-o", program)
        out = tmp_path / labels_option
        succeed("galvatron-opt", "--search", "--lower", program, "--ranks=2", "-o", out)
        run = Compiled(out).train(tmp_path / f"run-{labels_option}", "--data", data, *OPTIONS)
        check(columns(run, expected, loss=1e-4, grad_norm=1e-4))
    export.save(module, (words[:BATCH], words[:BATCH]), tmp_path / "plain.pt")
    succeed("galvatron-import", tmp_path / "plain.pt", "-o", tmp_path / "plain.mlir")
    succeed("galvatron-opt", "--search", "--lower", tmp_path / "plain.mlir", "--ranks=1", "-o", tmp_path / "plain")
    refused = Compiled(tmp_path / "plain").launch("--data", data, *OPTIONS)
    assert refused.returncode == 1 and "labels of sample 0 has -100" in refused.stderr


def damage_missing(folder):
    (folder / "labels.npy").unlink()
    return "has no labels.npy"


def damage_length(folder):
    numpy.save(folder / "attention_mask.npy", numpy.ones((SAMPLES, SEQ + 1), int))
    return f"attention_mask is of shape {SAMPLES} x {SEQ + 1}"


def damage_count(folder):
    numpy.save(folder / "labels.npy", numpy.load(folder / "labels.npy")[:-1])
    return f"{SAMPLES} samples of input_ids, but {SAMPLES - 1} of labels"


def damage_objects(folder):
    numpy.save(folder / "labels.npy", numpy.array([{}] * SAMPLES, dtype=object), allow_pickle=True)
    return "elements of type |O"


def damage_endian(folder):
    numpy.save(folder / "labels.npy", numpy.load(folder / "labels.npy").astype(">i8"))
    return "elements of type >i8"


def damage_order(folder):
    numpy.save(folder / "labels.npy", numpy.asfortranarray(numpy.load(folder / "labels.npy")))
    return "is in Fortran order"


def damage_index(folder):
    ids = numpy.load(folder / "input_ids.npy")
    ids[20, 3] = 96
    numpy.save(folder / "input_ids.npy", ids)
    return "input_ids of sample 20 has 96, but what it is an index of has 96"


def damage_float(folder):
    numpy.save(folder / "labels.npy", numpy.load(folder / "labels.npy").astype(numpy.float32))
    return "labels is F32, but this program reads integers"


def damage_end(folder):
    path = folder / "labels.npy"
    path.write_bytes(path.read_bytes()[:-9])
    return "it is truncated or damaged"


def damage_magic(folder):
    (folder / "labels.npy").write_bytes(b"no numbers, but some text of a few words")
    return "is no .npy file"


def damage_both(folder):
    save_file({"labels": numpy.zeros(3)}, folder / "a.safetensors")
    return "leave one of the two forms"


DAMAGES = [value for name, value in list(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES)
def test_bad_folders(damage, bert, tmp_path):
    model, compiled = bert
    folder = tmp_path / "data"
    folder.mkdir()
    for path in model.data.glob("*.npy"):
        (folder / path.name).write_bytes(path.read_bytes())
    message = damage(folder)
    result = compiled.launch("--data", folder, "--log", tmp_path / "log.csv", *OPTIONS)
    assert result.returncode == 1 and message in result.stderr, result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "options,message",
    [
        (("--samples", "gpt"), "--samples is for files of tokens"),
        (("--data-dtype", "u8"), "--data-dtype is for --samples windows"),
        (("--eod", "1"), "--eod is for files of tokens"),
        (("--reset-at-documents",), "--reset-at-documents is for files of tokens"),
    ],
)
def test_options_of_token_files(options, message, bert):
    model, compiled = bert
    result = compiled.launch("--data", model.data, *options, *OPTIONS)
    assert result.returncode == 1 and message in result.stderr, result.stderr


@pytest.mark.parametrize(
    "options,message",
    [
        (("--shape", "pixel_values=3x8x8"), "expects pixel_values[2] = 16, the example's, but got pixel_values[2] = 8"),
        (("--shape", "pixels=3x16x16"), "--shape names pixels, but the inputs are pixel_values, labels"),
        (("--shape", "pixel_values=3x16"), "--shape pixel_values expects 3 sizes behind the batch, but got 2"),
        (("--shape", "pixel_values=3xx16"), "expects --shape NAME=64 or NAME=3x224x224"),
        (("--seq", "4"), "--seq is the length of input_ids"),
        (("--labels", "next"), "--labels next is for modules of input_ids and labels alone"),
    ],
)
def test_import_refuses(options, message, models, tmp_path):
    result = call("galvatron-import", models("vit").archive, *options, "-o", tmp_path / "m.mlir")
    assert result.returncode == 1 and message in result.stderr, result.stderr
    assert not list(tmp_path.iterdir())


def test_import_at_other_sizes(models, tmp_path):
    """Batch and both lengths of a translation; the example had others."""
    model = models("t5")
    succeed("galvatron-import", model.archive, "--batch", 2, "--seq", 9, "--shape", "labels=5", "-o", tmp_path / "m.mlir")
    text = (tmp_path / "m.mlir").read_text()
    assert "%arg0: tensor<2x9xi64>" in text and "%arg2: tensor<2x5xi64>" in text


@pytest.mark.parametrize(
    "samples,options,message",
    [
        (4, (), "the data have 4 samples, but one batch needs 8"),
        (4, ("--eval-only",), "the data to evaluate have 4 samples, but one batch needs 8; use more data or a smaller --global-batch"),
        (12, ("--eval-only",), "--eval-batches 0 takes each of the 12 samples once, which batches of 8 do not divide"),
    ],
)
def test_too_few_samples(samples, options, message, models, tmp_path):
    model = models("multilabel")
    compiled = model.compile_layout("one", LAYOUTS["one"](len(model.units)))
    for path in model.data.glob("*.npy"):
        numpy.save(tmp_path / path.name, numpy.load(path)[:samples])
    data = ("--eval-data", tmp_path, "--eval-batches", 0) if options else ("--data", tmp_path)
    result = compiled.launch(*options, *data)
    assert result.returncode == 1 and message in result.stderr, result.stderr
