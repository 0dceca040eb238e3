"""Numbers of a program that its operators divide, split and index by: impossible ones are refused, naming operator,
module and line, before anything is computed with them.
"""

from __future__ import annotations

import re

import pytest
from importing import check_refused, needs_importer, run_importer, scripted

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
        ("x = x" + ".unsqueeze(0)" * 30, "unsqueeze", "makes a tensor of shape [1, 1,"),
    ],
)
def test_operands(line, op, message, tmp_path):
    expected = rf"aten::{op} in the top module \(<string>:\d+\): {re.escape(message)}"
    check_refused(tmp_path, expected, scripted(tmp_path, line), "--batch", 2, "--seq", 16)


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
