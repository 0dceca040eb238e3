"""What Python computes from the example: of its sizes it is checked at import, of its tokens refused."""

from __future__ import annotations

import json
import math
import random
import re
import warnings

import numpy
import pytest
import torch
from conftest import MODELS
from small_module import Small, tokens
from importing import check_equal, check_refused, needs_importer, run_importer
from torch import nn

from galvatron import archive, export
from galvatron.errors import GalvatronError, GalvatronWarning



def exported(tmp_path, module, batch=2, seq=16):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GalvatronWarning)
        export.save(module, (tokens(batch, seq), tokens(batch, seq)), tmp_path / "model.pt")
    return tmp_path / "model.pt"


def scaled_when_long(module, x, ids):
    return x * 0.1 if ids.shape[1] > 32 else x


def scaled_by_length(module, x, ids):
    return x * math.sqrt(ids.shape[1])


def scaled_by_batch(module, x, ids):
    return x * (1 + len(ids))


def with_ones(module, x, ids):
    return x + torch.ones(16, 1)


# The middle, sizes that import, sizes that do not (the first that is tried is the example's batch 2, seq 16).
SIZES = [
    (scaled_when_long, [(2, 32), (8, 16), (1, 5)], [(2, 33), (8, 64)]),
    (scaled_by_length, [(8, 16)], [(2, 17)]),
    (scaled_by_batch, [(2, 64)], [(3, 16)]),
    (with_ones, [(8, 16)], [(2, 64)]),
    (lambda m, x, ids: x * int(ids.shape[1]), [(8, 16)], [(2, 64)]),
    (lambda m, x, ids: x * x.shape.numel(), [], [(2, 64), (3, 16)]),
    (lambda m, x, ids: x * sum(1 for _ in range(ids.size(1))), [(8, 16)], [(2, 64)]),
    (lambda m, x, ids: x * float(numpy.sqrt(numpy.array(ids.shape[1]))), [(8, 16)], [(2, 64)]),
    (lambda m, x, ids: x * sum(torch.arange(ids.shape[1]).tolist()), [], [(2, 64)]),
    (lambda m, x, ids: x * 2 if ids.shape[1] % 16 == 0 else x, [(2, 48)], [(2, 24)]),
    (lambda m, x, ids: x if ids.shape == (2, 16) else x * 2, [], [(2, 64), (3, 16)]),
    (lambda m, x, ids: x * (2 if ids.numel() > 100 else 1), [(2, 50)], [(2, 51), (8, 16)]),
    # Expressed by the size.
    (lambda m, x, ids: x * torch.tensor(ids.shape[1]), [(2, 64), (1, 24)], []),
    (lambda m, x, ids: x * ids.shape[1] ** 0.5, [(2, 64), (1, 24)], []),
]


@needs_importer
@pytest.mark.parametrize("middle,right,wrong", SIZES)
def test_python_values_of_sizes(middle, right, wrong, tmp_path):
    module = Small(middle)
    path = exported(tmp_path, module)
    for batch, seq in ((2, 16), *right):
        check_equal_to_module(module, path, batch, seq)
    for batch, seq in wrong:
        message = r"the top module \(test_export_sizes.py:\d+\).*export an example of the sizes? to import"
        check_refused(tmp_path, message, path, "--batch", batch, "--seq", seq)


def check_equal_to_module(module, path, batch, seq):
    """check_equal compares with the archive, which has to be the module at these sizes as well."""
    check_equal(path, batch, seq)
    loaded, _ = archive.load(path)
    ids = tokens(batch, seq)
    torch.testing.assert_close(loaded(ids, ids), module(ids, ids), rtol=1e-6, atol=0)


@needs_importer
def test_a_batch_that_python_used_is_no_other_later(tmp_path):
    path = exported(tmp_path, Small(lambda m, x, ids: x * 2 if ids.shape[0] > 4 else x))
    done = run_importer(path, "--batch", 3, "-o", tmp_path / "model.mlir")
    assert done.returncode == 0
    assert 'graph.batch_held_by = "the top module (test_export_sizes.py:' in (tmp_path / "model.mlir").read_text()
    path = exported(tmp_path, Small(scaled_when_long))
    assert run_importer(path, "--batch", 3, "-o", tmp_path / "model.mlir").returncode == 0
    assert "batch_held_by" not in (tmp_path / "model.mlir").read_text()


@needs_importer
def test_transformers_branches_for_one_sample_change_nothing(tmp_path):
    """`position_ids.expand` unless the batch is 1."""
    path = tmp_path / "model.pt"
    assert export.main(["--config", str(MODELS / "llama.json"), "-o", str(path)]) == 0
    _, description = archive.load(path)
    assert description["bounds"] == []
    check_equal(path, 1, 24)
    assert "batch_held_by" not in path.with_suffix(".mlir").read_text()


DYNAMIC = {"rope_type": "dynamic", "factor": 8.0, "rope_theta": 10000.0}


@needs_importer
def test_a_rope_that_grows_with_the_length(tmp_path):
    config = json.loads((MODELS / "llama.json").read_text())
    config |= {"max_position_embeddings": 32, "rope_parameters": DYNAMIC, "num_hidden_layers": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    path = tmp_path / "model.pt"
    assert export.main(["--config", str(tmp_path), "-o", str(path)]) == 0
    check_equal(path, 2, 31)
    message = r"model.rotary_emb \(modeling_rope_utils.py:\d+\) computes in Python.*--seq 64, not .*\); pass those, or"
    check_refused(tmp_path, message, path, "--seq", 64)
    # As the message advises.
    assert export.main(["--config", str(tmp_path), "-o", str(path), "--seq", "64"]) == 0
    check_equal(path, 2, 64)
    check_refused(tmp_path, "computes in Python", path, "--seq", 31)


def negated_by_mean(module, x, ids):
    return -x if ids.float().mean() > 7 else x


def mean_of_random(module, x, ids):
    return x * 0.5 if random.random() < 0.5 else x


REFUSED = [
    (negated_by_mean, "takes a Python value from tokens or weights (bool)"),
    (lambda m, x, ids: x * x.max().item(), "takes a Python value from tokens or weights (item)"),
    (lambda m, x, ids: x * float(m.linear.bias[0]), "takes a Python value from tokens or weights (float)"),
    (lambda m, x, ids: x * torch.tensor([x.max(), 1.0])[0], "takes a Python value from tokens or weights (tensor)"),
    (lambda m, x, ids: x * torch.from_numpy(ids.numpy() % 3)[..., None], "tokens or weights (numpy)"),
    (lambda m, x, ids: x * len(set(ids.flatten().tolist())), "tokens or weights (tolist)"),
    (lambda m, x, ids: x * 2 if torch.equal(ids, ids.flip(0)) else x, "tokens or weights (equal)"),
    (lambda m, x, ids: x * 2 if 5 in ids else x, "tokens or weights (contains)"),
    (mean_of_random, "draws random numbers in Python"),
    (lambda m, x, ids: x * 0.5 if torch.rand(()) < 0.5 else x, "decides by a random number"),
]


@pytest.mark.parametrize("middle,message", REFUSED)
def test_python_values_of_data(middle, message, tmp_path):
    with pytest.raises(GalvatronError) as caught:
        exported(tmp_path, Small(middle))
    assert message in str(caught.value) and re.search(r"\(test_export_sizes.py:\d+\)", str(caught.value))
    assert list(tmp_path.iterdir()) == []


def test_the_weights_of_a_weightless_module_are_no_python_values_either(tmp_path):
    ids = tokens()
    with pytest.raises(GalvatronError, match="takes a Python value from tokens or weights"):
        module = Small(lambda m, x, ids: x * float(m.linear.bias[0]))
        export.save(module, (ids, ids), tmp_path / "m.pt", weightless=True, init_std=0.02)


def test_the_users_lines_are_told(tmp_path):
    ids = tokens()
    with pytest.warns(GalvatronWarning, match=r"test_export_sizes.py:\d+\) computes in Python with the sizes"):
        export.save(Small(scaled_when_long), (ids, ids), tmp_path / "m.pt")
    with pytest.warns(GalvatronWarning, match=r"takes --seq 16 only: .*test_export_sizes.py:\d+"):
        export.save(Small(with_ones), (ids, ids), tmp_path / "m.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error", GalvatronWarning)
        export.save(Small(), (ids, ids), tmp_path / "m.pt")


@needs_importer
def test_archives_of_another_version(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "FORMAT_VERSION", 1)
    path = exported(tmp_path, Small())
    check_refused(tmp_path, "format version 1, but this importer reads 2; export again", path)


def test_a_module_of_multiples_only(tmp_path):
    """Primes do not fit, twice the example does."""

    class Chunked(nn.Module):
        def forward(self, x):
            return x.view(x.shape[0], -1, 8, x.shape[2]).flatten(1, 2)

    module = Small(lambda m, x, ids: m.chunked(x))
    module.chunked = Chunked()
    _, description = archive.load(exported(tmp_path, module))
    assert description["bounds"] == []
