"""What plans say of modules: strategies in words, and which ranks of a stage form the groups of each degree.

The order of ranks is that of docs/plans.md, "The order of ranks", over a mesh of axes of prime size.
"""

from __future__ import annotations

from galvatron.report_page.timetables import is_whole

ORDER = ("dp", "cp", "ulysses", "tp")  # slowest first
STRIDED = ("tp", "dp", "cp", "ulysses")
# What the rows of dialects/Plan/Strategy.def that are no degrees are called, in their order.
WORDS = {
    "sequence_parallel": {True: "sp"},
    "cp_kind": {"gathered": "gathered", "ring": "ring"},
    "cp_zigzag": {False: "contiguous", True: "zigzag"},
    "zero": {1: "zero1", 2: "zero2", 3: "zero3"},
    "reduce_every_micro_batch": {False: "reduceonce", True: "reduceeach"},
    "recompute": {True: "recompute"},
    "keep_gathered": {True: "keep-gathered"},
    "strided": {True: "strided"},
    "pad": {True: "pad"},
}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
COLOURS = 10  # classes s-0 … s-9 of page.css


def describe(strategy: dict, devices: int) -> str:
    """As galvatron-opt says it: `dp=2 tp=4 sp zero3`. A key that is not known here is said as it stands."""
    degrees = degrees_of(strategy, devices)
    words = [f"{key}={degrees[key]}" for key in ORDER if degrees[key] > 1]
    if is_whole(strategy.get("ep"), 2):
        words.append(f"ep={strategy['ep']}")
    for key, texts in WORDS.items():
        value = strategy.get(key)
        if isinstance(value, (bool, int, str)) and value in texts:
            words.append(texts[value])
    if values := strategy.get("recompute_values"):
        words.append(f"recompute-{len(values) if isinstance(values, list) else '?'}-values")
    for key, value in strategy.items():
        if key not in WORDS and key not in (*ORDER, "ep", "recompute_values") and value not in (None, False, 0, ""):
            words.append(key.replace("_", "-") if value is True else f"{key.replace('_', '-')}={value}")
    return " ".join(words) or "one device"


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


def rank_order(strategy: dict) -> tuple[str, ...]:
    return STRIDED if strategy.get("strided") else ORDER


def deal_axes(strategy: dict, devices: int, mesh: list[int]) -> dict[str, list[int]] | None:
    """The axes of a mesh that each degree takes: of each of its primes the slowest that is free. None: it has not enough."""
    degrees = degrees_of(strategy, devices)
    free = list(range(len(mesh)))
    axes: dict[str, list[int]] = {}
    for key in rank_order(strategy):
        axes[key] = []
        for factor in prime_factors(degrees[key]):
            axis = next((a for a in free if mesh[a] == factor), None)
            if axis is None:
                return None
            free.remove(axis)
            axes[key].append(axis)
    return None if free else axes


def mesh_of(plan: dict, devices: int) -> list[int] | None:
    """Sizes of the mesh's axes, slowest first; None where the compiler chooses, as not every unit can have its own order."""
    if isinstance(plan.get("mesh"), list):
        return plan["mesh"] if all(is_whole(size, 2) for size in plan["mesh"]) else None
    strategies = [unit.get("strategy", {}) for unit in plan["units"]]
    meshes = []
    for strategy in strategies:
        degrees = degrees_of(strategy, devices)
        mesh = [factor for key in rank_order(strategy) for factor in prime_factors(degrees[key])]
        if mesh not in meshes:
            meshes.append(mesh)

    def keeps_order(strategy: dict, mesh: list[int]) -> bool:
        axes = deal_axes(strategy, devices, mesh)
        if axes is None:
            return False
        dealt = [sorted(axes[key]) for key in rank_order(strategy)]
        return sum(dealt, []) == list(range(len(mesh)))

    return next((mesh for mesh in meshes if all(keeps_order(strategy, mesh) for strategy in strategies)), None)


def groups_of(strategy: dict, devices: int, mesh: list[int] | None) -> dict[str, list[list[int]]]:
    """Of each degree above 1 its groups, by number of the rank within the stage; empty where they are not known."""
    axes = None if mesh is None else deal_axes(strategy, devices, mesh)
    if axes is None:
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
