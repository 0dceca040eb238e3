"""What galvatron-import refuses of scripted programs: in one line that names the operator and its line.

Nothing of them has run in PyTorch, so that operands may be of any shapes and kinds: what a trace has only when it is
imported for other sizes than its example's.
"""

from __future__ import annotations

import re

import pytest
import torch
from importing import check_refused, imported, needs_importer, scripted

pytestmark = needs_importer


def check_message(tmp_path, place, message, *lines, **options):
    """All of the message, but for what precedes the place where the program says what is refused."""
    expected = f"{place} in the top module (<string>:{2 + len(lines)}): {message}"
    archive = scripted(tmp_path, *lines, **options)
    check_refused(tmp_path, re.escape(expected), archive, "--batch", 2, "--seq", 16)


#: (what x becomes, the operator that is refused, why)
CASES = [
    # Arguments of other kinds than the operator's rule reads.
    ("torch.repeat_interleave(labels)", "repeat_interleave", "expects an argument self, which this form of the"),
    ("x * all([True, False])", "all", "expects a tensor as argument self, but got a number or a list"),
    ("x.sum([1] + [2])", "add", "expects tensors or numbers, but got a list or a text"),
    ("x[:, :len(text)]", "len", "got an argument of a kind that is unsupported (such as a text, or a list)"),
    ("x * (float(x.size(1)) // 2.0)", "floordiv", "expects an integer as argument a; convert with int()"),
    ("torch.narrow(x, 1, torch.argmax(x), 3)", "narrow", "argument start is an integer that depends on data; shapes"),
    ("torch.fill(x, x.sum())", "fill", "argument value is a number that depends on data, which is unsupported"),
    ("torch.softmax(x, 5)", "softmax", "expects dim within a tensor of rank 3, but got 5"),
    ("x.sum([0, -4])", "sum", "expects dim within a tensor of rank 3, but got -4"),
    ("x.permute([0, 1, 3])", "permute", "expects dims within a tensor of rank 3, but got 3"),
    ("torch.bitwise_and(x, x)", "bitwise_and", "expects integers, but got floating point; convert with .long()"),
    ("torch.atan2(labels, labels)", "atan2", "expects floating point, but got integers; convert with .float()"),
    ("torch.softmax(x[:, 20:], 2)", "softmax", "computes with an empty tensor [2, 0, 8], which is unsupported"),
    ("x * x.size()[5]", "__getitem__", "expects an index within a list of length 3, but got 5"),
    ("x + (x.size(1) if text[0] == 't' else 0)", "__getitem__", "expects a list to take an element of, but got a"),
    # Shapes that do not fit.
    ("x + labels", "add", "operands do not broadcast: [2, 16, 8] with [2, 16]"),
    ("(x * 1)[:, :3].copy_(x)", "copy_", "cannot broadcast [2, 16, 8] to [2, 3, 8]"),
    ("x.expand([2, 3, 8])", "expand", "cannot expand [2, 16, 8] to [2, 3, 8]; a size in the trace is a constant"),
    ("x.view([3, -1])", "view", "cannot view [2, 16, 8] as [3, -1]; a size in the trace is a constant that"),
    ("x[:, 16]", "select", "expects elements of dimension 1 of [2, 16, 8], but got 1 from 16 on; pass a --seq or"),
    ("x[:, -17]", "select", "expects elements of dimension 1 of [2, 16, 8], but got 1 from -17 on"),
    ("x.narrow(1, 9, 8)", "narrow", "expects elements of dimension 1 of [2, 16, 8], but got 8 from 9 on"),
    ("glu(x[:, :, :7], 2)", "glu", "expects dimension 2 of [2, 16, 7] to be even"),
    ("torch.arange(0) + x", "arange", "makes an empty tensor, which is unsupported"),
    ("torch.layer_norm(x, [7])", "layer_norm", "expects normalized_shape to be the last dimensions of [2, 16, 8], but"),
    ("torch.group_norm(x, 3)", "group_norm", "expects [samples, channels, ...] with channels in 3 equal groups, but"),
    ("torch.cosine_similarity(x, labels[:, :3])", "cosine_similarity", "operands do not broadcast: [2, 16, 8] with"),
    ("torch.broadcast_tensors([x, labels])[0]", "broadcast_tensors", "operands do not broadcast: [2, 16, 8] with"),
    ("x.take_along_dim(x.argmax(-1), 1)", "take_along_dim", "expects indices of rank 3, the operand's, but got [2,"),
    ("x[x.argmax(-1), labels[:, :3]]", "index", "operands do not broadcast: [2, 16] with [2, 3]"),
    ("x[labels, :, labels]", "index", "expects indices of the first dimensions where several index data, but dimension"),
    ("x + torch.sum(labels)", "sum", "adds integers that depend on data, which is supported for truth values alone"),
    ("x + (labels * 3).gather(1, labels)[0, 0]", "gather", "picks among integers that were computed from data, which"),
    (
        "x + torch.arange(2000000).gather(0, torch.arange(2000000) ** 2 % 7)[0]",
        "gather",
        "gathers more than 1 M elements by computed positions, which is unsupported; compute the elements from",
    ),
    ("x.split([3, 4], 1)[0]", "split", "expects pieces of dimension 1 of [2, 16, 8] to add up to it, but got [3, 4]"),
    # Attention.
    ("sdpa(labels, labels, labels)", "scaled_dot_product_attention", "expects floating point [batch, heads, position"),
    (
        "sdpa(x, x[:, :, :4], x)",
        "scaled_dot_product_attention",
        "query [2, 1, 16, 8], key [2, 1, 16, 4] and value [2, 1, 16, 8] do not fit together",
    ),
    (
        "sdpa(x.view([2, 4, 4, 8]), x.view([2, 4, 4, 8])[:, :2], x.view([2, 4, 4, 8])[:, :2])",
        "scaled_dot_product_attention",
        "query has 4 heads and key 2; pass enable_gqa=True or repeat the key's heads",
    ),
    # Products.
    ("torch.matmul(x, x)", "matmul", "expects equal inner dimensions, but got [2, 16, 8] and [2, 16, 8]"),
    ("torch.matmul(x, torch.ones([3, 8, 4]))", "matmul", "batch dimensions do not broadcast: [2, 16, 8] with [3, 8,"),
    ("torch.matmul(x, labels)", "matmul", "expects floating-point operands of one type, but got float32 and int64;"),
    ("linear(x, x[0, :, :7])", "linear", "expects weight [out, in] to fit the input, but got [16, 7] for"),
    ("torch.einsum('ab,bc->ac', [x])", "einsum", "equation ab,bc->ac has 2 terms for 1 operands"),
    ("torch.einsum('ab->a', [x])", "einsum", "equation ab->a does not fit an operand [2, 16, 8]"),
    ("torch.einsum('aab->b', [x])", "einsum", "expects each subscript once in an operand, and of one extent, but got aab"),
    ("torch.einsum('abc->ad', [x])", "einsum", "equation abc->ad has a subscript d in its result that no operand has"),
    # Joining and padding.
    ("torch.cat(torch.jit.annotate(List[Tensor], []), 0)", "cat", "expects at least one tensor as argument tensors"),
    ("torch.cat([x, labels], 1)", "cat", "expects tensors of one rank, but got [2, 16, 8] and [2, 16]"),
    ("torch.cat([x, x[:, :3]], 2)", "cat", "expects equal extents outside dimension 2, but got [2, 16, 8] and [2, 3"),
    ("torch.hstack([x, x[:, :, :3]])", "hstack", "expects equal extents outside dimension 1, but got [2, 16, 8] and ["),
    ("torch.stack([x, x[:, :3]])", "stack", "expects tensors of one shape, but got [2, 16, 8] and [2, 3, 8]"),
    ("pad(x, [1, 1], 'mirror')", "pad", "expects padding mode constant, reflect, replicate or circular, but"),
    ("pad(x, [0, 0, 16, 0], 'reflect')", "pad", "expects at most 15 elements of padding along dimension 1 of [2, 16"),
    ("pad(x, [0, 0, 0, 17], 'circular')", "pad", "expects at most 16 elements of padding along dimension 1 of [2, 16,"),
    # Positions and masks.
    ("torch.index_add(x, 1, labels[0], x[:, :3])", "index_add", "expects a source of shape [2, 16, 8], but got [2, 3"),
    ("torch.index_put(x, no_indices, x)", "index_put", "expects an index or a mask"),
    ("torch.index_put(x, [x > 0], x.flatten())", "index_put", "writes values whose number depends on the mask; use"),
    ("torch.index_put(x, [labels[0] % 2], x)", "index_put", "writes several elements by position, which is"),
    ("torch.tensor_split(x, x.argmax(-1)[0])[0]", "tensor_split", "splits at positions that depend on data; shapes"),
    # Others.
    ("torch.dropout(x, 1.5, True)", "dropout", "expects a dropout probability in [0, 1), but got 1.500000"),
    ("torch.feature_dropout(x, -0.5, True)", "feature_dropout", "expects a dropout probability in [0, 1), but got -0"),
    (
        "torch.batch_norm(x, None, None, None, None, True, 0.1, 1e-5, False)",
        "batch_norm",
        "normalises over the samples of a micro-batch, so that the result depends on the plan; use",
    ),
    ("torch.diff(x, n=2)", "diff", "expects n = 1; take differences of differences"),
    (
        "x + torch.cumsum(torch.arange(5000000), 0)[0]",
        "cumsum",
        "running sum over more than 4 M different numbers is unsupported; make it a parameter",
    ),
    (
        "x * (torch.full([1], 2**52) * torch.full([1], 2**52))",
        "mul",
        "computes an integer of about 2.03e+31 from constants, which are exact up to 2^53 only",
    ),
]

#: What cases may use; `text` is not known to TorchScript.
NAMES = {
    "no_indices: List[Optional[Tensor]]": "[None]",
    "text": "'even' if x.size(1) == 16 else 'odd'",
}


@pytest.mark.parametrize("value,operator,message", CASES)
def test_operators(value, operator, message, tmp_path):
    value = re.sub(r"^(glu|linear|pad)\(", r"torch._C._nn.\1(", value)
    value = value.replace("sdpa", "torch._C._nn.scaled_dot_product_attention")
    lines = [f"{name} = {meaning}" for name, meaning in NAMES.items() if name.split(":")[0] in value]
    check_message(tmp_path, f"aten::{operator}", message, *lines, f"x = {value}")


def test_lists_that_are_written(tmp_path):
    message = "expects a tensor to write to, but got a list or a number; make a new one instead"
    check_message(tmp_path, "aten::add_", message, "sizes = [1]", "sizes += [2]", result="x.sum(sizes)")


def test_constants(tmp_path):
    message = "a constant in the top module: unsupported constant of type ComplexDouble; expects numbers, texts"
    check_refused(tmp_path, message, scripted(tmp_path, "x = torch.real(x * 2j)"), "--batch", 2, "--seq", 16)


def test_long_loops(tmp_path):
    lines = ["n = 0", "while n < 100001:", "    n += 1"]
    expected = "a loop in the top module (<string>:4) runs more than 100000 times, which is unsupported; compute with"
    check_refused(tmp_path, re.escape(expected), scripted(tmp_path, *lines), "--batch", 2, "--seq", 16)


def test_control_flow_by_sizes(tmp_path):
    """What the program knows decides."""
    branch = ["if x.size(1) == 16:", "    x = x * 2.0"]
    loop = ["for i in range(x.size(1) - 14):", "    x = torch.cos(x)"]
    text, _ = imported(scripted(tmp_path, *branch, *loop), 2, 16)
    assert text.count("math.cos") == 2 and text.count("arith.mulf") == 1


def test_modules_without_forward(tmp_path):
    torch.jit.ScriptModule().save(str(tmp_path / "model.pt"))
    message = "the module has no forward method; export it with"
    check_refused(tmp_path, message, tmp_path / "model.pt", "--batch", 2, "--seq", 16)


def test_results_without_a_tensor(tmp_path):
    message = "expects the module to return the mean loss, but it returns no tensor; return the loss alone"
    for result in ("x.size(0)", "(x.mean(), x)"):
        check_refused(tmp_path, message, scripted(tmp_path, result=result), "--batch", 2, "--seq", 16)
