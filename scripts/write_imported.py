#!/usr/bin/env python
"""scripts/write_imported.py [NAME]...: writes test/Inputs/imported anew, each <model>-<attention>.mlir what
galvatron-import writes today for that model of test/Inputs/models (all of them, or those named). With the environment
of scripts/env.sh. test/python/test_imported_inputs.py fails where a file is not what this would write.
"""

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from galvatron import export

ROOT = Path(__file__).resolve().parents[1]
IMPORTED = ROOT / "test" / "Inputs" / "imported"
MODELS = ROOT / "test" / "Inputs" / "models"
BATCH, SEQ = 2, 16


def names() -> list[str]:
    return sorted(path.stem for path in IMPORTED.glob("*.mlir"))


def write_archive(model: str, attention: str, archive: Path) -> None:
    """Exports a model, without weights: of a transformers configuration, or of a file of Python with a `Decoder`."""
    config, source = MODELS / f"{model}.json", MODELS / f"{model}.py"
    if config.exists():
        options = ["--config", str(config), "--attn", attention, "--weightless", "-o", str(archive)]
        if export.main(options) != 0:
            raise RuntimeError(f"{model} cannot be exported with attention {attention}")
        return
    specification = importlib.util.spec_from_file_location(model, source)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    with export.weightless():
        decoder = module.Decoder()
    ids = torch.zeros(BATCH, SEQ, dtype=torch.int64)
    export.save(decoder, (ids, ids), archive, weightless=True)


def write(name: str, output: Path, importer: str = "galvatron-import") -> None:
    """Makes `output` the program of <model>-<attention>."""
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "model.pt"
        write_archive(*name.rsplit("-", 1), archive)
        command = [importer, archive, "--batch", BATCH, "--seq", SEQ, "-o", output]
        subprocess.run([str(word) for word in command], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split(":", 1)[1])
    parser.add_argument("name", nargs="*", help="such as llama-sdpa; without any, all")
    for name in parser.parse_args().name or names():
        write(name, IMPORTED / f"{name}.mlir")
        print(IMPORTED / f"{name}.mlir")
    return 0


if __name__ == "__main__":
    sys.exit(main())
