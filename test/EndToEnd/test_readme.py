"""The README's example, as it stands there."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from harness import ROOT, TIMEOUT_SECONDS, environment


def read_example() -> str:
    text = (ROOT / "README.md").read_text()
    return re.search(r"## By hand\n.*?```sh\n(.*?)```", text, re.DOTALL).group(1)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A root of the tree to write into: the example's own files land beside links to what it reads."""
    build = Path(os.environ.get("GALVATRON_BUILD", ROOT / os.environ.get("GALVATRON_BUILD_DIR", "build")))
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "bin").symlink_to(build.resolve() / "bin")
    for name in ("scripts", "python", ".venv"):
        if (ROOT / name).exists():
            (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def test_example(tree):
    example = read_example()
    assert len(example.splitlines()) == 17
    environ = {name: value for name, value in environment().items() if name != "GALVATRON_BUILD_DIR"}
    command = ["bash", "-euc", example]
    done = subprocess.run(command, cwd=tree, env=environ, capture_output=True, text=True, timeout=2 * TIMEOUT_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = (tree / "log.csv").read_text().split()
    assert [row.split(",")[0] for row in rows] == ["step", *map(str, range(1, 5))]
    assert float(rows[-1].split(",")[1]) < float(rows[1].split(",")[1]) - 0.5
    assert re.findall(r"^step (\d+)/6 ", done.stdout, re.MULTILINE)[-1] == "6"
    assert json.loads((tree / "run" / "latest" / "training.json").read_text())["step"] == 4
    plans = [json.loads((tree / "build" / name / "plan.json").read_text()) for name in ("model", "other")]
    assert plans[0]["units"] == plans[1]["units"] and plans[0]["ranks"] == 4
    assert 'data-source="measured"' in (tree / "report.html").read_text()
