"""docs/plans.md: its plans compile, and no key that is read is missing there."""

from __future__ import annotations

import json
import re

import pytest
from harness import ROOT, call, load_module, succeed

PROGRAM = ROOT / "test" / "Inputs" / "llama.mlir"
DOCUMENT = (ROOT / "docs" / "plans.md").read_text()
PLANS = re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.mark.parametrize("number", range(len(PLANS)))
def test_plan_compiles(number, tmp_path):
    file = tmp_path / "plan.json"
    file.write_text(PLANS[number])
    plan = json.loads(PLANS[number])
    program = succeed("galvatron-opt", f"--plan={file}", "--compile-to=plan", PROGRAM).stdout
    stages = plan.get("pp_deg", 1 + max(unit.get("stage", 0) for unit in plan.get("units", [{}])))
    ranks = plan.get("ranks", plan.get("world_size"))
    micro_batches = plan.get("micro_batches", plan.get("chunks", 1))
    shape = re.search(r"#plan\.pipeline<stages = (\d+), devices = (\d+), micro_batches = (\d+)", program)
    assert [int(number) for number in shape.groups()] == [stages, ranks // stages, micro_batches]


def test_gallery_is_what_its_commands_print():
    collectives = load_module(ROOT / "scripts" / "collectives.py")
    gallery = DOCUMENT[DOCUMENT.index("## Gallery") :]
    assert len(collectives.GALLERY.findall(gallery)) == gallery.count("\n### ") >= 6
    found = collectives.updated(gallery.replace("test/Inputs", str(ROOT / "test" / "Inputs")))
    expected = gallery.replace("test/Inputs", str(ROOT / "test" / "Inputs"))
    assert found == expected, "scripts/collectives.py --update docs/plans.md writes what the commands print now"


def test_collectives_of_a_plan_by_its_command(tmp_path):
    """As a user calls it; the groups of a mesh that is not in the order of its sizes."""
    (tmp_path / "plan.json").write_text('{"ranks": 6, "global_batch": 6, "mesh": [3, 2], "units": ['
        '{"path": "embedding"}, {"path": "layers.0", "strategy": {"tp": 2}}, {"path": "layers.1"}, {"path": "head"}]}')  # fmt: skip
    program = ROOT / "test" / "Inputs" / "sixths_ignored.mlir"
    printed = succeed("python3", ROOT / "scripts" / "collectives.py", tmp_path / "plan.json", program).stdout
    assert "axes 0: ranks {0 2 4} {1 3 5}\n" in printed and "axes 1: ranks {0 1} {2 3} {4 5}\n" in printed
    assert "  decoder.dp3tp2 forward: 2 all_reduce over axes 1\n" in printed


def test_every_key_is_told():
    sources = [(ROOT / "lib" / "Search" / "Formats" / name).read_text() for name in ("PlanFile.cpp", "ReferencePlan.cpp")]
    reading = r'(?:reader\.(?:integer|text|flag|number|member|toggle|has)|(?:degree|readList|readBytesPerRank)\(reader|degreeOf)[(,]\s*"(\w+)"'
    keys = {key for source in sources for key in re.findall(reading, source)}
    table = (ROOT / "dialects/Plan/Strategy.def").read_text()
    keys.update(re.findall(r'^STRATEGY_[A-Z]+\(\w+, \w+, "(\w+)"', table, re.MULTILINE))
    assert len(keys) > 30
    assert sorted(key for key in keys if f"`{key}`" not in DOCUMENT) == []


def test_units_of_a_searched_plan_are_taken_by_role_and_number(tmp_path):
    config = {"vocab_size": 256, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model, file = tmp_path / "config.json", tmp_path / "plan.json"
    model.write_text(json.dumps(config | {"model_type": "llama", "intermediate_size": 128}))
    succeed("galvatron-search", "--model", model, "--seq", 16, "--global-batch", 8, "--ranks", 4, "--memory", "1GiB",
            "--space", "supported", "--quiet", "-o", file)  # fmt: skip
    units = [unit["path"] for unit in json.loads(file.read_text())["units"]]
    assert units == ["embedding", "layers.0", "layers.1", "head"]
    program = succeed("galvatron-opt", f"--plan={file}", "--compile-to=plan", PROGRAM).stdout
    assert program.count("plan.strategy = ") == 4


@pytest.mark.parametrize(
    "path, complaint",
    [
        ("model.layer.1", "a layer 'model.layer.1' that the model does not have; remove it, or did you mean 'model.layers.1'"),
        ("layers.2", "a layer 'layers.2', but the model has 2 layers of role 'layer', layers.0 to layers.1"),
        ("layers.0", "lists the layer 'model.layers.0' twice, as 'model.layers.0' and as 'layers.0'"),
        ("backbone", "a layer 'backbone' that the model does not have; remove it: the model's first layer is 'model.embed_tokens'"),
    ],
)
def test_a_wrong_unit_is_named(path, complaint, tmp_path):
    units = ["model.embed_tokens", "model.layers.0", path, "lm_head"]
    file = tmp_path / "plan.json"
    file.write_text(json.dumps({"ranks": 1, "units": [{"path": unit} for unit in units]}))
    done = call("galvatron-opt", f"--plan={file}", "--compile-to=plan", PROGRAM)
    assert done.returncode == 1 and done.stdout == "" and complaint in done.stderr
