"""Paths and the small fixtures that several Python tests share."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy
import pytest

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "test" / "Inputs" / "models"
sys.path.insert(0, str(ROOT / "python"))

import torch  # noqa: E402  (the package's path comes first)

torch.set_num_threads(1)


def load_module(path: Path):
    """A Python file as a module, wherever it lies."""
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def handwritten():
    return load_module(MODELS / "handwritten.py")


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """3000 bytes with structure to learn, from a fixed seed."""
    generator = numpy.random.default_rng(7)
    words = [generator.integers(0, 256, 5) for _ in range(12)]
    text = numpy.concatenate([words[i] for i in generator.integers(0, 12, 600)])
    path = tmp_path / "tokens.bin"
    path.write_bytes(text.astype(numpy.uint8).tobytes())
    return path


@pytest.fixture
def example() -> tuple[torch.Tensor, torch.Tensor]:
    """(input_ids, labels), int64 [2, 16]."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(0, 256, (2, 16), generator=generator)
    return ids, ids.clone()
