"""Tables of options, as pages and as completions in the real shells."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from conftest import ROOT, load_module
from importing import IMPORTER
from shells import Shell

TOOLS = ("opt", "import", "search", "profile", "lsp-server", "reduce", "launch-manual")
BIN = IMPORTER.parent
# What a line becomes, or the words that it offers; files of the folder are a.json and b.json.
COMPLETIONS = {
    "opt": {
        "--compile-to=": {"import", "differentiate", "plan", "shard", "stage", "lower"},
        "--target=cu": "--target=cuda ",
        "--target cu": "--target cuda ",
        "--print-tim": "--print-timetable ",
        "--compile-t": "--compile-to=",
        "--plan=": {"a.json", "b.json"},
        "a": "a.json ",
    },
    "import": {"--labels=": {"same", "next"}, "--weights a": "--weights a.json "},
    "search": {"--cost-model=n": "--cost-model=native ", "--space d": {"dp", "dp+tp", "dp+pp"}, "-o b": "-o b.json "},
    "profile": {"--target=": {"cpu", "cuda"}, "--nvls=of": "--nvls=off ", "--allow": "--allow-busy "},
    "lsp-server": {"--prett": "--pretty "},
    "reduce": {"--reduction-t": "--reduction-tree", "a": "a.json "},
    "launch-manual": {"--on-nan=": {"stop", "skip", "rewind"}, "--launcher s": "--launcher srun ", "--tensorb": "--tensorboard="},
}


def ask(tool: str, *words: str) -> str:
    return subprocess.run([BIN / f"galvatron-{tool}", *words], check=True, capture_output=True, text=True).stdout


def test_the_reference_is_up_to_date():
    assert (ROOT / "docs" / "options.md").read_text() == load_module(ROOT / "scripts" / "write_options.py").text(
        BIN
    ), "run scripts/write_options.py"


@pytest.mark.parametrize("tool", TOOLS)
def test_pages_of_the_manual_are_clean(tool, tmp_path):
    page = tmp_path / f"galvatron-{tool}.1"
    page.write_text(ask(tool, "--manual"))
    said = subprocess.run(["mandoc", "-Tlint", page], capture_output=True, text=True)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
    shown = subprocess.run(["mandoc", "-Tascii", page], capture_output=True, text=True, check=True).stdout
    plain = re.sub(".\b", "", shown)
    for row in re.findall(r"^\| `([^` =\[]+)", ask(tool, "--options-markdown"), re.MULTILINE):
        assert row.rstrip(",") in plain


@pytest.mark.parametrize("tool", ["search", "profile", "import"])
def test_every_row_is_parsed(tool):
    """What stands in a table is no unknown option; that nothing else is parsed is how these tools read a word."""
    rows = re.findall(r"^\| `([^`]+)`", ask(tool, "--options-markdown"), re.MULTILINE)
    assert len(rows) > 5
    for row in rows:
        for flag in re.findall(r"(?:^|, )(--?[\w-]+)", row):
            said = subprocess.run([BIN / f"galvatron-{tool}", flag], capture_output=True, text=True)
            assert "unknown option" not in said.stderr, flag
    said = subprocess.run([BIN / f"galvatron-{tool}", "--no-such"], capture_output=True, text=True)
    assert said.returncode == 1 and "unknown option --no-such" in said.stderr


def test_another_shell_is_refused():
    said = subprocess.run([BIN / "galvatron-opt", "--completion=fish"], capture_output=True, text=True)
    assert said.returncode == 1
    assert "option --completion expects bash or zsh, but got 'fish'" in said.stderr


@pytest.mark.parametrize("name", ["bash", "zsh"])
@pytest.mark.parametrize("tool", TOOLS)
def test_shells_complete(tool, name, tmp_path):
    assert shutil.which(name), f"{name} is not there; scripts/setup.sh installs it"
    for file in ("a.json", "b.json"):
        (tmp_path / file).touch()
    command = "launch" if tool == "launch-manual" else f"galvatron-{tool}"
    shell = Shell(name, tmp_path, ask(tool, f"--completion={name}"))
    try:
        for line, wanted in COMPLETIONS[tool].items():

            def is_there(shown: str, line=line, wanted=wanted) -> bool:
                if isinstance(wanted, str):
                    return f"{command} {wanted}" in shown
                return wanted <= set(shown.split())

            shown = shell.complete(f"{command} {line}", is_there)
            assert is_there(shown), (line, shown)
    finally:
        shell.close()
