"""What benchmarks of plans share: lowering a plan, running what it was lowered to, and how long its steps take."""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

# Steps of a run that are not counted: libraries, memory and links are found cold.
WARM_UP = 2


# Seconds after which a command hangs: no step of a benchmark's programs takes near as long.
PATIENCE = 900


class CommandFailed(SystemExit):
    """Ends the benchmark with what the command said, unless a benchmark goes on without what it was for."""


def quietly(command: list[str | Path], **options) -> str:
    """Standard output of a command that has to succeed, and to end."""
    words = [str(word) for word in command]
    begin = f"{Path(sys.argv[0]).stem}: error: {' '.join(words)}"
    try:
        result = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, **options)
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"{begin} took more than {PATIENCE} s") from None
    if result.returncode != 0:
        raise CommandFailed(f"{begin} failed:\n{result.stdout}{result.stderr}")
    return result.stdout


class Kept:
    """What a benchmark has measured, by name, in a file as soon as it is there: the same command goes on after it. What was
    measured of something else, as `of` says, is begun anew."""

    def __init__(self, path: Path, of: object):
        self.path, self.of = path, json.loads(json.dumps(of))
        self.values: dict[str, object] = {}
        if path.exists():
            there = json.loads(path.read_text())
            self.values = there["values"] if there["of"] == self.of else {}

    def keep(self, name: str, value: object) -> None:
        self.values[name] = value
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps({"of": self.of, "values": self.values}) + "\n")
        os.replace(partial, self.path)


class TimeLimit:
    """Seconds that a benchmark may take; what there is no time for is left out and said."""

    def __init__(self, seconds: float):
        self.end = time.monotonic() + seconds
        self.longest = 0.0

    def has_room(self) -> bool:
        """For another piece of work as long as the longest before."""
        return time.monotonic() + self.longest < self.end

    def took(self, begin: float) -> None:
        self.longest = max(self.longest, time.monotonic() - begin)


def lower(model: Path, plan: Path, folder: Path, options: list[str]) -> None:
    quietly(["galvatron-opt", f"--plan={plan}", "--lower", model, *options, "-o", folder])


def tokens_of(folder: Path, vocabulary: int) -> tuple[Path, str]:
    """A file of random tokens and its type, as `launch --data` takes them."""
    path = folder / "tokens.bin"
    if not path.exists():
        source, width = random.Random(1), 1 if vocabulary <= 256 else 2 if vocabulary <= 65536 else 4
        tokens = (source.randrange(vocabulary) for _ in range(1 << 21))
        path.write_bytes(b"".join(token.to_bytes(width, "little") for token in tokens))
    return path, {1: "u8", 2: "u16", 4: "i32"}[1 if vocabulary <= 256 else 2 if vocabulary <= 65536 else 4]


def run(program: Path, data: tuple[Path, str], steps: int, extra: list[str | Path] = ()) -> list[float]:
    """Seconds of each of so many steps of a lowered program, after those that warm up."""
    plan = json.loads((program / "plan.json").read_text())
    table = json.loads((program / "timetable.json").read_text())
    log = program / "log.csv"
    command = [program / "launch", "--steps", str(steps + WARM_UP), "--lr", "1e-4", "--quiet", "--log", log]
    quietly([*command, "--data", data[0], "--data-dtype", data[1], *extra])
    tokens = plan["global_batch"] * table["sequence"]
    seconds = [tokens / float(row["tokens_per_second"]) for row in csv.DictReader(log.open())]
    return seconds[WARM_UP:]


def rank_correlation(first: list[float], second: list[float]) -> float:
    """Spearman's: 1 where both have one order."""

    def ranks(values: list[float]) -> list[float]:
        ordered = sorted(values)
        return [(ordered.index(value) + len(ordered) - 1 - ordered[::-1].index(value)) / 2 for value in values]

    a, b = ranks(first), ranks(second)
    middle = (len(first) - 1) / 2
    products = sum((x - middle) * (y - middle) for x, y in zip(a, b))
    squares = [sum((x - middle) ** 2 for x in each) for each in (a, b)]
    return products / (squares[0] * squares[1]) ** 0.5 if min(squares) > 0 else 1.0
