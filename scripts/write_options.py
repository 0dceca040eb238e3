#!/usr/bin/env python3
"""docs/options.md: what every tool takes, as the tables of their options have it.

scripts/write_options.py [FOLDER of the tools]
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "options.md"
TOOLS = ("opt", "import", "search", "profile", "launch-manual", "lsp-server", "reduce")
BEGIN = """# Options

Written by `scripts/write_options.py` from the tables that the tools parse by. The same tables make `--help`, the pages of the
manual (`ninja -C build docs`: `man build/docs/man/galvatron-opt.1`) and completion in bash and zsh, also for stage binaries:

```sh
source <(galvatron-opt --completion=bash)
source <(build/model/launch --completion=zsh)
```
"""


def text(folder: Path) -> str:
    """The page, of the tools in `folder`."""
    chapters = [
        subprocess.run([folder / f"galvatron-{tool}", "--options-markdown"], check=True, capture_output=True, text=True).stdout
        for tool in TOOLS
    ]
    return "\n".join([BEGIN, *chapters])


if __name__ == "__main__":
    PAGE.write_text(text(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "bin"))
