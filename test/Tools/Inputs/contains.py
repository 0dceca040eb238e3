"""contains.py TEXT FILE: exit code 1, as mlir-reduce has it for what is interesting, where galvatron-opt takes the program and its text has TEXT."""

import subprocess
import sys

printed = subprocess.run(["galvatron-opt", sys.argv[2]], capture_output=True, text=True)
sys.exit(int(printed.returncode == 0 and sys.argv[1] in printed.stdout))
