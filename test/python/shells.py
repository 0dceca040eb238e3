"""The real bash and zsh, as someone who types and presses Tab meets them."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

# How each shell starts without anyone's settings, and what it needs before a script of completions.
SET_BASH = "".join(
    f"bind 'set {setting}'; "
    for setting in ("enable-bracketed-paste off", "completion-query-items 0", "page-completions off", "show-all-if-ambiguous on")
)
STARTS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], SET_BASH),
    "zsh": (["zsh", "-f", "-i"], "unsetopt zle_bracketed_paste; autoload -U compinit; compinit -u -D; LISTMAX=10000; "),
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
        self.send(f"stty cols 200; {prepare}. ./completions\n")
        self.start_line()

    def send(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def wait_for(self, is_there: Callable[[str], object]) -> str:
        """What the shell writes until that is enough, or for so long that nothing more will come."""
        seen, end = "", time.monotonic() + LONGEST
        while not is_there(seen) and time.monotonic() < end:
            ready, _, _ = select.select([self.terminal], [], [], 0.1)
            if ready:
                text = os.read(self.terminal, 65536).decode(errors="replace")
                seen += ESCAPES.sub("", text).replace("\r", "").replace("\b", "")
        return seen

    def start_line(self) -> None:
        """Until the prompt waits for a new line, as keys that come before it does are not completed."""
        self.send("\x15echo do''ne\n")
        self.wait_for(re.compile("done\n[^>]*> ").search)

    def complete(self, line: str, is_there: Callable[[str], object]) -> str:
        """What stands on the terminal after `line` and Tab, twice, once it is enough; the line is then thrown away."""
        self.send(line + "\t\t")
        shown = self.wait_for(is_there)
        self.start_line()
        return shown

    def close(self) -> None:
        os.close(self.terminal)
        self.process.kill()
        self.process.wait()
