"""docs/walk.md stays true: its commands run, print what it quotes, and its files have the functions that it names."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

PAGE = (ROOT / "docs" / "walk.md").read_text()
STOPS = re.split(r"^## (?=\d+\. )", PAGE, flags=re.MULTILINE)
COMMANDS = re.compile(r"```sh\n(.*?)```(?:\n```\w+\n(.*?)```)?", re.DOTALL)
FILE = re.compile(r"`((?:\w+/)+[\w.]+\.\w+)`")
FUNCTION = re.compile(r"`((?:\w+/)+\w+\.(?:cpp|py))`, `(\w+)`|`(\w+)` in `((?:\w+/)+\w+\.(?:cpp|py))`")
LEFT_OUT = "…"


def named_functions(text: str) -> list[tuple[str, str]]:
    """(file, function) of each pair that the text names."""
    return [(match[1] or match[4], match[2] or match[3]) for match in FUNCTION.finditer(text)]


def defines(source: str, function: str) -> bool:
    """Whether a Python or C++ text defines the function: a type, perhaps a class, the name, and no semicolon."""
    pattern = rf"^ *(?:def |(?! |return\b|else\b)[\w:<>,*& ]*[\w>*&] [*&]?(?:\w+::)*){function}\([^;]*$"
    return re.search(pattern, source, re.MULTILINE) is not None


def matches(quote: str, line: str) -> bool:
    """Whether the pieces of the quote stand in the line in order, its ends at the line's own unless `…` says otherwise.

    Runs of spaces, which align columns, count as one.
    """
    pieces = [re.escape(" ".join(piece.split())) for piece in quote.split(LEFT_OUT)]
    return re.fullmatch(".*".join(pieces), " ".join(line.split())) is not None


def first_missing(quotes: str, printed: str) -> str | None:
    """The first quoted line that no printed line matches after those of the quotes before it."""
    lines = iter(printed.splitlines())
    return next((quote for quote in quotes.splitlines() if not any(matches(quote, line) for line in lines)), None)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A root of the tree whose build folder has only the tools, so that the walk begins from nothing."""
    build = ROOT / os.environ.get("GALVATRON_BUILD_DIR", "build")
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "bin").symlink_to(build.resolve() / "bin")
    for name in ("scripts", "python", "test", ".venv"):
        if (ROOT / name).exists():
            (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def test_commands_print_the_quotes(tree):
    environ = {name: value for name, value in os.environ.items() if name != "GALVATRON_BUILD_DIR"}
    for commands, quotes in COMMANDS.findall(PAGE):
        script = ["bash", "-euo", "pipefail", "-c", f". scripts/env.sh\n{commands}"]
        done = subprocess.run(script, cwd=tree, env=environ, capture_output=True, text=True, errors="replace", timeout=300)
        assert done.returncode == 0, commands + done.stdout + done.stderr
        missing = first_missing(quotes, done.stdout)
        assert missing is None, f"{commands}does not print, in this order:\n{missing}\nbut:\n{done.stdout}"


def test_ten_stops_each_with_a_function_a_command_and_a_quote():
    assert [re.match(r"\d+", stop)[0] for stop in STOPS[1:]] == [str(number) for number in range(1, 11)]
    for stop in STOPS[1:]:
        assert named_functions(stop) and all(quotes for _, quotes in COMMANDS.findall(stop)), stop
    assert len(PAGE.splitlines()) <= 150


def test_named_files_have_the_named_functions():
    assert [file for file in FILE.findall(PAGE) if not (ROOT / file).exists()] == []
    found = named_functions(PAGE)
    assert len(found) > 10
    assert [pair for pair in found if not defines((ROOT / pair[0]).read_text(), pair[1])] == []


@pytest.mark.parametrize(
    "quote, line, expected",
    [
        ("%0 = a … -> b", "  %0 =   a : x -> b", True),
        ("%0 = a … -> b", "%0 = a -> b : c", False),
        ("= a …", "%0 = a : x", False),
        ("… x … a …", "%0 = a, x", False),
    ],
)
def test_pieces_of_a_quote(quote, line, expected):
    assert matches(quote, line) is expected


def test_quotes_stand_in_order():
    assert first_missing("a\nb", "a\nx\nb\n") is None
    assert first_missing("b\na", "a\nx\nb\n") == "a"


def test_a_call_or_a_declaration_is_no_definition():
    assert defines("static Value makeValue(Type type,\n                Location loc) {", "makeValue")
    assert defines("  FailureOr<Value> Maker::makeValue(Type type) {\n", "makeValue")
    assert not defines("  return makeValue(type,\n    loc);", "makeValue")
    assert not defines("  Value value = makeValue(type);\n  Value makeValue(Type type);\n", "makeValue")
