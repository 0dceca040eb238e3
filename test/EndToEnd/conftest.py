"""Models that are exported and imported once for the whole session, and PyTorch's runs of them."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import harness  # noqa: E402  (this folder's path comes first)
import torch  # noqa: E402
from harness import ADAMW, STEPS, Model, Run, config_of  # noqa: E402

torch.set_num_threads(1)

CONFIGS = {
    "gpt2": lambda: config_of("gpt2"),
    "gpt2_untied": lambda: config_of("gpt2", tie_word_embeddings=False),
    "llama": lambda: config_of("llama"),
    "llama_tied": lambda: config_of("llama_tied"),
    "gpt2_dropout": lambda: config_of("gpt2_dropout", n_layer=3),
}


def pytest_addoption(parser):
    parser.addoption("--wide", action="store_true", help="run the tests marked wide too: more plans, models and seeds")


def pytest_configure(config):
    config.addinivalue_line("markers", "wide: more of what other tests of its file do; runs with --wide alone")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--wide"):
        wide = [item for item in items if item.get_closest_marker("wide")]
        config.hook.pytest_deselected(items=wide)
        items[:] = [item for item in items if item not in wide]


@pytest.fixture(scope="session", autouse=True)
def tools():
    path = harness.environment()["PATH"]
    for tool in ("galvatron-opt", "galvatron-import", "mpirun"):
        if not shutil.which(tool, path=path):
            pytest.exit(f"{tool} is not on PATH; source scripts/env.sh, or set GALVATRON_BUILD", 4)
    os.environ["PATH"] = path


@pytest.fixture(scope="session")
def work(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def tokens(work: Path) -> Path:
    """4000 bytes with structure to learn, from a fixed seed."""
    generator = numpy.random.default_rng(7)
    words = [generator.integers(0, 256, 5) for _ in range(12)]
    text = numpy.concatenate([words[i] for i in generator.integers(0, 12, 800)])
    path = work / "tokens.bin"
    path.write_bytes(text.astype(numpy.uint8).tobytes())
    return path


@pytest.fixture(scope="session")
def models(work: Path):
    """Model by name, made when first asked for."""
    made: dict[str, Model] = {}

    def get(name: str, *options: str) -> Model:
        key = name + "".join(options)
        if key not in made:
            made[key] = Model(name, CONFIGS[name](), work / key, *options)
        return made[key]

    return get


@pytest.fixture(scope="session")
def pytorch(tokens: Path):
    """Trains a model in PyTorch, in this process, with the stage binaries' options."""
    from galvatron import reference

    def train(model: Model, folder: Path, *options) -> Run:
        folder.mkdir()
        words = [model.archive, "--data", tokens, "--batch", model.batch, "--seq", model.seq, "--quiet"]
        words += ["--log", folder / "log.csv", "--dump-gradients", folder / "gradients", "--dump-steps", 1]
        assert reference.main([str(word) for word in [*words, *options]]) == 0
        return Run(folder, "")

    return train


@pytest.fixture(scope="session")
def reference(models, pytorch):
    """PyTorch's run of a model with the same options, made when first asked for."""
    made: dict[tuple, Run] = {}

    def get(name: str, *options: str) -> Run:
        if (name, options) not in made:
            model = models(name)
            made[name, options] = pytorch(model, model.folder / f"pytorch-{len(made)}", "--steps", STEPS, *options)
        return made[name, options]

    return get


@pytest.fixture(scope="session")
def trained(work, pytorch):
    """Each model with PyTorch's run of `ADAMW`, made when first asked for."""
    made: dict[str, tuple[Model, Run]] = {}

    def get(name: str) -> tuple[Model, Run]:
        if name not in made:
            model = Model(name, config_of(name), work / f"trained-{name}")
            made[name] = model, pytorch(model, model.folder / "pytorch", *ADAMW)
        return made[name]

    return get
