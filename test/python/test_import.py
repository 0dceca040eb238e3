"""galvatron-import: imported programs compute PyTorch's loss and gradients; bad input is refused in
one sentence and leaves nothing behind."""

from __future__ import annotations

import json
import re

import pytest
import torch
from conftest import MODELS, ROOT
from importing import Small, check_equal, check_refused, exported, imported, needs_importer, run_importer, tokens
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from galvatron import export, huggingface

FAMILIES = sorted(path.stem for path in MODELS.glob("*.json"))
EAGER_ONLY = ("bloom", "gemma2")
CASES = [(f, a) for f in FAMILIES for a in ("sdpa", "eager") if a == "eager" or f not in EAGER_ONLY]

pytestmark = needs_importer


def without_dropout(config):
    for key in config.to_dict():
        if "drop" in key and isinstance(getattr(config, key), float):
            setattr(config, key, 0.0)
    return config


@pytest.mark.parametrize("family,attention", CASES)
def test_imported_program_is_the_model(family, attention, tmp_path):
    config = without_dropout(huggingface.read_config(MODELS / f"{family}.json"))
    model = huggingface.build_random(config, attention, seed=5)
    archive = tmp_path / "model.pt"
    export.save(model, (tokens(2, 16), tokens(2, 16)), archive, attention=attention)
    text = check_equal(archive, 3, 40)
    assert ("graph.attention" in text) == (attention == "sdpa")
    assert str(ROOT) not in text and "site-packages" not in text
    if attention == "sdpa":
        # Every mask became attributes; ALiBi is none.
        assert bool(re.search(r"graph\.attention[^\n]* bias ", text)) == ("alibi" in family)


@pytest.mark.parametrize("fused", [False, True])
def test_handwritten_module(fused, tmp_path, handwritten):
    torch.manual_seed(0)
    module = handwritten.Decoder(fused=fused)
    export.save(module, (tokens(2, 16), tokens(2, 16)), tmp_path / "model.pt")
    text = check_equal(tmp_path / "model.pt", 3, 40)
    # The mask buffer [1, 1, 128, 128] became a comparison of positions.
    assert ("arith.cmpi sle" in text) == (not fused)


def test_model_that_keeps_keys_and_values(tmp_path):
    """As in a user's own module around one of transformers: the cache of each layer begins as a tensor of shape [0]."""

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = huggingface.build_random(huggingface.read_config(MODELS / "llama.json"), "sdpa", seed=5)

        def forward(self, input_ids, labels):
            logits = self.model(input_ids).logits
            return functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())

    module = Wrapped()
    export.save(module, (tokens(2, 16), tokens(2, 16)), tmp_path / "model.pt")
    assert "graph.attention" in check_equal(tmp_path / "model.pt", 3, 40)


def dropout_ids(archive):
    text, _ = imported(archive, 2, 16)
    return re.findall(r"graph\.(?:dropout|attention)[^\n]*?\bid = (\d+)", text)


def test_every_dropout_has_an_id_of_its_own(tmp_path):
    archive = tmp_path / "model.pt"
    arguments = ["--config", str(MODELS / "gpt2_dropout.json"), "--attn", "sdpa", "-o", str(archive)]
    assert export.main(arguments) == 0
    ids = dropout_ids(archive)
    assert len(ids) == len(set(ids)) == 1 + 2 * 3


def test_dropped_channels_differ_from_layer_to_layer(tmp_path):
    """Each is drawn from the same ones, which must not make one of them."""

    class Layer(nn.Module):
        def forward(self, x):
            return x + functional.dropout1d(x, 0.3)

    assert len(set(dropout_ids(exported(tmp_path, Small(nn.Sequential(Layer(), Layer())))))) == 2


def test_long_sequences_build_nothing_of_their_size(tmp_path):
    archive = tmp_path / "model.pt"
    arguments = ["--config", str(MODELS / "mistral.json"), "--weightless", "-o", str(archive)]
    assert export.main(arguments) == 0
    config = json.loads((MODELS / "mistral.json").read_text())
    text, _ = imported(archive, 8, 131072)
    assert len(text) < 100_000
    assert f"window = {config['sliding_window']}" in text


def test_tied_parameters_are_written_once_under_the_first_name(tmp_path):
    archive = tmp_path / "model.pt"
    arguments = ["--config", str(MODELS / "llama_tied.json"), "--seed", "1", "-o", str(archive)]
    assert export.main(arguments) == 0
    text, parameters = imported(archive, 2, 16)
    assert 'graph.parameter ["model.embed_tokens.weight", "lm_head.weight"]' in text
    assert "lm_head.weight" not in parameters


def test_state_beside_what_is_trained(tmp_path):
    """Frozen parameters are parameters, also those that nothing reads; persistent buffers have a file of their own."""

    class Stateful(Small):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.full((8,), 2.0), requires_grad=False)
            self.unused = nn.Linear(3, 2)
            self.register_buffer("shift", torch.arange(8.0))
            self.register_buffer("count", torch.tensor(5))
            self.register_buffer("scratch", torch.zeros(4), persistent=False)
            self.middle = lambda x: x * self.scale + self.shift + self.scratch[0]

    text, weights = imported(exported(tmp_path, Stateful()), 2, 16)
    assert re.search(r'graph\.parameter \["scale"\] frozen ', text)
    assert re.search(r'graph\.parameter \["unused\.weight"\] init ', text)
    assert {"scale", "unused.weight", "unused.bias"} <= weights.keys() and "shift" not in weights
    carried = text.split("graph.carried = [")[1].split("]")[0]
    assert re.findall(r"\{([^{}]*)\}", carried) == [
        'buffer, dtype = "F32", name = "shift", read, shape = array<i64: 8>',
        'buffer, dtype = "I64", name = "count", shape = array<i64>',
    ]
    assert 'graph.buffers = "model.buffers.safetensors"' in text
    buffers = load_file(tmp_path / "model.buffers.safetensors")
    assert buffers.keys() == {"shift", "count"}
    assert torch.equal(buffers["shift"], torch.arange(8.0)) and torch.equal(buffers["count"], torch.tensor(5))


def test_weightless_parameters_carry_their_distribution_and_no_file(tmp_path):
    archive = tmp_path / "model.pt"
    arguments = ["--config", str(MODELS / "gpt2.json"), "--weightless", "-o", str(archive)]
    assert export.main(arguments) == 0
    text, parameters = imported(archive, 2, 16)
    assert not parameters and "graph.weights" not in text
    assert text.count("graph.parameter [") == text.count("] init {")


def test_a_module_that_blocks_share_happens_where_it_is_called(tmp_path):
    class Block(nn.Module):
        def __init__(self, activation) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)
            self.activation = activation

        def forward(self, x):
            return x + self.activation(self.linear(x))

    class Shared(Small):
        def __init__(self) -> None:
            super().__init__()
            activation = nn.GELU()
            self.blocks = nn.Sequential(Block(activation), Block(activation))
            self.middle = self.blocks

    text, _ = imported(exported(tmp_path, Shared()), 2, 16)
    for block in (0, 1):
        assert f'loc("blocks.{block}.activation"' in text


def test_labels_that_a_shift_fills_do_not_count(tmp_path):
    archive = tmp_path / "model.pt"
    assert export.main(["--config", str(MODELS / "llama.json"), "--weightless", "-o", str(archive)]) == 0
    text, _ = imported(archive, 2, 16)
    assert re.search(r"graph.shift %arg1 \{dim = 1 : i64, fill = -100 : i64, offset = 1 : i64\}", text)


def write_to_what_may_be_a_copy(x):
    y = x * 2
    y.reshape(-1).add_(1.0)
    return y


@pytest.mark.parametrize(
    "middle,message",
    [
        (
            lambda x: torch.cummax(x, 1)[0],
            r"unsupported operator aten::cummax in the top module \(test_import.py:\d+\)",
        ),
        (lambda x: x.reshape(2, 2, 8, 8).flatten(1, 2), r"holds? its example's batch size 2 as a constant"),
        (lambda x: x + torch.ones(16, 8), r"expects --seq 16, the example's, but got --seq 24: .*takes no other size"),
        (
            lambda x: x + x.nonzero().sum(),
            r"unsupported operator aten::nonzero in the top module .*: its result has a shape that depends on data; ",
        ),
        (lambda x: x * (x[x > 0].sum() + 1), "indexing by a mask has a shape that depends on data"),
        (lambda x: x * (x.argmax(-1, keepdim=True) * 6364136223846793005 % 7), r"6364136223846793005.*exact up to 2\^53"),
        (write_to_what_may_be_a_copy, "reads memory that an in-place operator changed through another view"),
    ],
)
def test_unsupported_programs(middle, message, tmp_path):
    check_refused(tmp_path, message, exported(tmp_path, Small(middle)), "--batch", 4, "--seq", 24)


def test_too_few_positions(tmp_path):
    class Positions(Small):
        def __init__(self) -> None:
            super().__init__()
            self.positions = nn.Embedding(20, 8)
            self.middle = lambda x: x + self.positions(torch.arange(x.shape[1]))

    message = "positions 0 to 23 do not fit a table of 20 rows"
    check_refused(tmp_path, message, exported(tmp_path, Positions()), "--seq", 24)


def test_foreign_and_truncated_files(tmp_path):
    archive = exported(tmp_path, Small())
    (tmp_path / "text.pt").write_text("hello")
    torch.save({"a": torch.ones(2)}, tmp_path / "checkpoint.pt")
    content = archive.read_bytes()
    (tmp_path / "half.pt").write_bytes(content[: len(content) // 2])
    for name in ("text", "checkpoint", "half"):
        message = r"cannot be read as TorchScript \(.*\): it is truncated or of another format; write it with"
        check_refused(tmp_path, message, tmp_path / f"{name}.pt")
    check_refused(tmp_path, "no such file; write one with", tmp_path / "missing.pt")


def test_other_signatures(tmp_path):
    class Three(nn.Module):
        def forward(self, a, b, c):
            return (a + b + c).mean()

    class NoLoss(Small):
        def forward(self, input_ids, labels):
            return self.table(input_ids)

    ids = torch.zeros(2, 16, dtype=torch.long)
    torch.jit.trace(Three(), (torch.ones(2, 2),) * 3).save(str(tmp_path / "three.pt"))
    torch.jit.trace(NoLoss(), (ids, ids)).save(str(tmp_path / "noloss.pt"))
    sizes = ("--batch", 2, "--seq", 16)
    others = r"expects forward\(input_ids, labels\), position_ids third or not, but it has 3"
    check_refused(tmp_path, others, tmp_path / "three.pt", *sizes)
    check_refused(tmp_path, "expects the module to return a scalar mean loss", tmp_path / "noloss.pt", *sizes)


def test_plain_torchscript_imports_when_told_its_sizes(tmp_path):
    ids = torch.zeros(2, 16, dtype=torch.long)
    plain = tmp_path / "plain.pt"
    torch.jit.trace(Small(), (ids, ids), check_trace=False).save(str(plain))
    check_refused(tmp_path, "pass --batch and --seq", plain)
    text, parameters = imported(plain, 2, 16)
    assert set(parameters) == {"table.weight", "head.weight", "head.bias"}


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["--batch", "0"], "expects a positive number for --batch, but got '0'"),
        (["--seq=-3"], "expects a positive number for --seq"),
        (["--sequence", "3"], "unknown option --sequence; see galvatron-import --help"),
        (["other.pt"], r"expects one model, but got .*model.pt and other.pt"),
    ],
)
def test_command_line(arguments, message, tmp_path):
    check_refused(tmp_path, message, exported(tmp_path, Small()), *arguments)


def test_unwritable_output(tmp_path):
    done = run_importer(exported(tmp_path, Small()), "-o", tmp_path / "nowhere" / "model.mlir")
    assert done.returncode == 1 and "cannot write" in done.stderr


def test_output_that_is_no_file(tmp_path):
    """Nothing is written in its place, and no weights beside it."""
    archive = exported(tmp_path, Small())
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "link").symlink_to("/dev/full")
    before = sorted(tmp_path.iterdir())
    for output in (folder, tmp_path / "link", "-"):
        done = run_importer(archive, "-o", output)
        assert done.returncode == 1 and "expects the output to be a file, with its weights beside it" in done.stderr
        assert str(output) in done.stderr and "-o" in done.stderr
    assert sorted(tmp_path.iterdir()) == before and (tmp_path / "link").is_symlink()


def test_sequences_without_a_label(tmp_path):
    archive = tmp_path / "model.pt"
    assert export.main(["--config", str(MODELS / "llama.json"), "--weightless", "-o", str(archive)]) == 0
    done = run_importer(archive, "--batch", 2, "--seq", 1, "-o", tmp_path / "model.mlir")
    assert done.returncode == 1 and "pass a longer --seq" in done.stderr
    assert done.stderr.count("error:") == 1 and done.stderr.count("\n") == 1
