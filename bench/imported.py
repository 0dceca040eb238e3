"""A model of a configuration as galvatron-opt reads it, without weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def import_model(config: dict, batch: int, sequence: int, folder: Path) -> Path:
    """Writes `folder`/model.mlir, of `batch` rows of `sequence` tokens; `config` is a Hugging Face configuration."""
    settings, archive, program = folder / "config.json", folder / "model.pt", folder / "model.mlir"
    settings.write_text(json.dumps(config))
    export = [sys.executable, "-m", "galvatron.export", "--config", str(settings), "--weightless", "-o", str(archive)]
    subprocess.run(export, check=True, capture_output=True)
    options = ["--batch", str(batch), "--seq", str(sequence)]
    subprocess.run(["galvatron-import", str(archive), *options, "-o", str(program)], check=True, capture_output=True)
    return program
