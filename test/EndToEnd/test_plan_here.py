"""From a machine to a plan, and what came of it: scripts/plan-here.sh, bench/regret.py and bench/truth.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import harness
import pytest

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / "test/Search/Inputs/profile.json"


def call(*command):
    return harness.call(*command, cwd=ROOT)


def succeed(*command):
    return harness.succeed(*command, cwd=ROOT).stdout


def test_listed_plans_are_run_in_turn(models, tmp_path):
    model = models("llama").program
    command = [sys.executable, "bench/regret.py", model, "--profile", PROFILE, "--plans", 2, "--vocabulary", 32]
    succeed(*command, "--prepare", tmp_path / "work")
    assert (tmp_path / "work/01/launch").exists() and (tmp_path / "work/02/launch").exists()
    succeed(*command, "--prepared", tmp_path / "work", "--rounds", 1, "--steps", 1, "-o", tmp_path / "regret")
    result = json.loads((tmp_path / "regret.json").read_text())
    assert [row["plan"] for row in result["rows"]] == ["01", "02"]
    assert result["summary"]["regret"] >= 0 and -1 <= result["summary"]["rank_correlation"] <= 1
    assert all(len(row["rounds"]) == 1 and row["measured_step_seconds"] > 0 for row in result["rows"])
    assert "# Regret: " in (tmp_path / "regret.md").read_text()


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ([], "expects MODEL: config.json, model.pt or model.mlir; --help tells the rest"),
        (["none.mlir"], "cannot read the model 'none.mlir'; give a config.json, model.pt or model.mlir"),
        (["README.md"], "expects a config.json, model.pt or model.mlir, but got 'README.md'"),
        (["--target=abacus", "test/Inputs/llama.mlir"], "expects --target cpu or cuda, but got 'abacus'"),
        (["a.mlir", "b.mlir"], "expects one MODEL, but got 'a.mlir' and 'b.mlir'"),
        (["--fast", "a.mlir"], "unknown option --fast; --help tells which there are"),
        (["a.mlir", "--memory"], "expects a value after --memory; --help tells the rest"),
    ],
)
def test_plan_here_says_what_is_wrong(arguments, complaint):
    result = call("scripts/plan-here.sh", *arguments)
    assert result.returncode == 1 and f"plan-here: error: {complaint}" in result.stderr


def test_plan_here_has_a_help():
    assert "--global-batch N" in succeed("scripts/plan-here.sh", "--help")


@pytest.mark.wide
def test_from_a_machine_to_a_plan(tmp_path):
    options = ["--ranks", "2", "--global-batch=8", "--memory", "1GiB", "--time-limit", "40", "--allow-busy", "-o", tmp_path]
    said = succeed("scripts/plan-here.sh", "test/Inputs/llama.mlir", *options)
    assert said.splitlines()[-1].startswith("machine to plan in ") and said.endswith(" s\n")
    plan = json.loads((tmp_path / "lowered/plan.json").read_text())
    assert plan["ranks"] == 2 and plan["reasons"]["profile"]["measured_share"] > 0.5
    assert json.loads((tmp_path / "profile/profile.json").read_text())["layers"]


@pytest.mark.wide
def test_predictions_are_written_before_anything_runs(tmp_path):
    succeed(sys.executable, "bench/truth.py", "--prepare", tmp_path / "truth")
    cases = json.loads((tmp_path / "truth/cases.json").read_text())
    assert len(cases) >= 12 and {case["precision"] for case in cases} == {"fp32", "bf16"}
    command = [sys.executable, "bench/truth.py", "--run", tmp_path / "truth", "--profile", PROFILE]
    succeed(*command, "--only", "quickstart-dp2-fp32", "--steps", 1, "--causes", "-o", tmp_path / "result")
    result = json.loads((tmp_path / "result.json").read_text())
    predictions = json.loads((tmp_path / "truth/predictions.json").read_text())
    assert [row["case"] for row in result["rows"]] == [row["case"] for row in predictions["rows"]]
    assert all(row["causes"] for row in result["rows"])
