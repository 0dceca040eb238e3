"""What galvatron-import refuses of operators that it knows, and of archives: in one line that names what is refused and
says what to do.

Programs are traced without galvatron.export: it would find some of these first.
"""

from __future__ import annotations

import json
import re
import zipfile

import pytest
import torch
from importing import Small, check_refused, exported, needs_importer
from torch import nn
from torch.nn import functional

from galvatron import export

pytestmark = needs_importer


class Loss(nn.Module):
    """`loss(x, labels)` of x, float [batch, seq, 8], and labels, integers [batch, seq]."""

    def __init__(self, loss) -> None:
        super().__init__()
        self.table = nn.Embedding(32, 8)
        self.loss = loss

    def forward(self, input_ids, labels):
        return self.loss(self.table(input_ids), labels)


def traced(tmp_path, module):
    ids = torch.arange(32).reshape(2, 16)
    path = tmp_path / "model.pt"
    torch.jit.trace(module, (ids, ids), check_trace=False).save(str(path))
    return path


NUMBERS = torch.linspace(0, 1, 1 << 15).sin()  # too many for a program


@torch.jit.script
def doubled(x):
    return x * 2.0


class Branching(nn.Module):
    """Control flow is in the archive of a scripted module alone."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(32, 8))

    def forward(self, input_ids, labels):
        x = torch.embedding(self.table, input_ids)
        if bool(x.sum() > 0):
            x = x * 2.0
        return x.mean()


def written(value, *index, accumulate=False):
    """Writes a value to positions of x."""

    def middle(x):
        positions = tuple(each(x) for each in index)
        return (x * 1).index_put(positions, torch.full_like((x * 1)[positions], value), accumulate=accumulate)

    return middle


def largest(x):
    return x[0].argmax(-1)  # [seq], depends on data


@pytest.mark.parametrize(
    "middle,message",
    [
        (lambda x: functional.rrelu(x, training=True), "draws random slopes in training, which is unsupported"),
        (
            lambda x: functional.scaled_dot_product_attention(
                x[:, None], x[:, None, :8], x[:, None, :8], is_causal=True
            ).squeeze(1),
            "expects as many queries as keys with is_causal, but got ",
        ),
        (lambda x: x + functional.one_hot(x.argmax(-1)).sum(), "expects num_classes, as the shape must not depend on data"),
        (lambda x: x + torch.where(x > 0)[0].sum(), "the form that returns indices has a shape that depends on data"),
        (
            nn.InstanceNorm1d(16, track_running_stats=True),
            "keeps running statistics, which is unsupported; use track_running_stats=False",
        ),
        (
            lambda x: x.scatter(1, x.argmax(-1, keepdim=True), x),
            "expects an index of the shape of [2, 16, 8] but for dimension 1, but got [2, 16, 1]",
        ),
        (lambda x: x.scatter(1, (x > 0).long(), x, reduce="add"), "expects no reduce; use scatter_add, which adds"),
        (
            lambda x: x.scatter(1, (x > 0).long(), x),
            "writes several elements to positions that may be the same, where the last one is left to chance",
        ),
        (lambda x: x.index_copy(1, largest(x), x), "writes to positions that depend on data or repeat"),
        (written(1.0, lambda x: largest(x) % 2, accumulate=True), "expects accumulate to be false; use index_add"),
        (
            written(1.0, lambda x: largest(x) % 2, largest),
            "expects one index or mask where data is written, but got several; use where",
        ),
        (lambda x: x + torch.linalg.vector_norm(x, 0.5), "expects a norm of order 0, 1 or more, but got 0.5"),
        (lambda x: x + torch.linalg.norm(x[0], "nuc"), "expects the norm of a vector, or 'fro', but got 'nuc'"),
        (
            lambda x: x + torch.linalg.norm(x[0], 1),
            "expects the norm of a vector; the norms of matrices are unsupported but for 'fro'",
        ),
        (
            lambda x: x * (x.sum() * NUMBERS).sum(),
            "needs a constant tensor of shape [32768] (128 KiB) as data; constants above 64 KiB are supported only",
        ),
        (lambda x: x + torch.arange(x.argmax()).sum(), "turns a tensor that depends on data into a number; the"),
        (lambda x: x.to(torch.int16).float(), "unsupported element type (torch scalar type 2); use float32"),
        (doubled, "is a module, or of a kind of value that is unsupported"),
    ],
)
def test_middles(middle, message, tmp_path):
    check_refused(tmp_path, re.escape(message), traced(tmp_path, Small(middle)), "--batch", 2, "--seq", 16)


def test_writes_to_parameters(tmp_path):
    module = Small(lambda x: x + module.head.weight.detach().mul_(2.0)[0])
    message = "aten::mul_ .*: writes to a parameter in the forward pass; only the optimizer may"
    check_refused(tmp_path, message, traced(tmp_path, module), "--batch", 2, "--seq", 16)


class ShortNumbers(Small):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.ones(8, dtype=torch.int16))
        self.middle = lambda x: x + self.shift


def test_buffers_of_other_types(tmp_path):
    message = "attribute shift: unsupported constant tensor of type Short; expects dense numbers with values"
    check_refused(tmp_path, message, traced(tmp_path, ShortNumbers()), "--batch", 2, "--seq", 16)


def test_buffers_that_no_checkpoint_holds(tmp_path):
    module = Small()
    module.register_buffer("phase", torch.ones(2, dtype=torch.complex128))
    message = "buffer phase is of type ComplexDouble, which a checkpoint cannot hold; register it with persistent=False"
    check_refused(tmp_path, message, exported(tmp_path, module))


def test_control_flow(tmp_path):
    torch.jit.script(Branching()).save(str(tmp_path / "model.pt"))
    message = "turns a tensor that depends on data into a number; the program must not depend on it"
    check_refused(tmp_path, message, tmp_path / "model.pt", "--batch", 2, "--seq", 16)


@pytest.mark.parametrize(
    "loss,message",
    [
        (
            lambda x, y: functional.cross_entropy(x.flatten(0, 1), x.flatten(0, 1).softmax(1), weight=torch.ones(8)),
            "labels that are probabilities with class weights or smoothing are unsupported",
        ),
        (
            lambda x, y: functional.nll_loss(x.flatten(0, 1), y.flatten() % 8),
            "expects the result of log_softmax; use cross_entropy on the logits",
        ),
        (
            lambda x, y: functional.nll_loss(x.flatten(0, 1).log_softmax(0), y.flatten() % 8),
            "expects the log_softmax of the classes, but got one over dimension 0 of ",
        ),
        (lambda x, y: torch.tensor(1.0), "the loss depends on neither inputs nor parameters; check the module's"),
        (
            lambda x, y: functional.embedding(y % 16, x[0], scale_grad_by_freq=True).mean(),
            "embedding options max_norm, sparse and scale_grad_by_freq are unsupported; leave them off",
        ),
    ],
)
def test_losses(loss, message, tmp_path):
    check_refused(tmp_path, re.escape(message), traced(tmp_path, Loss(loss)), "--batch", 2, "--seq", 16)


def test_labels_of_several_losses(tmp_path):
    def loss(x, y):
        rows, labels = x.flatten(0, 1), y.flatten()
        return functional.cross_entropy(rows, labels % 8) + functional.cross_entropy(rows, labels % 8, ignore_index=0)

    message = "losses with different ignore_index read the labels that --labels next moves; give them one"
    path = traced(tmp_path, Loss(loss))
    check_refused(tmp_path, message, path, "--labels", "next", "--batch", 2, "--seq", 16)


def test_rows_that_are_no_longer_as_many_as_labels(tmp_path):
    ids = torch.arange(32).reshape(2, 16) % 8

    class Fixed(Loss):
        def forward(self, input_ids, labels):
            return functional.cross_entropy(self.table(input_ids).flatten(0, 1), ids.flatten())

    message = re.escape("logits [48, 8] do not fit labels [32]")
    check_refused(tmp_path, message, traced(tmp_path, Fixed(None)), "--batch", 3, "--seq", 16)


def test_parameters_without_values(tmp_path):
    module = Small()
    module.table.weight = nn.Parameter(torch.zeros(1).expand(32, 8))
    message = "parameter table.weight has neither values nor a distribution to draw them from; export with weights"
    check_refused(tmp_path, message, traced(tmp_path, module), "--batch", 2, "--seq", 16)


def test_buffers_that_are_not_there(tmp_path):
    extra = {"galvatron.json": ""}
    path = exported(tmp_path, Small())
    module = torch.jit.load(str(path), _extra_files=extra)
    description = json.loads(extra["galvatron.json"])
    description["buffers"] = [{"name": "shift", "persistent": True}]
    torch.jit.save(module, str(path), _extra_files={"galvatron.json": json.dumps(description)})
    check_refused(tmp_path, "the archive lacks the buffer shift that it describes; export it again", path)


class Pixels(nn.Module):
    def __init__(self, inner=None):
        super().__init__()
        self.inner = inner or nn.Conv1d(2, 4, 3)

    def forward(self, pixels, labels):
        return torch.nn.functional.cross_entropy(self.inner(pixels).mean(-1), labels)


def described(tmp_path, change):
    """An archive of named inputs whose description is another."""
    path = tmp_path / "model.pt"
    example = {"pixels": torch.randn(2, 2, 8), "labels": torch.tensor([0, 1])}
    export.save(Pixels(), example, path)
    extra = {"galvatron.json": ""}
    module = torch.jit.load(str(path), _extra_files=extra)
    description = json.loads(extra["galvatron.json"])
    change(description)
    torch.jit.save(module, str(path), _extra_files={"galvatron.json": json.dumps(description)})
    return path


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda d: d["inputs"].pop(), "expects a forward of the 1 inputs that galvatron.json names"),
        (lambda d: d.update(inputs=3), r"galvatron.json in the archive is damaged \(.*\); export the model again"),
        (
            lambda d: d["bounds"].append({"dimension": "pixels[9]", "value": 1, "place": "here", "reason": "holds it"}),
            r"galvatron.json in the archive has a bound of pixels\[9\], which is no size of an input",
        ),
        (
            lambda d: d["input_types"][0].update(shape=[2, -2, 8]),
            r"galvatron.json in the archive gives pixels the shape .*, which no input has",
        ),
    ],
)
def test_descriptions_of_named_inputs(change, message, tmp_path):
    check_refused(tmp_path, message, described(tmp_path, change))


def test_shapes_are_for_named_inputs(tmp_path):
    path = traced(tmp_path, Small())
    check_refused(tmp_path, "--shape is for modules exported with named inputs", path, "--batch", 2, "--seq", 16, "--shape", "input_ids=8")


@pytest.mark.parametrize(
    "inner,message",
    [
        (nn.ConvTranspose1d(2, 4, 3), "transposed convolutions are unsupported"),
        (nn.Sequential(nn.Conv1d(2, 4, 3), nn.AdaptiveAvgPool1d(4)), "expects an output size that divides the input, but got 4 for 6"),
    ],
)
def test_convolutions_that_are_refused(inner, message, tmp_path):
    path = tmp_path / "model.pt"
    export.save(Pixels(inner), {"pixels": torch.randn(2, 2, 8), "labels": torch.tensor([0, 1])}, path)
    check_refused(tmp_path, message, path)


def test_damaged_programs(tmp_path):
    path, damaged = traced(tmp_path, Small()), tmp_path / "damaged.pt"
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(damaged, "w") as copy:
        for name in archive.namelist():
            copy.writestr(name, "class (" if name.endswith(".py") else archive.read(name))
    check_refused(tmp_path, r"entry code/\S+\.py: line 1 leaves a bracket open", damaged)


def test_a_third_input_is_position_ids(tmp_path):
    class Third(Loss):
        def forward(self, input_ids, labels, other):
            return super().forward(input_ids, labels + 0 * other)

    ids = torch.arange(32).reshape(2, 16)
    path = tmp_path / "model.pt"
    torch.jit.trace(Third(lambda x, y: x.mean()), (ids, ids, ids), check_trace=False).save(str(path))
    check_refused(tmp_path, r"expects forward\(input_ids, labels\), position_ids third or not, but it has 3 inputs", path, "--batch", 2, "--seq", 16)


def test_losses_ignore_the_label_that_the_last_token_of_a_document_has(tmp_path):
    class Packed(Loss):
        def forward(self, input_ids, labels, position_ids):
            logits = self.table(input_ids + 0 * position_ids)[:, :-1].reshape(-1, 8)
            return functional.cross_entropy(logits, labels[:, 1:].reshape(-1), ignore_index=-1)

    ids = torch.arange(32).reshape(2, 16) % 8
    path = tmp_path / "model.pt"
    torch.jit.trace(Packed(None), (ids, ids, ids), check_trace=False).save(str(path))
    check_refused(tmp_path, "does not ignore the label -100, which the last token of a document has", path, "--batch", 2, "--seq", 16)
