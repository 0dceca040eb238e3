"""The real bash and zsh, as someone who types and presses Tab meets them."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from pathlib import Path

# How each shell starts without anyone's settings, and what it needs before a script of completions.
STARTS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "bind 'set enable-bracketed-paste off'; bind 'set completion-query-items 0'\n"),
    "zsh": (["zsh", "-f", "-i"], "unsetopt zle_bracketed_paste; autoload -U compinit; compinit -u -D; LISTMAX=10000\n"),
}
ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[=>]|\][^\x07]*\x07)|\x07")
LONGEST = 20.0  # seconds to wait for a shell, which takes far less


class Shell:
    """`name` in `folder`, with the completions of `script`."""

    def __init__(self, name: str, folder: Path, script: str) -> None:
        (folder / "completions").write_text(script)
        words, prepare = STARTS[name]
        self.terminal, inner = pty.openpty()
        environment = {**os.environ, "TERM": "dumb", "PS1": "> ", "PROMPT": "> ", "HISTFILE": "", "COLUMNS": "200"}
        self.process = subprocess.Popen(
            words, stdin=inner, stdout=inner, stderr=inner, cwd=folder, env=environment, start_new_session=True
        )
        os.close(inner)
        self.send(f"stty cols 200; {prepare}. ./completions; echo rea''dy\n")
        self.wait_for("ready")

    def send(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def wait_for(self, text: str, quiet: float | None = None) -> str:
        """What the shell writes until `text` is in it, or, with `quiet`, until it has been silent for so long."""
        seen, end = "", time.monotonic() + LONGEST
        while time.monotonic() < end:
            ready, _, _ = select.select([self.terminal], [], [], quiet or 0.1)
            if ready:
                seen += ESCAPES.sub("", os.read(self.terminal, 65536).decode(errors="replace"))
            elif quiet and seen:
                return seen
            if not quiet and text in seen:
                return seen
        raise AssertionError(f"the shell never wrote {text!r}, but {seen!r}")

    def complete(self, line: str) -> str:
        """What stands on the terminal after `line` and Tab, twice; the line is thrown away."""
        self.send(line + "\t\t")
        shown = self.wait_for("", quiet=0.7)
        self.send("\x15\x03\n")
        self.wait_for("", quiet=0.2)
        return shown

    def close(self) -> None:
        os.close(self.terminal)
        self.process.kill()
        self.process.wait()
