"""Random modules against PyTorch, many of them.

    python test/Random/run.py --count 1000              # seeds 0 to 999, three plans each
    python test/Random/run.py --first 17 --count 1 --binary-every 1 --keep folder

Prints a line for each module that is not equal, and a summary. Findings are shrunk: features are taken away while the
module fails in the same place in the same way. Exit code 1 if there are any.
"""

from __future__ import annotations

import argparse
import collections
import os
import re
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from check import Result, check  # noqa: E402
from modules import GROUPS  # noqa: E402


def kind_of(result: Result) -> tuple[str, str]:
    """Equal for findings of one cause, as far as their text says: numbers and names left out."""
    where = re.sub(r"\d", "", result.where)
    if result.verdict == "wrong":
        return f"{result.verdict} {where}", result.detail.split()[0]
    names = r"'[\w.:]*'|\S*/\S*|[\w.]+:\d+|(?<=error: )[\w.:]+|(?<= in )\S+|\(.*?\)|\d[\d, ]*"
    return f"{result.verdict} {where}", re.sub(names, "…", result.detail)


def shrink(seed: int, folder: Path, arguments, result: Result, used: list[str]) -> tuple[frozenset[str], Result]:
    """Features that can be taken away, one after the other, without the finding going away."""
    without = frozenset(arguments.without)
    for number, feature in enumerate(dict.fromkeys(used)):
        attempt, _ = one(seed, folder / str(number), arguments, without | {feature}, binary="binary" in result.where)
        if kind_of(attempt) == kind_of(result):
            without |= {feature}
            result = attempt
    return without, result


def one(seed: int, folder: Path, arguments, without: frozenset[str] = frozenset(), binary: bool = False):
    try:
        return check(seed, folder, arguments.plans, binary, frozenset(arguments.groups), without)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--first", type=int, default=0, metavar="SEED")
    result.add_argument("--count", type=int, default=100, metavar="N")
    result.add_argument("--plans", type=int, default=3, metavar="N", help="plans for each module (default: 3)")
    result.add_argument("--binary-every", type=int, default=10, metavar="N", help="run the CPU binary of every Nth module")
    result.add_argument("--groups", nargs="*", default=list(GROUPS), choices=GROUPS, help="features beside the usual")
    result.add_argument("--without", nargs="*", default=[], metavar="FEATURE", help="features to take away")
    result.add_argument("--no-shrink", action="store_true")
    result.add_argument("--keep", type=Path, metavar="DIR", help="keep all files there")
    return result


class Survey:
    """What became of the modules so far."""

    def __init__(self, arguments, base: Path):
        self.arguments, self.base, self.start = arguments, base, time.monotonic()
        self.verdicts: collections.Counter[str] = collections.Counter()
        self.kinds: dict[tuple[str, str], list[int]] = {}

    def add(self, seed: int):
        without = frozenset(self.arguments.without)
        binary = seed % self.arguments.binary_every == 0
        result, used = one(seed, self.base / str(seed), self.arguments, without, binary)
        self.verdicts[result.verdict] += 1
        if result.verdict == "equal":
            return
        kind = kind_of(result)
        is_new = kind not in self.kinds
        self.kinds.setdefault(kind, []).append(seed)
        if is_new or result.verdict == "wrong":
            print(f"seed {seed}: {result.verdict} ({result.where}): {result.detail}", flush=True)
        if is_new and result.is_finding and not self.arguments.no_shrink:
            taken, shrunk = shrink(seed, self.base / f"{seed}-shrunk", self.arguments, result, used)
            left = [feature for feature in dict.fromkeys(used) if feature not in taken]
            print(f"    with only {' '.join(left)}: {shrunk.detail}", flush=True)
            print(f"    again: --first {seed} --count 1 --without {' '.join(sorted(taken))}", flush=True)

    def report(self):
        seconds = time.monotonic() - self.start
        print(f"\n{self.verdicts.total()} modules, {seconds:.0f} s: {dict(self.verdicts)}")
        for (verdict, detail), seeds in sorted(self.kinds.items()):
            print(f"{len(seeds):5} {verdict}, first {seeds[0]}: {detail}")


def main() -> int:
    arguments = parser().parse_args()
    warnings.simplefilter("ignore")
    os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    os.environ.update(OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_MCA_mpi_yield_when_idle="1")
    base = arguments.keep or Path(tempfile.mkdtemp(prefix="galvatron-random-"))
    survey = Survey(arguments, base)
    try:
        for seed in range(arguments.first, arguments.first + arguments.count):
            survey.add(seed)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    if not arguments.keep:
        shutil.rmtree(base, ignore_errors=True)
    survey.report()
    return 1 if survey.verdicts["wrong"] or survey.verdicts["crash"] else 0


if __name__ == "__main__":
    sys.exit(main())
