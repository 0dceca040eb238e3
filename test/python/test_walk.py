"""docs/walk.md and docs/adding-a-parallelism.md stay true: their commands run, print what is quoted, and the files have the
functions that are named."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

PAGES = {name: (ROOT / "docs" / f"{name}.md").read_text() for name in ("walk", "adding-a-parallelism")}
PAGE = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
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
    for name in ("scripts", "python", "test", ".venv", "dialects", "runtime"):
        if (ROOT / name).exists():
            (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@PAGE
def test_commands_print_the_quotes(page, tree):
    environ = {name: value for name, value in os.environ.items() if name != "GALVATRON_BUILD_DIR"}
    for commands, quotes in COMMANDS.findall(page):
        script = ["bash", "-euo", "pipefail", "-c", f". scripts/env.sh\n{commands}"]
        done = subprocess.run(script, cwd=tree, env=environ, capture_output=True, text=True, errors="replace", timeout=300)
        assert done.returncode == 0, commands + done.stdout + done.stderr
        missing = first_missing(quotes, done.stdout)
        assert missing is None, f"{commands}does not print, in this order:\n{missing}\nbut:\n{done.stdout}"


@PAGE
def test_ten_stops(page):
    stops = re.split(r"^## (?=\d+\. )", page, flags=re.MULTILINE)[1:]
    assert [re.match(r"\d+", stop)[0] for stop in stops] == [str(number) for number in range(1, 11)]
    for stop in stops:
        assert all(quotes for _, quotes in COMMANDS.findall(stop)), stop


def test_each_stop_of_the_walk_has_a_function_and_a_command():
    for stop in re.split(r"^## (?=\d+\. )", PAGES["walk"], flags=re.MULTILINE)[1:]:
        assert named_functions(stop) and COMMANDS.findall(stop), stop
    assert len(PAGES["walk"].splitlines()) <= 150


def test_named_tests_are_there():
    named = re.findall(r"`(\w+Test)\.(\w+)`", PAGES["adding-a-parallelism"])
    sources = [file.read_text() for file in (ROOT / "test" / "unit").rglob("*Test.cpp")]
    assert len(named) > 15
    assert [pair for pair in named if not any(f"TEST_F({pair[0]}, {pair[1]})" in source for source in sources)] == []


@PAGE
def test_named_files_have_the_named_functions(page):
    assert [file for file in FILE.findall(page) if not (ROOT / file).exists() and not file.startswith("build/")] == []
    found = named_functions(page)
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
