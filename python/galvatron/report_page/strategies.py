"""What plans say of modules: strategies in words, and which ranks of a stage form the groups of each degree.

The order of ranks is that of docs/plans.md, "The order of ranks", over a mesh of axes of prime size.
"""

from __future__ import annotations

ORDER = ("dp", "cp", "ulysses", "tp")  # slowest first
STRIDED = ("tp", "dp", "cp", "ulysses")
WORDS = {"sequence_parallel": "sp", "keep_gathered": "keep-gathered"}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
COLOURS = 10  # classes s-0 … s-9 of page.css


def describe(strategy: dict, devices: int) -> str:
    """As galvatron-opt says it: `dp=2 tp=4 sp zero3`."""
    words = []
    degrees = degrees_of(strategy, devices)
    words += [f"{key}={degrees[key]}" for key in ("dp", "cp", "tp", "ulysses") if degrees[key] > 1]
    for key, value in strategy.items():
        if key in ORDER or value in (False, None, 0, "") or key == "ep" and value == 1:
            continue
        if key == "cp_zigzag":
            words.append("zigzag")
        elif key == "zero":
            words.append(f"zero{value}")
        elif key == "ep":
            words.append(f"ep={value}")
        elif value is True:
            words.append(WORDS.get(key, key.replace("_", "-")))
        elif isinstance(value, list):
            words.append(f"recompute-{len(value)}-values")
        else:
            words.append(str(value))
    return " ".join(words) or "one rank"


def degrees_of(strategy: dict, devices: int) -> dict[str, int]:
    degrees = {
        key: value if isinstance(value, int) and value > 0 else 1 for key in ORDER for value in [strategy.get(key, 1)]
    }
    if "dp" not in strategy:
        degrees["dp"] = max(devices // (degrees["tp"] * degrees["cp"] * degrees["ulysses"]), 1)
    return degrees


def prime_factors(number: int) -> list[int]:
    factors, divisor = [], 2
    while number > 1:
        while number % divisor == 0:
            factors.append(divisor)
            number //= divisor
        divisor += 1
    return factors


def mesh_of(plan: dict, devices: int) -> list[int] | None:
    """Sizes of the mesh's axes, slowest first; None where the plan leaves it to the compiler and units differ."""
    if isinstance(plan.get("mesh"), list):
        return plan["mesh"]
    meshes = []
    for unit in plan["units"]:
        strategy = unit.get("strategy", {})
        degrees = degrees_of(strategy, devices)
        meshes.append(
            [f for key in (STRIDED if strategy.get("strided") else ORDER) for f in prime_factors(degrees[key])]
        )
    return meshes[0] if meshes and all(mesh == meshes[0] for mesh in meshes) else None


def groups_of(strategy: dict, devices: int, mesh: list[int] | None) -> dict[str, list[list[int]]]:
    """Of each degree above 1 its groups, by number of the rank within the stage; empty where they are not known."""
    degrees = degrees_of(strategy, devices)
    free = [] if mesh is None else list(range(len(mesh)))
    axes: dict[str, list[int]] = {}
    for key in STRIDED if strategy.get("strided") else ORDER:
        axes[key] = []
        for factor in prime_factors(degrees[key]):
            axis = next((a for a in free if mesh[a] == factor), None)
            if axis is None:
                return {}
            free.remove(axis)
            axes[key].append(axis)
    if free:
        return {}

    def coordinates(rank: int) -> list[int]:
        digits = []
        for size in reversed(mesh):
            digits.append(rank % size)
            rank //= size
        return digits[::-1]

    groups: dict[str, list[list[int]]] = {}
    for key, own in axes.items():
        if not own:
            continue
        by_rest: dict[tuple, list[int]] = {}
        for rank in range(devices):
            where = coordinates(rank)
            by_rest.setdefault(tuple(d for a, d in enumerate(where) if a not in own), []).append(rank)
        groups[key] = list(by_rest.values())
    return groups


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "es" if noun.endswith("h") else "s")


def sentence(plan: dict, stages: int, devices: int) -> str:
    """The plan as the tools say it in one line."""
    batches = plan["micro_batches"]
    return (
        f"{count(stages, 'stage')} x {count(devices, 'rank')}, {plan.get('schedule', '1f1b')}, {count(batches, 'micro-batch')} of "
        f"{count(plan['global_batch'] // batches, 'sample')}"
    )
