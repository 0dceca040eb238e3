"""Judges gradients and losses of a run against the reference's.

    python -m galvatron.compare --gradients build/gradients reference/gradients \\
        --losses build/log.csv reference/log.csv --loss-tolerance 1e-4

Gradient rule, for each parameter: |g - g*| <= tolerance * max(|g*|, floor * global norm of g*).
The floor is for gradients that are zero in exact arithmetic, such as a key's bias.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy

import galvatron
from galvatron.errors import GalvatronError, first_line

GRADIENT_TOLERANCE = 1e-4
GRADIENT_FLOOR = 1e-5


@dataclasses.dataclass(frozen=True)
class Difference:
    """One comparison; `ratio` is the error over what is allowed, so at most 1 passes."""

    name: str
    ratio: float
    detail: str

    @property
    def passed(self) -> bool:
        return self.ratio <= 1.0  # false for NaN


def compare_gradients(
    actual: Mapping[str, numpy.ndarray],
    expected: Mapping[str, numpy.ndarray],
    ties: Sequence[Sequence[str]] = (),
    tolerance: float = GRADIENT_TOLERANCE,
    floor: float = GRADIENT_FLOOR,
) -> list[Difference]:
    """Compares by name, in order of `expected`. A tied parameter may stand under any of its names
    (once or several times, equal). Names that the other side lacks are differences."""
    groups = {name: group for group in ties for name in group}
    total = math.sqrt(sum(_norm(g) ** 2 for g in _once(expected, groups).values()))
    result, used = [], set()
    for name, wanted in expected.items():
        found = [n for n in dict.fromkeys([name, *groups.get(name, ())]) if n in actual]
        used.update(found)
        if not found:
            result.append(Difference(name, math.inf, "is missing"))
        for other in found:
            result.append(_difference(name, actual[other], wanted, tolerance, floor * total))
    for name in actual:
        if name not in used:
            result.append(Difference(name, math.inf, "is not a parameter of the reference"))
    return result


def _once(tensors: Mapping[str, numpy.ndarray], groups: dict) -> dict[str, numpy.ndarray]:
    return {groups.get(name, (name,))[0]: tensor for name, tensor in tensors.items()}


def _norm(tensor: numpy.ndarray) -> float:
    return float(numpy.sqrt(numpy.sum(tensor.astype(numpy.float64) ** 2)))


def _difference(name, actual, wanted, tolerance: float, least: float) -> Difference:
    if actual.shape != wanted.shape:
        detail = f"has shape {list(actual.shape)}, expected {list(wanted.shape)}"
        return Difference(name, math.inf, detail)
    error = _norm(actual.astype(numpy.float64) - wanted.astype(numpy.float64))
    allowed = tolerance * max(_norm(wanted), least)
    ratio = error / allowed if allowed else (0.0 if error == 0 else math.inf)
    detail = f"|g - g*| = {error:.3e}, |g*| = {_norm(wanted):.3e}, allowed {allowed:.3e}"
    return Difference(name, ratio, detail)


def compare_columns(
    actual: Sequence[Mapping[str, str]],
    expected: Sequence[Mapping[str, str]],
    column: str,
    tolerance: float,
) -> list[Difference]:
    """Compares a column of two logs step by step, relatively. Every step of the reference must be
    in the other log."""
    by_step = {int(row["step"]): float(row[column]) for row in actual}
    result = []
    for row in expected:
        step, wanted = int(row["step"]), float(row[column])
        if step not in by_step:
            result.append(Difference(f"{column} of step {step}", math.inf, "is missing"))
            continue
        error = abs(by_step[step] - wanted) / max(abs(wanted), 1e-30)
        detail = f"{by_step[step]:.9g}, expected {wanted:.9g}, relative error {error:.3e}"
        ratio = error / tolerance if tolerance else (0.0 if error == 0 else math.inf)
        result.append(Difference(f"{column} of step {step}", ratio, detail))
    return result


def read_log(path: Path) -> list[dict[str, str]]:
    try:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise GalvatronError(f"cannot read {path}: {error.strerror}; give a --log file") from None
    if not rows or "step" not in rows[0] or "loss" not in rows[0]:
        raise GalvatronError(f"{path} has no rows with step and loss; give a --log file")
    return rows


def read_gradients(path: Path) -> tuple[dict[str, numpy.ndarray], list[list[str]]]:
    """Tensors of a safetensors file, and the ties in its metadata."""
    from safetensors import safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            ties = json.loads((file.metadata() or {}).get("ties", "[]"))
            return {name: file.get_tensor(name) for name in file.keys()}, ties
    except Exception as error:
        raise GalvatronError(
            f"cannot read {path}: {first_line(error)}; give a safetensors file"
        ) from None


def gradient_pairs(actual: Path, expected: Path, steps: int | None) -> list[tuple[str, Path, Path]]:
    """(label, actual file, expected file): two files, or files of two folders by the last number
    in their names, which is the step."""
    if actual.is_file() and expected.is_file():
        return [("", actual, expected)]
    found, wanted = _by_step(actual), _by_step(expected)
    if not wanted:
        raise GalvatronError(
            f"{expected} has no safetensors files with a step in their name; check it"
        )
    chosen = [step for step in sorted(wanted) if steps is None or step <= steps]
    missing = [step for step in chosen if step not in found]
    if missing:
        raise GalvatronError(
            f"{actual} has no gradients of step {missing[0]}; dump them, or give --steps"
        )
    return [(f"step {step} ", found[step], wanted[step]) for step in chosen]


def _by_step(folder: Path) -> dict[int, Path]:
    files = {}
    for file in folder.glob("*.safetensors"):
        numbers = re.findall(r"\d+", file.stem)
        if numbers:
            files[int(numbers[-1])] = file
    return files


def report(title: str, differences: Sequence[Difference], worst: int) -> bool:
    """Prints a verdict and the worst comparisons; whether all passed."""
    order = sorted(differences, key=lambda d: -d.ratio if d.ratio == d.ratio else -math.inf)
    failed = sum(not d.passed for d in order)
    verdict = f"{failed} of {len(order)} FAILED" if failed else f"{len(order)} passed"
    print(f"{title}: {verdict}; worst:")
    for difference in order[:worst]:
        mark = "  " if difference.passed else "! "
        print(
            f"  {mark}{difference.ratio:10.4g} of allowed  {difference.name}  {difference.detail}"
        )
    return failed == 0


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m galvatron.compare",
        description="Compares gradients and losses with a reference; exit code 1 when they differ.",
    )
    add = result.add_argument
    add(
        "--gradients",
        nargs=2,
        type=Path,
        metavar=("ACTUAL", "EXPECTED"),
        help="two safetensors files, or two folders with a file a step",
    )
    add(
        "--steps",
        type=int,
        metavar="N",
        help="gradients of the first N steps only (default: all of the reference)",
    )
    add(
        "--gradient-tolerance",
        type=float,
        default=GRADIENT_TOLERANCE,
        metavar="X",
        help=f"relative to the parameter's gradient norm (default: {GRADIENT_TOLERANCE})",
    )
    add(
        "--gradient-floor",
        type=float,
        default=GRADIENT_FLOOR,
        metavar="X",
        help=f"smallest norm to be relative to, as a share of the global norm (default: {GRADIENT_FLOOR})",
    )
    add(
        "--model",
        type=Path,
        metavar="FILE",
        help="archive whose ties to use, when the reference's file has none",
    )
    add("--losses", nargs=2, type=Path, metavar=("ACTUAL", "EXPECTED"), help="two CSV logs")
    add(
        "--loss-tolerance",
        type=float,
        default=1e-4,
        metavar="X",
        help="relative, each step (default: 1e-4)",
    )
    add("--norm-tolerance", type=float, metavar="X", help="compare grad_norm too, relatively")
    add("--worst", type=int, default=5, metavar="N", help="lines to print (default: 5)")
    add("--version", action="version", version=f"galvatron.compare {galvatron.__version__}")
    return result


def run(arguments: argparse.Namespace) -> bool:
    if not arguments.gradients and not arguments.losses:
        raise GalvatronError("nothing to compare; give --gradients or --losses")
    passed = True
    if arguments.gradients:
        for label, actual, expected in gradient_pairs(*arguments.gradients, arguments.steps):
            wanted, ties = read_gradients(expected)
            if arguments.model:
                from galvatron import archive

                ties = ties or archive.load(arguments.model)[1]["ties"]
            found, other_ties = read_gradients(actual)
            differences = compare_gradients(
                found,
                wanted,
                ties or other_ties,
                arguments.gradient_tolerance,
                arguments.gradient_floor,
            )
            passed &= report(f"{label}gradients", differences, arguments.worst)
    if arguments.losses:
        actual, expected = (read_log(path) for path in arguments.losses)
        columns = [("loss", arguments.loss_tolerance)]
        if arguments.norm_tolerance is not None:
            columns.append(("grad_norm", arguments.norm_tolerance))
        for column, tolerance in columns:
            differences = compare_columns(actual, expected, column, tolerance)
            passed &= report(column, differences, arguments.worst)
    return passed


def main(argv: Sequence[str] | None = None) -> int:
    try:
        return 0 if run(parser().parse_args(argv)) else 1
    except GalvatronError as error:
        print(f"galvatron.compare: error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
