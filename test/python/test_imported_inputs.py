"""test/Inputs/imported, which the tests of the passes read, is what galvatron-import writes today."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT, load_module
from importing import IMPORTER, needs_importer

pytestmark = needs_importer

write_imported = load_module(ROOT / "scripts" / "write_imported.py")


def without_locations(path: Path) -> list[str]:
    """Lines of the program. Where in transformers an op comes from differs between its releases."""
    lines = [re.sub(r" loc\(.*?\)", "", line) for line in path.read_text().splitlines()]
    return [line for line in lines if not line.startswith("#loc")]


@pytest.mark.parametrize("name", write_imported.names())
def test_input_is_what_the_importer_writes(name, tmp_path):
    output = tmp_path / f"{name}.mlir"
    write_imported.write(name, output, str(IMPORTER))
    differs = without_locations(output) != without_locations(write_imported.IMPORTED / output.name)
    assert not differs, f"the importer writes another {name}.mlir; run scripts/write_imported.py {name}"
