"""A few dozen random modules equal PyTorch, or are refused by name; `python test/Random/run.py` tries as many as asked."""

from __future__ import annotations

import sys

import pytest
from harness import ROOT

sys.path.insert(0, str(ROOT / "test" / "Random"))

from check import check  # noqa: E402

SEEDS = range(24)


@pytest.mark.parametrize("seed", SEEDS)
def test_equals_pytorch(seed, tmp_path):
    binary = seed % 6 == 0
    result, features = check(seed, tmp_path / "module", plans=1, binary=binary, groups=frozenset())
    assert not result.is_finding, f"{result.verdict} ({result.where}): {result.detail}\nof {' '.join(features)}"
