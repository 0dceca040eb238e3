"""Finds what a rank takes beside its arena, from what check.py and race.py measured.

    python3 bench/gpu/reserve.py results/memory.json results/race.json

Prints `reserved_bytes_per_device` as a cluster file holds it: the least squares of all ranks of all small programs whose plan is
known here; then the context is raised until no rank by itself is under, and the library until no other is. Standard output is
JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy

MEGABYTE, TENTH = 10**6, 10**4
LARGE = 4 * 2**30
PARTS = ("context", "library", "group", "direction", "peer", "sums")
# Of each plan a row: how often a rank takes each part. Stages that share a tied weight have a group for it.
TAKEN = {
    "one": (1, 0, 0, 0, 0, 0),
    "dp2": (1, 1, 1, 0, 0, 0),
    "tp2": (1, 1, 1, 0, 0, 0),
    "tp4": (1, 1, 1, 0, 0, 0),
    **dict.fromkeys(("sp2", "cp2", "zero1", "zero2", "zero3"), (1, 1, 1, 0, 0, 0)),
    "ulysses2": (1, 1, 1, 0, 1, 0),
    "sequence": (1, 1, 1, 0, 1, 0),
    "pp2-gpipe": (1, 1, 0, 2, 0, 1),
    "pp2-1f1b": (1, 1, 0, 2, 0, 1),
    "dp2-tp2": (1, 1, 2, 0, 0, 1),
    "recompute": (1, 1, 2, 0, 0, 1),
    "mixed": (1, 1, 3, 0, 0, 0),
    "tp2-pp2": (1, 1, 1, 2, 0, 1),
    # Of the race.
    "whole": (1, 1, 2, 0, 0, 1),
    "halves": (1, 1, 2, 0, 0, 1),
    "quarters": (1, 1, 2, 0, 0, 1),
    "even": (1, 1, 1, 2, 0, 1),
    "uneven": (1, 1, 1, 2, 0, 1),
}
TIED = {"pp2-gpipe": (1, 1, 1, 2, 0, 0), "pp2-1f1b": (1, 1, 1, 2, 0, 0), "tp2-pp2": (1, 1, 2, 2, 0, 1)}


def taken_by(program: dict) -> tuple[int, ...] | None:
    plan = program["plan"]
    return TIED.get(plan, TAKEN.get(plan)) if program["tied"] else TAKEN.get(plan)


def programs_of(file: Path) -> list[dict]:
    """Of memory.json or race.json: {"plan", "tied", "arena", "reserved", "used"} of each program, bytes by rank."""
    content = json.loads(file.read_text())
    if "rows" in content:
        return [entry["memory"] for row in content["rows"] for entry in row["ours"] if entry.get("memory")]
    return list(content.values())


def excess(program: dict, parts: dict[str, int]) -> list[int]:
    """Of each rank, what it takes beyond arena and parts."""
    said = sum(times * part for times, part in zip(taken_by(program), parts.values()))
    return [used - arena - said for arena, used in zip(program["arena"], program["used"])]


def fit(programs: list[dict]) -> dict[str, int]:
    """Bytes of each part. `mapping`, for each GiB of an arena, is what large programs on several devices take beyond the
    parts, which are those of small ones."""
    known = [program for program in programs if taken_by(program)]
    small = [program for program in known if max(program["arena"]) < LARGE]
    rows = [taken_by(program) for program in small for _ in program["arena"]]
    beside = [used - arena for program in small for arena, used in zip(program["arena"], program["used"])]
    matrix, beside = numpy.array(rows, float), numpy.array(beside, float)
    if not rows or numpy.linalg.matrix_rank(matrix) < len(PARTS):
        missing = sorted(set(TAKEN) - {program["plan"] for program in small})
        raise SystemExit(
            f"error: expects plans that tell all parts apart, but there is nothing of {', '.join(missing)}"
        )
    values = numpy.linalg.lstsq(matrix, beside, rcond=None)[0]
    values = numpy.maximum(0, numpy.round(values / MEGABYTE) * MEGABYTE)
    alone = matrix[:, 1] == 0
    for part, ranks in ((0, alone), (1, ~alone)):
        values[part] += numpy.ceil((beside - matrix @ values)[ranks].max() / MEGABYTE) * MEGABYTE
    parts = {name: int(value) for name, value in zip(PARTS, values)}
    large = [program for program in known if max(program["arena"]) >= LARGE and len(program["arena"]) > 1]
    beyond = [
        over * 2**30 / arena for program in large for over, arena in zip(excess(program, parts), program["arena"])
    ]
    parts["mapping"] = int(numpy.ceil(max([0, *beyond]) / TENTH) * TENTH)
    print(f"{len(rows)} ranks of small programs, {len(beyond)} of large ones on several devices", file=sys.stderr)
    return parts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+", help="memory.json of check.py, race.json of race.py")
    found = fit([program for file in parser.parse_args().files for program in programs_of(file)])
    print(json.dumps({"reserved_bytes_per_device": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
