"""Steps that are not finite in compiled models: what is put back includes ZeRO's pieces and bf16 copies.

The rules themselves are tried by test/Runtime/on_nan_test.py. Here a row of the embedding is NaN, and one batch reads it.
"""

from __future__ import annotations

import json

import numpy
import pytest
from harness import BATCH, SEQ, Compiled, succeed
from plans import PLANS

BAD = 255
OPTIONS = ("--quiet", "--lr", "3e-3", "--clip-grad", "1", "--weight-decay", "0.1")


@pytest.fixture(scope="module", params=["zero3-bf16", pytest.param("tp2-pp2", marks=pytest.mark.wide)])
def stages(request, models):
    model = models("llama")
    if request.param == "tp2-pp2":
        return model.compile("tp2-pp2", PLANS["tp2-pp2"])
    plan = PLANS["dp2"].plan(model.units, model.batch)
    for unit in plan["units"]:
        unit["strategy"]["zero"] = 3
    file, output = model.folder / "on-nan.json", model.folder / "out-on-nan"
    file.write_text(json.dumps(plan))
    succeed("galvatron-opt", f"--plan={file}", "--lower", model.program, "--precision=bf16", "-o", output)
    return Compiled(output)


@pytest.fixture(scope="module")
def weights(stages, tmp_path_factory):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(stages.folder / "model.safetensors")
    tensors["model.embed_tokens.weight"][BAD] = float("nan")
    file = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_file(tensors, file)
    return file


def batches(folder, chosen, bad=None):
    """A file of these batches, one of which reads the bad row."""
    values = numpy.random.default_rng(3).integers(0, 200, (9, BATCH * SEQ)).astype(numpy.uint8)
    if bad is not None:
        values[bad, SEQ + 3] = BAD
    path = folder / f"batches-{len(chosen)}-{bad}.bin"
    path.write_bytes(values[chosen].tobytes())
    return path


def train(stages, folder, *options):
    result = stages.launch(*OPTIONS, "--log", folder / "log.csv", "--save", folder / "saved", *options)
    assert result.returncode == 0, result.stderr
    rows = [line.split(",")[:4] for line in (folder / "log.csv").read_text().splitlines()]
    files = [(folder / "saved" / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors")]
    return rows, files, result.stderr


def test_rewind_and_skip(stages, weights, tmp_path):
    folders = [tmp_path / name for name in ("expected", "rewound", "skipped", "continued")]
    for folder in folders:
        folder.mkdir()
    expected, rewound, skipped, continued = folders
    begin = ("--weights", weights)
    good = train(stages, expected, *begin, "--steps", 4, "--data", batches(expected, range(3, 9)))
    data = batches(tmp_path, range(9), bad=2)
    found = train(stages, rewound, *begin, "--steps", 4, "--data", data, "--on-nan", "rewind")
    assert found[:2] == good[:2]
    assert "warning: step 3: " in found[2] and "; back to step 0, the start of this run; " in found[2]
    assert "weights.safetensors: the parameter model.embed_tokens.weight is not finite" in found[2]
    whole = train(stages, skipped, *begin, "--steps", 5, "--data", data, "--on-nan", "skip")
    assert [row[1] == "nan" for row in whole[0][1:]] == [False, False, True, False, False]
    train(stages, continued, *begin, "--steps", 3, "--data", data, "--on-nan", "skip")
    load = ("--load", continued / "saved")
    assert train(stages, continued, *load, "--steps", 5, "--data", data, "--on-nan", "skip")[:2] == whole[:2]
