"""What an output may take the place of: a file, and no link, pipe or device."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from galvatron.errors import GalvatronError


def is_stream(path: str | Path) -> bool:
    """Whether a pipe or a device is there, links followed: it is written to, never replaced."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def follow(path: str | Path) -> str:
    """Where links lead from `path`, whether or not something is there."""
    real = os.path.realpath(path)
    if os.path.islink(real):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return real


def destination(path: Path, remedy: str) -> Path:
    """The file to write, there or not, where `path` may be a link to it; `remedy` says where to name another."""
    if path.is_dir():
        raise GalvatronError(f"cannot write {path}: it is a folder; {remedy}")
    if is_stream(path):
        raise GalvatronError(f"cannot write {path}: it is no file; {remedy}")
    try:
        return Path(follow(path))
    except OSError as error:
        raise GalvatronError(f"cannot write {path}: {error.strerror}; {remedy}") from None
