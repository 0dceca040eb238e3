"""The files that the rules look at, and what a rule reports."""

import dataclasses
import functools
import pathlib
import subprocess


@dataclasses.dataclass(frozen=True)
class Finding:
    """One violation. `remedy` says what to do, in the imperative."""

    path: str
    line: int
    message: str
    remedy: str

    def __str__(self):
        return f"{self.path}:{self.line}: {self.message}; {self.remedy}"


class Tree:
    """A source tree: text files by their path relative to the root, with forward slashes."""

    def __init__(self, root, opt=None):
        self.root = pathlib.Path(root)
        self.opt = opt
        self.files = self._list()

    def _list(self):
        """Tracked files and new ones that git does not ignore; every file where there is no repository."""
        git = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=self.root,
            capture_output=True,
            text=True,
        )
        if git.returncode == 0:
            names = git.stdout.split("\0")
        else:
            names = [str(path.relative_to(self.root)) for path in self.root.rglob("*")]
        return sorted({name for name in names if name and (self.root / name).is_file()})

    @functools.lru_cache(maxsize=None)
    def text(self, path):
        """Content of a file, or None where it is not text."""
        try:
            return (self.root / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return None

    def lines(self, path):
        """(line number from 1, line) of a text file; nothing for other files."""
        return enumerate((self.text(path) or "").splitlines(), start=1)

    def below(self, *folders, suffixes):
        """Files below any of the folders that end in one of the suffixes."""
        prefixes = tuple(folder.rstrip("/") + "/" for folder in folders)
        return [path for path in self.files if path.startswith(prefixes) and path.endswith(suffixes)]


def line_of(text, offset):
    """Line number from 1 of an offset in a text."""
    return text.count("\n", 0, offset) + 1
