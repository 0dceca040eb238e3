"""Where in a module's forward something happens: the submodule's path and the author's line.

The author's line is the innermost one outside of PyTorch, Python's own library and this package; the
importer names a traced operator's line by the same rule.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import sysconfig
import types
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

_PACKAGE = str(Path(__file__).parent) + "/"
_TORCH = str(Path(torch.__file__).parent) + "/"
_PYTHON = sysconfig.get_paths()["stdlib"] + "/"
_INSTALLED = re.compile(r"/(site|dist)-packages/")


@dataclasses.dataclass(frozen=True)
class Place:
    path: str  # of the submodule, "" for the top one
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.path or 'the top module'} ({Path(self.file).name}:{self.line})"

    def is_users(self) -> bool:
        """Whether the line is in no installed library."""
        return not _INSTALLED.search(self.file) and not _is_library(self.file)


def _is_library(file: str) -> bool:
    inside_python = file.startswith(_PYTHON) and not _INSTALLED.search(file)
    return file.startswith((_PACKAGE, _TORCH, "<")) or inside_python


def is_of_library(function: types.FunctionType) -> bool:
    """Whether PyTorch, Python's own library or this package has it."""
    return _is_library(function.__code__.co_filename)


def here(names: dict[int, str]) -> Place:
    """The place that runs now. `names`: the path of each submodule, by id."""
    path = author = None
    frame = sys._getframe(1)
    while frame and (path is None or author is None):
        if author is None and not _is_library(frame.f_code.co_filename):
            author = (frame.f_code.co_filename, frame.f_lineno)
        owner = frame.f_locals.get("self") if path is None else None
        if isinstance(owner, nn.Module):
            path = names.get(id(owner))
        frame = frame.f_back
    return Place(path or "", *(author or ("", 0)))


def of_traceback(error: BaseException, names: dict[int, str]) -> Place:
    """Where an exception was raised."""
    found = Place("", "", 0)
    traceback = error.__traceback__
    while traceback:
        frame = traceback.tb_frame
        owner = frame.f_locals.get("self")
        path = names.get(id(owner), found.path) if isinstance(owner, nn.Module) else found.path
        if _is_library(frame.f_code.co_filename):
            found = dataclasses.replace(found, path=path)
        else:
            found = Place(path, frame.f_code.co_filename, traceback.tb_lineno)
        traceback = traceback.tb_next
    return found


def of_node(node: torch.Node) -> Place:
    """Of a traced operator: its range is the Python stack, innermost first, as `file(line): function`."""
    scope = [part.removeprefix("__module.") for part in node.scopeName().split("/")]
    for file, line in _frames(node.sourceRange().splitlines()):
        if not _is_library(file):
            return Place(scope[-1], file, line)
    return Place(scope[-1], "", 0)


def _frames(stack: Iterable[str]) -> Iterable[tuple[str, int]]:
    for frame in stack:
        if match := re.match(r"(.+)\((\d+)\): ", frame):
            yield match[1], int(match[2])


def of_function(function: object) -> str:
    """`name (file:line)` of a hook; whatever is known of it."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{name} ({Path(code.co_filename).name}:{code.co_firstlineno})" if code else name
