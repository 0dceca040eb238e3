"""A step that was predicted, beside the same step measured: the same entries, and differences that add up."""

from __future__ import annotations

import json

import pytest
from harness import ROOT, call, succeed
from plans import PLANS


def test_a_measured_step_is_compared_with_its_prediction(models, tokens, tmp_path):
    model = models("llama")
    compiled = model.compile("pp2-1f1b", PLANS["pp2-1f1b"])
    predicted, measured, result = (tmp_path / name for name in ("predicted.json", "measured.json", "result.json"))
    plan = compiled.folder / "plan.json"
    succeed("galvatron-opt", f"--plan={plan}", f"--simulate={predicted}", model.program, "-o", tmp_path / "planned.mlir")
    compiled.train(tmp_path / "run", "--steps", 4, "--data", tokens, "--trace", measured, "--trace-steps", "2:4")
    heads = [json.loads(file.read_text())["galvatron"] for file in (predicted, measured)]
    assert heads[0]["plan"] == heads[1]["plan"]
    assert heads[0]["step_seconds"] == compiled.plan["predicted_step_seconds"]
    printed = succeed(
        "python", "-m", "galvatron.report", "--compare", predicted, measured, "-o", tmp_path / "c.html", "--json", result
    ).stdout
    assert "slowest rank: " in printed and "longest wait: " in printed
    compared = json.loads(result.read_text())
    assert compared["steps"] == [2, 3, 4]
    assert {row["stage"] for row in compared["rows"]} == {0, 1}
    assert {"forward", "backward", "update"} <= {row["phase"] for row in compared["rows"]}
    assert {"embedding", "decoder", "head"} <= {row["layer_type"] for row in compared["rows"]}
    total = sum(row["error_seconds"] for row in compared["rows"])
    assert abs(total - compared["error_seconds"]) <= 1e-9 + 1e-6 * abs(compared["error_seconds"])
    assert 'data-source="measured"' in (tmp_path / "c.html").read_text()

    # Every field of an event but its times is the same.
    def entries(file):
        events = [event for event in json.loads(file.read_text())["traceEvents"] if event["ph"] == "X"]
        return {
            (event["pid"], event["tid"], event["name"], event["cat"])
            + tuple(event["args"][key] for key in ("entry", "stage", "unit", "micro_batch", "bytes"))
            for event in events
        }

    assert entries(predicted) == entries(measured)
    other = model.compile("tp2", PLANS["tp2"])
    succeed("galvatron-opt", f"--plan={other.folder / 'plan.json'}", f"--simulate={predicted}", model.program, "-o", tmp_path / "o")
    refused = call("python", "-m", "galvatron.report", "--compare", predicted, measured)
    assert refused.returncode == 1 and "expects traces of one plan" in refused.stderr


@pytest.mark.wide
def test_perfetto_shows_every_span_and_arrow(models, tokens, tmp_path):
    """In its interface, where there is a browser."""
    compiled = models("llama").compile("pp2-1f1b", PLANS["pp2-1f1b"])
    files = [tmp_path / name for name in ("measured.json", "predicted.json")]
    compiled.train(tmp_path / "run", "--steps", 3, "--data", tokens, "--trace", files[0])
    succeed("galvatron-search", "--predict", compiled.folder, f"--simulate={files[1]}")
    shown = call("python", ROOT / "bench/perfetto.py", *files)
    if shown.returncode == 2:
        pytest.skip(shown.stderr)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert shown.stdout.count(": passed\n") == 2 and " 0 arrows" not in shown.stdout
