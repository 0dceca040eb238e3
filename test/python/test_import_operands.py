"""Numbers of a program that its operators divide, split and index by: impossible ones are refused, naming operator,
module and line, before anything is computed with them.
"""

from __future__ import annotations

import re
import zipfile
from string import ascii_letters

import pytest
import torch
from importing import check_refused, needs_importer, run_importer, scripted
from torch import nn

pytestmark = needs_importer


@pytest.mark.parametrize(
    "line,op,message",
    [
        ("x = torch.chunk(x, 0)[0]", "chunk", "expects chunks of at least 1, but got 0"),
        ("x = torch.split(x, 0)[0]", "split", "expects split_size of at least 1, but got 0"),
        ("x = torch.split(x, -3)[0]", "split", "expects split_size of at least 1, but got -3"),
        ("x = torch.tensor_split(x, -5)[0]", "tensor_split", "expects sections of at least 1, but got -5"),
        ("x = x.permute([0, 7, 1])", "permute", "expects dims within a tensor of rank 3, but got 7"),
        ("x = x.permute([0, 0, 1])", "permute", "expects dims to name each dimension once, but got [0, 0, 1]"),
        ("x = x + x.sum([0, 0, 5])", "sum", "expects dim within a tensor of rank 3, but got 5"),
        ("x = x[:, ::0]", "slice", "expects a step of at least 1, but got 0"),
        ("x = x[:, :(3 // (x.dim() - 3))]", "floordiv", "divides 3 by zero"),
        ("x = x + torch.arange(0, 10, 0).sum()", "arange", "expects a range of numbers below 2^53 with a step"),
        ("x = x + torch.arange(0.5, 1e12, 1.0).sum()", "arange", "makes 1000000000000 different numbers, but at most"),
        ("x = x + torch.linspace(0, 1, 1 << 45).sum()", "linspace", "expects 0 to 67108864 steps, but got"),
        ("x = x + torch.zeros([-3]).sum()", "zeros", "makes a tensor of shape [-3], which no tensor has"),
        ("x = x + torch.zeros([1 << 40, 1 << 40]).sum()", "zeros", "makes a tensor of shape [1099511627776, 1"),
        ("x = x.roll([1, 2], [0])", "roll", "expects as many shifts as dimensions of [2, 16, 8], but got [1, 2] for [0]"),
        ("x = x.repeat([-1, 1, 1])", "repeat", "expects repeats of at least 0, but got [-1, 1, 1]"),
        ("x = torch.repeat_interleave(x, -1, 1)", "repeat_interleave", "expects to repeat a dimension, but got -1 times"),
        ("x = torch.constant_pad_nd(x, [1])", "constant_pad_nd", "expects pad to have two numbers for each of the last"),
        ("x = torch.constant_pad_nd(x, [-99, 0])", "constant_pad_nd", "expects to cut at most dimension 2 of [2, 16, 8]"),
        ("x = x[0].expand([8])", "expand", "cannot expand [16, 8] to [8], which has fewer dimensions"),
        ("x = x.movedim([0, 1], [0])", "movedim", "expects as many destinations as sources, but got [0, 1] to [0]"),
        ("x = x.flatten(2, 1)", "flatten", "expects start_dim before end_dim, but got 2 and 1"),
        ("x = x.view([-2, -128])", "view", "makes a tensor of shape [-2, -128], which no tensor has"),
        ("x = x.narrow(1, 1, 9223372036854775807)", "narrow", "expects elements of dimension 1 of [2, 16, 8]"),
        ("x = x * torch.softmax(x.sum(), 0)", "softmax", "expects dim within a tensor of rank 0, but got 0"),
        ("x = x * torch.tril(x.sum())", "tril", "expects a matrix or a batch of them, but got []"),
        ("x = x * torch.eye(-3).sum()", "eye", "makes a tensor of shape [-3, -3], which no tensor has"),
        ("x = x * torch.matmul(x.sum(), x.sum())", "matmul", "expects vectors or matrices, but got [] and []"),
        ("x = torch.addmv(x, x.sum(), x.sum())", "addmv", "expects operands of rank 2 and 1, but got [] and []"),
        ("x = torch.einsum('abc->aa', [x])", "einsum", "equation abc->aa has subscript a twice in its result"),
        (
            "x = x * torch.gather(torch.arange(8), 0, torch.arange(8) * torch.arange(8)).sum()",
            "gather",
            "gathers position 9.000000 of dimension 0 of [8]",
        ),
        (
            "x = x * torch.gather(torch.arange(8), 0, torch.zeros([2, 2], dtype=torch.long)).sum()",
            "gather",
            "expects an index within [8] but for dimension 0, but got [2, 2]",
        ),
        ("x = x * torch.zeros([1 << 40]).unbind(0)[0]", "unbind", "expects at most 1048576 pieces, but got 1099511627776"),
        ("x = x * torch.fliplr(x.sum())", "fliplr", "expects a tensor with dimension 1, but got []"),
        ("x = torch.rot90(x, 1, [0])", "rot90", "expects two dimensions to turn, but got [0]"),
        ("x = x.permute([0, 1])", "permute", "expects the dimensions of [2, 16, 8] in another order, but got [0, 1]"),
        (
            "x = torch.ops.aten.scaled_dot_product_attention(x[:, None], x[:, None], x, torch.zeros([1, 1, 1, 16, 16]))",
            "scaled_dot_product_attention",
            "expects a mask of rank 4 at most, as the queries', but got [1, 1, 1, 16, 16]",
        ),
        (
            "x = torch.conv1d(x.transpose(1, 2), torch.ones([8, 3, 3]))",
            "conv1d",
            "expects a weight [results, channels / groups, ...] to fit the input, but got [8, 3, 3] for [2, 8, 16] in 1",
        ),
        ("x = torch.embedding(x.sum(), input_ids)", "embedding", "expects a table of rows, but got a single number"),
        ("x = x[:, :, :, input_ids]", "index", "expects 1 to 3 indices for [2, 16, 8], but got 1 in 4 places"),
        (
            "x = torch.index_put(x, [torch.ones([2, 16, 8, 3], dtype=torch.bool)], torch.zeros([]))",
            "index_put",
            "expects a mask of [2, 16, 8], but got one of [2, 16, 8, 3]",
        ),
        (
            "x = torch.ops.aten.cross_entropy_loss(x.transpose(1, 2), labels, torch.ones([3]))",
            "cross_entropy_loss",
            "expects a weight for each of 8 classes, but got [3]",
        ),
        (
            "x = torch.ops.aten.cross_entropy_loss(input_ids, labels)",
            "cross_entropy_loss",
            "expects logits in floating point with a dimension of classes, but got int64 [2, 16]",
        ),
        (
            "x = torch.batch_norm(x.sum(), None, None, torch.ones([8]), torch.ones([8]), False, 0.1, 1e-5, False)",
            "batch_norm",
            "expects channels, but got a single number",
        ),
        ("x = torch.outer(x[0], x[0])", "outer", "expects two vectors, but got [16, 8] and [16, 8]"),
        (
            f"x = torch.einsum('...->{ascii_letters}', [x])",
            "einsum",
            f"equation ...->{ascii_letters} leaves no letters for an operand [2, 16, 8]",
        ),
        ("x = torch.einsum('a1c->a1c', [x])", "einsum", "equation a1c->a1c has a subscript that is no letter"),
        ("x = x * len(x.sum())", "len", "expects a list or a tensor with dimensions, but got a single number"),
        ("x = x * int(torch.tensor(1e19))", "Int", "makes an integer of 9999999980506447872.000000, which has 64 bits"),
        ("x = x.sum().prod(0)", "prod", "expects one dimension of []"),
        (
            "x = x * (torch.arange(1 << 27) % 3)[torch.arange(1 << 27) % 5].sum()",
            "index",
            "computes 134217728 numbers of shape [134217728] in advance, but at most 67108864 are supported; make them",
        ),
        (
            "x = x.diff(1, 2, x[:, :3])",
            "diff",
            "expects tensors that differ along dimension 2 at most, but got [2, 3, 8] and [2, 16, 8]",
        ),
        ("x = x" + ".unsqueeze(0)" * 30, "unsqueeze", "makes a tensor of shape [1, 1,"),
    ],
)
def test_operands(line, op, message, tmp_path):
    expected = rf"aten::{op} in the top module \(<string>:\d+\): {re.escape(message)}"
    check_refused(tmp_path, expected, scripted(tmp_path, line), "--batch", 2, "--seq", 16)


class Parts(nn.Module):
    """A list, which its archive has a type of."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(32, 8))
        self.parts = [3, 4]

    def forward(self, input_ids, labels):
        return torch.embedding(self.table, input_ids).mean() * torch.tensor(self.parts).sum()


def test_lists_of_another_type(tmp_path):
    """The archive's code says that it has a list of tensors, its data has numbers."""
    sound, changed = tmp_path / "sound.pt", tmp_path / "model.pt"
    torch.jit.script(Parts()).save(str(sound))
    with zipfile.ZipFile(sound) as source, zipfile.ZipFile(changed, "w") as result:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith(".py"):
                content = content.replace(b"List[int]", b"List[Tensor]").replace(b"torch.tensor(", b"torch.cat(")
            if not name.endswith(".debug_pkl"):
                result.writestr(name, content)
    message = r"aten::cat in the top module .*: expects tensors as argument tensors, but got something else among them"
    check_refused(tmp_path, message, changed, "--batch", 2, "--seq", 16)


def test_exceptions(tmp_path):
    message = "prim::RaiseException in the top module .*: the module raises an exception for these inputs"
    check_refused(tmp_path, message, scripted(tmp_path, "assert x.size(1) == 17"), "--batch", 2, "--seq", 16)


def test_assertions_that_hold(tmp_path):
    done = run_importer(scripted(tmp_path, "assert x.size(1) == 16"), "--batch", 2, "--seq", 16, "-o", tmp_path / "m.mlir")
    assert done.returncode == 0, done.stderr


def test_dicts(tmp_path):
    message = r"unsupported operator prim::DictConstruct in the top module"
    check_refused(tmp_path, message, scripted(tmp_path, "x = x * {'a': 1.0}['a']"), "--batch", 2, "--seq", 16)


@pytest.mark.parametrize(
    "lines,message",
    [
        (["while True:", "    pass"], "a loop in the top module .* runs more than 100000 times"),
        (["for i in range(200000):", "    x = x + 1.0"], r"a loop in the top module \(<string>:\d+\) runs more than 100000 times"),
        (["n = 0", "for i in range(70000):", "    for j in range(2):", "        n += j"], "loops in all, .* run more than"),
    ],
)
def test_loops_without_end(lines, message, tmp_path):
    check_refused(tmp_path, message, scripted(tmp_path, *lines), "--batch", 2, "--seq", 16)
