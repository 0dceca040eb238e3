"""Measured bodies of a profile price lowered programs and searches, and are told apart from what is estimated."""

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "test/Inputs/llama.mlir"
HARDWARE = ROOT / "test/Search/Inputs/profile.json"
UNITS = ["model.embed_tokens", "model.layers.0", "model.layers.1", "lm_head"]


def run(*command):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def lower(folder, strategy, *options):
    """The folder of all layers under one strategy on two ranks."""
    folder.mkdir()
    plan = {"ranks": 2, "units": [{"path": path, "strategy": strategy} for path in UNITS]}
    (folder / "by-hand.json").write_text(json.dumps(plan))
    run("galvatron-opt", f"--plan={folder}/by-hand.json", "--lower", MODEL, *options, "-o", folder / "out")
    return folder / "out"


def bodies_of(folder):
    """Entries of `layers` for the bodies of a lowered program, all of whose parts take 10 ms."""
    entries = {}
    for body in json.loads((folder / "timetable.json").read_text())["bodies"]:
        if "hash" not in body:
            continue
        strategy = {key: value for key, value in body["strategy"].items() if key not in ("dp", "zero", "recompute")}
        entries[body["hash"]] = {
            "layer_type": body["layer_type"],
            "hash": body["hash"],
            "precision": "fp32",
            "strategy": strategy,
            "samples": body["samples"],
            "seq": 16,
            "forward_seconds": 0.01,
            "backward_seconds": 0.01,
            "weight_seconds": 0,
            "recompute_seconds": 0.01,
            "update_seconds": 0.001,
            "state_bytes": 16 * 1000,
            "saved_bytes": 0,
            "scratch_bytes": 0,
            "measured": True,
        }
    return list(entries.values())


def profile_with(path, layers):
    path.write_text(json.dumps(json.loads(HARDWARE.read_text()) | {"layers": layers}))
    return path


def predicted(folder):
    return json.loads((folder / "plan.json").read_text())["predicted_step_seconds"]


@pytest.fixture(scope="module")
def layers(tmp_path_factory):
    return bodies_of(lower(tmp_path_factory.mktemp("bodies") / "dp", {"dp": 2}))


def test_a_lowered_step_takes_what_its_bodies_took(tmp_path, layers):
    assert sorted(layer["layer_type"] for layer in layers) == ["decoder", "embedding", "head"]
    slower = [layer | {"forward_seconds": 0.013} if layer["layer_type"] == "decoder" else layer for layer in layers]
    before = lower(tmp_path / "a", {"dp": 2}, f"--profile={profile_with(tmp_path / 'a.json', layers)}")
    after = lower(tmp_path / "b", {"dp": 2}, f"--profile={profile_with(tmp_path / 'b.json', slower)}")
    assert 0.08 < predicted(before) < 0.09
    assert predicted(after) - predicted(before) == pytest.approx(2 * 0.003, rel=1e-6)
    # The search's own figure says the same of bodies.
    estimated = [json.loads((each / "plan.json").read_text())["estimated_step_seconds"] for each in (before, after)]
    assert estimated[1] - estimated[0] == pytest.approx(2 * 0.003, rel=1e-6)
    again = json.loads(run("galvatron-search", "--predict", before, "--profile", tmp_path / "b.json"))
    assert again["predicted_step_seconds"] == predicted(after)


@pytest.mark.parametrize("strategy", [{"tp": 2}, {"dp": 2, "recompute": True}], ids=["tp", "recompute"])
def test_so_does_one_with_messages_in_its_bodies_or_recomputation(tmp_path, strategy):
    own = bodies_of(lower(tmp_path / "own", strategy))
    key = "recompute_seconds" if "recompute" in strategy else "backward_seconds"
    slower = [layer | {key: 0.013} if layer["layer_type"] == "decoder" else layer for layer in own]
    figures = []
    for name, layers in (("a", own), ("b", slower)):
        out = lower(tmp_path / name, strategy, f"--profile={profile_with(tmp_path / f'{name}.json', layers)}")
        plan = json.loads((out / "plan.json").read_text())
        figures.append((plan["predicted_step_seconds"], plan["estimated_step_seconds"]))
    for before, after in zip(*figures):
        assert after - before == pytest.approx(2 * 0.003, rel=1e-6)
        # Eight bodies, and recomputation of what has any.
        assert 0.08 < before < 0.09 if key == "backward_seconds" else 0.1 < before < 0.13


def test_what_was_measured_is_told_from_what_was_estimated(tmp_path, layers):
    def reason(name, entries):
        profile = profile_with(tmp_path / f"{name}.json", entries)
        out = lower(tmp_path / name, {"dp": 2}, f"--profile={profile}")
        return json.loads((out / "plan.json").read_text())["reasons"]["profile"]

    whole = reason("whole", layers)
    assert whole["measured_share"] > 0.95
    assert not [line for line in whole["estimated"] if "kernel by kernel" in line], whole
    other = [layer | {"hash": "0" * 16} if layer["layer_type"] == "decoder" else layer for layer in layers]
    changed = reason("changed", other)
    assert changed["measured_share"] < whole["measured_share"]
    assert any("of 'decoder'" in line and "is not what was measured (hash)" in line for line in changed["estimated"])
    beyond = reason("beyond", [layer | {"samples": 1} for layer in layers])
    assert any("beyond what was measured" in line for line in beyond["estimated"])


def test_a_search_takes_the_bodies_that_were_fast(tmp_path, layers):
    fast = [layer | {"forward_seconds": 1e-4, "backward_seconds": 1e-4} for layer in bodies_of(lower(tmp_path / "tp", {"tp": 2}))]
    profile = profile_with(tmp_path / "both.json", layers + fast)
    run("galvatron-opt", "--search", "--lower", MODEL, f"--profile={profile}", "-o", tmp_path / "found")
    plan = json.loads((tmp_path / "found/plan.json").read_text())
    decoders = [unit["strategy"]["tp"] for unit in plan["units"] if unit["layer_type"] == "decoder"]
    assert decoders == [2, 2], plan["units"]


def test_a_host_and_a_processor_that_are_others_are_named(tmp_path, layers):
    profile = profile_with(tmp_path / "p.json", layers)
    command = ["galvatron-opt", "--search", "--compile-to=plan", str(MODEL), f"--profile={profile}", "-o", str(tmp_path / "p.mlir")]
    said = subprocess.run(command, capture_output=True, text=True).stderr
    assert "it was taken with device 'epyc', but here it is '" in said and "what it predicts holds there" in said
