"""Takes a GPU's memory but for so many bytes, then runs a command beside it, which needs more; ends as the command does.

python3 bench/gpu/short_of_memory.py BYTES COMMAND...
"""

from __future__ import annotations

import subprocess
import sys

import torch


def main() -> int:
    left, command = int(sys.argv[1]), sys.argv[2:]
    free, _ = torch.cuda.mem_get_info(0)
    taken = torch.empty(max(0, free - left), dtype=torch.uint8, device="cuda:0")
    torch.cuda.synchronize()
    print(f"{taken.numel()} bytes taken, {torch.cuda.mem_get_info(0)[0]} left", flush=True)
    return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main())
