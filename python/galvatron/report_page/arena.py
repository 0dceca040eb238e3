"""What every byte of a rank's arena holds: at its fullest entry, and over the step."""

from __future__ import annotations

from dataclasses import dataclass

MOST_LEAVES = 160  # of a stage, beyond which equal kinds of a module are one
NOBODY = "no buffer"


@dataclass
class Leaf:
    """A part of a rank's peak: a buffer, several of one module and kind, or what no buffer covers."""

    name: str
    unit: str
    kind: str
    bytes: int
    buffers: int = 1


def lifetime(buffer: dict, entries: int) -> tuple[int, int]:
    return (0, max(entries - 1, 0)) if buffer.get("persistent") else (buffer["first"], buffer["last"])


def bytes_in_use(stage: dict) -> list[int]:
    """By entry: the sum of the buffers that hold something then."""
    entries = max(len(stage["entries"]), 1)
    changes = [0] * (entries + 1)
    for buffer in stage["buffers"]:
        first, last = lifetime(buffer, entries)
        changes[first] += buffer["bytes"]
        changes[last + 1] -= buffer["bytes"]
    used, total = [], 0
    for change in changes[:-1]:
        total += change
        used.append(total)
    return used


def fullest_entry(stage: dict) -> int:
    used = bytes_in_use(stage)
    return used.index(max(used))


def name_of(buffer: dict) -> str:
    """With its module's path first, said once: a parameter's buffers are called after it."""
    unit, kind, name = buffer.get("unit", ""), buffer["kind"], buffer["name"]
    if unit and name in (unit, f"{kind.replace('_', ' ')} of {unit}"):
        return f"{unit} {kind}"
    return f"{unit} {kind}: {name}".lstrip()


def leaves_at(stage: dict, entry: int, peak: int) -> list[Leaf]:
    """What the arena holds during an entry, in order of offsets; adds up to `peak`.

    A byte that two buffers name is counted with the first of them.
    """
    entries = len(stage["entries"])
    there = [b for b in stage["buffers"] if b["bytes"] and lifetime(b, entries)[0] <= entry <= lifetime(b, entries)[1]]
    leaves, covered = [], 0
    for buffer in sorted(there, key=lambda buffer: (buffer["offset"], -buffer["bytes"])):
        end = buffer["offset"] + buffer["bytes"]
        begin = max(buffer["offset"], covered)
        if end > begin:
            leaves.append(Leaf(name_of(buffer), buffer.get("unit", ""), buffer["kind"], end - begin))
            covered = end
    if len(leaves) > MOST_LEAVES:
        leaves = join_alike(leaves)
    rest = peak - sum(leaf.bytes for leaf in leaves)
    if rest > 0:
        leaves.append(Leaf(NOBODY, "", "none", rest, 0))
    return leaves


def join_alike(leaves: list[Leaf]) -> list[Leaf]:
    """One leaf for each module and kind."""
    joined: dict[tuple[str, str], Leaf] = {}
    for leaf in leaves:
        key = (leaf.unit, leaf.kind)
        if key in joined:
            joined[key].bytes += leaf.bytes
            joined[key].buffers += 1
            joined[key].name = f"{leaf.unit} {leaf.kind}: {joined[key].buffers} buffers".lstrip()
        else:
            joined[key] = Leaf(leaf.name, leaf.unit, leaf.kind, leaf.bytes)
    return list(joined.values())


def treemap(sizes: list[int], width: float, height: float) -> list[tuple[float, float, float, float]]:
    """(x, y, width, height) of each size, in its order, by area: rows that are as square as can be (Bruls et al., 2000)."""
    total = sum(sizes)
    boxes: list[tuple[float, float, float, float]] = [(0.0, 0.0, 0.0, 0.0)] * len(sizes)
    if not total:
        return boxes
    order = sorted(range(len(sizes)), key=lambda index: -sizes[index])
    area = width * height / total
    x, y, at = 0.0, 0.0, 0

    def worst(row: list[float], side: float) -> float:
        whole = sum(row)
        return max(side * side * max(row) / whole**2, whole**2 / (side * side * min(row))) if whole else float("inf")

    while at < len(order):
        side = max(min(width, height), 1e-9)
        row = [max(sizes[order[at]] * area, 1e-9)]
        while at + len(row) < len(order):
            more = row + [max(sizes[order[at + len(row)]] * area, 1e-9)]
            if worst(more, side) > worst(row, side):
                break
            row = more
        thickness, along = sum(row) / side, 0.0
        for offset, part in enumerate(row):
            length = part / thickness
            box = (x, y + along, thickness, length) if width >= height else (x + along, y, length, thickness)
            boxes[order[at + offset]] = box
            along += length
        if width >= height:
            x, width = x + thickness, max(width - thickness, 0.0)
        else:
            y, height = y + thickness, max(height - thickness, 0.0)
        at += len(row)
    return boxes
