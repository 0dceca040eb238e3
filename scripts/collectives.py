#!/usr/bin/env python3
"""scripts/collectives.py PLAN MODEL: what the ranks exchange under a plan, in the compiler's own words.

First the table of `galvatron-opt --explain`, then the groups of ranks of a stage, then the collectives: those of a
layer's body, once a micro-batch, and those of the timetable, of parameters and gradients, with how often in a step.
docs/plans.md shows its output for a gallery of plans; `--update PAGE` writes it there anew.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import re
import subprocess
import sys
import tempfile
from pathlib import Path

BODY = re.compile(r"dist\.body @([\w.]+)\.(forward|backward)\(")
COLLECTIVE = re.compile(r"dist\.(all_reduce|all_gather|reduce_scatter|all_to_all|permute) .*?axes \[([\d, ]*)\]")
ENTRY = re.compile(r"^ *\d+ [ ┌│└]*(all_reduce|all_gather|reduce_scatter|send) +(.*?): (.*)")
OVER = re.compile(r" over (axes|stages) ([\d, ]*\d)")
BYTES = re.compile(r" +(?:[\d.]+ [KMG]?i?B.*|bytes of a rank)$")
GALLERY = re.compile(r"```json\n((?:(?!```).)*)```\n(?:(?!```json).)*?```sh\n\S*collectives.py plan.json (\S+)\n```\n```text\n(.*?)```", re.DOTALL)


def compiler(*words: str) -> str:
    done = subprocess.run(["galvatron-opt", *words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stderr + done.stdout


def groups(mesh: list[int], axes: list[int]) -> str:
    """The ranks of a stage that differ along these axes."""
    members = collections.defaultdict(list)
    for rank, place in enumerate(itertools.product(*map(range, mesh))):
        members[tuple(c for axis, c in enumerate(place) if axis not in axes)].append(str(rank))
    return " ".join("{" + " ".join(ranks) + "}" for ranks in members.values())


def bodies(program: str) -> tuple[dict, set]:
    """Collectives of each body that has any, and all their axes."""
    found, used, current = {}, set(), None
    for line in program.splitlines():
        if body := BODY.search(line):
            current = found.setdefault(body.groups(), collections.Counter())
        elif (one := COLLECTIVE.search(line)) and current is not None:
            current[one[1], one[2]] += 1
            used.add(one[2])
    return {body: counted for body, counted in found.items() if counted}, used


def entries(timetable: str) -> tuple[dict, set]:
    """Collectives and sends of all stages' timetables by kind, what they are of, and over what."""
    found, used = collections.Counter(), set()
    for line in timetable.splitlines():
        if entry := ENTRY.search(line):
            over = OVER.search(entry[3])
            name = re.sub(r" micro-batch \d+", "", entry[2])
            found[entry[1], name, over[0] if over else ""] += 1
            if over and over[1] == "axes":
                used.add(over[2])
    return found, used


def report(plan: Path, model: str) -> str:
    shard = compiler(f"--plan={plan}", "--compile-to=shard", "--explain", model)
    # Up to the reasons of a price, which are the search's.
    table = shard.splitlines()
    end = next(n for n, line in enumerate(table) if n > 1 and not line[:1].isdigit())
    lines = [table[0].split(";")[0], *(BYTES.sub("", line) for line in table[1:end])]
    in_bodies, body_axes = bodies(shard)
    in_lists, list_axes = entries(compiler(f"--plan={plan}", "--print-timetable", model))
    pipeline = re.search(r"#plan\.pipeline<stages = \d+, devices = (\d+)[^>]*?(?:mesh = \[([\d, ]*)\])?>", shard)
    mesh = [int(size) for size in pipeline[2].split(",")] if pipeline[2] else primes(int(pipeline[1]))
    for axes in sorted(body_axes | list_axes):
        lines.append(f"axes {axes}: ranks {groups(mesh, [int(axis) for axis in axes.split(',')])}")
    lines.append("a micro-batch:")
    for (name, way), counted in in_bodies.items():
        what = ", ".join(f"{number} {kind} over axes {axes}" for (kind, axes), number in counted.items())
        lines.append(f"  {name} {way}: {what}")
    lines.append("a step:")
    for (kind, name, over), number in in_lists.items():
        lines.append(f"  {number} {kind} {name}" + over)
    return "\n".join(lines) + "\n"


def primes(number: int) -> list[int]:
    return next(([p, *primes(number // p)] for p in range(2, number + 1) if number % p == 0), [])


def updated(page: str) -> str:
    """The page with what its commands print now."""

    def anew(match: re.Match) -> str:
        with tempfile.TemporaryDirectory() as folder:
            plan = Path(folder) / "plan.json"
            plan.write_text(match[1])
            whole, start, end = match[0], *(place - match.start() for place in match.span(3))
            return whole[:start] + report(plan, match[2]) + whole[end:]

    return GALLERY.sub(anew, page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plan", type=Path, nargs="?")
    parser.add_argument("model", nargs="?")
    parser.add_argument("--update", type=Path, metavar="PAGE", help="write what a page's commands print into it")
    arguments = parser.parse_args()
    if arguments.update:
        arguments.update.write_text(updated(arguments.update.read_text()))
    elif arguments.model:
        print(report(arguments.plan, arguments.model), end="")
    else:
        parser.error("give a plan and a model, or --update PAGE")


if __name__ == "__main__":
    main()
