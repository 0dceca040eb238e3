"""Finds what a rank takes beside its arena, from what check.py measured.

    python3 bench/gpu/reserve.py results/memory.json

Prints `reserved_bytes_per_device` as a cluster file holds it: the least squares of all ranks of all programs whose plan is known
here, the context raised until no rank is under. Standard output is JSON; what is left over goes to standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy

MEGABYTE = 10**6
PARTS = ("context", "library", "connection", "direction", "sums")
# Of each plan a row: how often a rank takes each part. A group of two has two connections, a larger one three.
TAKEN = {
    "one": (1, 0, 0, 0, 0),
    "dp2": (1, 1, 2, 0, 0),
    "tp2": (1, 1, 2, 0, 0),
    "tp4": (1, 1, 3, 0, 0),
    "pp2-gpipe": (1, 1, 0, 2, 1),
    "pp2-1f1b": (1, 1, 0, 2, 1),
    "dp2-tp2": (1, 1, 4, 0, 1),
    "tp2-pp2": (1, 1, 2, 2, 1),
}


def fit(programs: dict[str, dict]) -> dict[str, int]:
    """Bytes of each part."""
    rows, beside = [], []
    for program in programs.values():
        taken = TAKEN.get(program["plan"])
        for arena, used in zip(program["arena"], program["used"]) if taken else ():
            rows.append(taken)
            beside.append(used - arena)
    matrix, beside = numpy.array(rows, float), numpy.array(beside, float)
    if not rows or numpy.linalg.matrix_rank(matrix) < len(PARTS):
        missing = sorted(set(TAKEN) - {program["plan"] for program in programs.values()})
        raise SystemExit(
            f"error: expects plans that tell all parts apart, but there is nothing of {', '.join(missing)}"
        )
    parts = numpy.linalg.lstsq(matrix, beside, rcond=None)[0]
    parts = numpy.maximum(0, numpy.round(parts / MEGABYTE) * MEGABYTE)
    short = (beside - matrix @ parts).max()
    parts[0] += max(0, numpy.ceil(short / MEGABYTE) * MEGABYTE)
    over = (matrix @ parts - beside).max() / MEGABYTE
    print(f"{len(rows)} ranks, 0 to {over:.0f} MB over what was in use", file=sys.stderr)
    return {name: int(value) for name, value in zip(PARTS, parts)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("memory", type=Path, help="memory.json of check.py")
    found = fit(json.loads(parser.parse_args().memory.read_text()))
    print(json.dumps({"reserved_bytes_per_device": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
