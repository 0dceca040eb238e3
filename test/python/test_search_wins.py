"""bench/search_wins.py on two layers: a searched plan is as fast as any uniform one that fits, by lowered bytes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from importing import IMPORTER

BENCH = Path(__file__).resolve().parents[2] / "bench"
sys.path.insert(0, str(BENCH))

import search_wins  # noqa: E402

DEVICE = IMPORTER.parent.parent / "lib" / "libgalvatron_cuda.so"


@pytest.mark.skipif(not DEVICE.exists(), reason="plans of GPUs are lowered where CUDA's libraries are")
def test_searched_plans_are_not_slower_than_uniform_ones(tmp_path):
    command = [sys.executable, BENCH / "search_wins.py", "--quick", "-o", tmp_path / "wins"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    rows = json.loads((tmp_path / "wins.json").read_text())["rows"]
    assert len(rows) == 2 and all(row["uniform"] for row in rows)
    assert all(row["searched"]["bytes"] <= row["gib"] * search_wins.GIB for row in rows)


def test_a_faster_uniform_plan_is_a_loss():
    uniform = {"plan": "cp", "ms": 10.0, "bytes": 1}
    assert search_wins.is_lost({"uniform": uniform, "searched": {"ms": 10.1}})
    assert search_wins.is_lost({"uniform": uniform, "searched": {"refused": "no strategy fits"}})
    assert not search_wins.is_lost({"uniform": uniform, "searched": {"ms": 10.0}})
    assert not search_wins.is_lost({"uniform": None, "searched": {"refused": "no strategy fits"}})
