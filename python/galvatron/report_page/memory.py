"""Memory: a treemap of each set of equal ranks at its fullest entry, the arena over the step, and bytes in use."""

from __future__ import annotations

from galvatron.report_page import arena
from galvatron.report_page.inputs import Program
from galvatron.report_page.markup import details, drawing, item, key, label, note, size, table, tag
from galvatron.report_page.timetables import BUFFER_KINDS

WIDTH, MAP_HEIGHT, ARENA_HEIGHT, USE_HEIGHT, LEFT = 1100, 240, 200, 110, 80  # pixels
MOST_BUFFERS = 2400  # of all stages' arenas that are drawn: of each those with the most bytes times entries
MOST_ROWS = 40  # of a stage's table; the rest is one row


def figures(program: Program) -> list[dict]:
    """`memory` of the page's data: a record for each set of equal ranks."""
    table_, devices = program.timetable, program.devices
    records = []
    for number, stage in enumerate(table_["stages"] if table_ else []):
        ranks = list(range(number * devices, (number + 1) * devices))
        peaks = program.plan.get("peak_bytes_per_rank") or []
        peak = peaks[ranks[0]] if peaks else stage["arena_bytes"]
        entry = arena.fullest_entry(stage)
        name = stage["entries"][entry]["name"] if stage["entries"] else "no entry"
        leaves = arena.leaves_at(stage, entry, peak)
        records.append(
            {
                "ranks": ranks,
                "stage": number,
                "peak_bytes": peak,
                "fullest_entry": entry,
                "fullest_entry_name": name,
                "leaves": [
                    {"name": leaf.name, "unit": leaf.unit, "kind": leaf.kind, "bytes": leaf.bytes} for leaf in leaves
                ],
            }
        )
    return records


def spell(ranks: list[int]) -> str:
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"


def words_within(leaf: dict, x: float, y: float, width: float, height: float) -> list[str]:
    """As much of a leaf's name as its box takes, and its size below."""
    long = f"{leaf['unit']} {leaf['kind'].replace('_', ' ')}".strip()
    for words in (leaf["name"], long, leaf["unit"] or leaf["kind"], ".".join(leaf["unit"].split(".")[-2:])):
        if words and height > 16 and width > 6.6 * len(words) + 8:
            below = [label(x + 4, y + 27, size(leaf["bytes"]), "within")] if height > 32 else []
            return [label(x + 4, y + 12, words, "within"), *below]
    return []


def draw_map(record: dict) -> str:
    leaves = record["leaves"]
    boxes = arena.treemap([leaf["bytes"] for leaf in leaves], WIDTH, MAP_HEIGHT)
    parts = []
    for number, (leaf, (x, y, width, height)) in enumerate(zip(leaves, boxes)):
        told = (
            f"{leaf['name']}\n{size(leaf['bytes'])} ({leaf['bytes']} bytes), {leaf['bytes'] / record['peak_bytes']:.1%}"
        )
        parts.append(
            item(
                x, y, width, height, told, number == 0, f"leaf k-{leaf['kind']}", data_buffer=leaf["name"],
                data_bytes=leaf["bytes"],
            )
        )  # fmt: skip
        parts += words_within(leaf, x, y, width, height)
    told = f"memory of {spell(record['ranks'])} at entry {record['fullest_entry']}: {size(record['peak_bytes'])}"
    ranks = ",".join(map(str, record["ranks"]))
    return drawing(told, WIDTH, MAP_HEIGHT, "".join(parts), data_ranks=ranks)


def draw_arena(stage: dict, record: dict, most: int) -> str:
    entries, whole = max(len(stage["entries"]), 1), max(stage["arena_bytes"], 1)
    across, down = (WIDTH - LEFT) / entries, ARENA_HEIGHT / whole

    def area(buffer: dict) -> int:
        first, last = arena.lifetime(buffer, entries)
        return buffer["bytes"] * (last - first + 1)

    shown = sorted(stage["buffers"], key=lambda buffer: (-area(buffer), buffer["offset"]))[:most]
    shown.sort(key=lambda buffer: (arena.lifetime(buffer, entries)[0], buffer["offset"]))
    parts = [label(LEFT - 4, 10, "0", "soft", "end"), label(LEFT - 4, ARENA_HEIGHT, size(whole), "soft", "end")]
    for number, buffer in enumerate(shown):
        first, last = arena.lifetime(buffer, entries)
        told = (
            f"{arena.name_of(buffer)}\n{size(buffer['bytes'])} at offset {buffer['offset']}, entries {first} to {last}"
        )
        parts.append(
            item(
                LEFT + first * across, buffer["offset"] * down, (last - first + 1) * across, buffer["bytes"] * down, told,
                number == 0, f"leaf k-{buffer['kind']}",
            )
        )  # fmt: skip
    x = LEFT + (record["fullest_entry"] + 0.5) * across
    parts.append(f'<path class="mark" d="M{x:.1f},0L{x:.1f},{ARENA_HEIGHT}"/>')
    told = f"the arena of stage {record['stage']}: offset, downwards, against its {entries} entries"
    left_out = len(stage["buffers"]) - len(shown)
    extra = note(f"{left_out} buffers with the fewest bytes times entries are not drawn.") if left_out > 0 else ""
    return drawing(told, WIDTH, ARENA_HEIGHT, "".join(parts)) + extra


def thin_use(used: list[int], most: int = 1000) -> list[tuple[int, int]]:
    """(entry, bytes), of long steps the least and the greatest of each part."""
    if len(used) <= most:
        return list(enumerate(used))
    kept = set()
    for part in range(most // 2):
        own = range(part * len(used) * 2 // most, (part + 1) * len(used) * 2 // most)
        kept |= {min(own, key=used.__getitem__), max(own, key=used.__getitem__)}
    return [(entry, used[entry]) for entry in sorted(kept)]


def draw_use(stage: dict, record: dict, budget: int | None) -> str:
    used = arena.bytes_in_use(stage)
    highest = max([*used, record["peak_bytes"], 1])
    fits = budget is not None and budget <= 1.5 * highest
    top = max(highest, budget) if fits else highest
    across, base = (WIDTH - LEFT) / len(used), USE_HEIGHT - 4

    def y(amount: int) -> float:
        return base - (base - 14) * amount / top

    path = "".join(
        f"{'L' if number else 'M'}{LEFT + (entry + 0.5) * across:.1f},{y(amount):.1f}"
        for number, (entry, amount) in enumerate(thin_use(used))
    )
    fullest = record["fullest_entry"]
    said = (
        "no budget is known"
        if budget is None
        else f"budget {size(budget)}" + ("" if fits else ", far above this drawing")
    )
    told = f"bytes in use of stage {record['stage']} over its entries, {size(max(used))} at entry {fullest}; {said}"
    parts = [
        tag("path", class_="item use", d=path, role="img", aria_label=told, tabindex=0),
        f'<path class="mark" d="M{LEFT + (fullest + 0.5) * across:.1f},14L{LEFT + (fullest + 0.5) * across:.1f},{base}"/>',
        label(LEFT - 4, base, "0", "soft", "end"),
        label(LEFT - 4, y(highest) + 4, size(highest), "soft", "end"),
    ]
    if fits:
        parts.append(f'<path class="mark" d="M{LEFT},{y(budget):.1f}L{WIDTH},{y(budget):.1f}"/>')
    parts.append(label(WIDTH, 11, said, "soft", "end"))
    return drawing(told, WIDTH, USE_HEIGHT, "".join(parts))


def budget_of(program: Program, stage: int) -> int | None:
    cluster = (program.timetable or {}).get("cluster", {})
    memory = cluster.get("memory_bytes_per_device") if isinstance(cluster, dict) else None
    if not isinstance(memory, (int, float)):
        return None
    reserved = program.plan.get("reserved_bytes_per_rank") or []
    rank = stage * program.devices
    return int(memory) - (reserved[rank] if rank < len(reserved) and isinstance(reserved[rank], int) else 0)


def write(program: Program, records: list[dict]) -> str:
    if not records:
        peaks = program.plan.get("peak_bytes_per_rank") or []
        rows = [[f"rank {rank}", size(peak), peak] for rank, peak in enumerate(peaks)]
        return note(
            "What the bytes hold is not known: the plan has no timetable.json beside it, which galvatron-opt --lower writes."
        ) + (table(["rank", "peak", "bytes"], rows) if rows else "")
    kinds = {leaf["kind"] for record in records for leaf in record["leaves"]}
    content = key(
        [
            (f"k-{kind}", "", "no buffer" if kind == "none" else kind.replace("_", " "))
            for kind in (*BUFFER_KINDS, "none")
            if kind in kinds
        ]
    )
    for record in records:
        stage = program.timetable["stages"][record["stage"]]
        content += (
            f"<h3>{spell(record['ranks']).capitalize()}, stage {record['stage']}: {size(record['peak_bytes'])}</h3>"
            + note_of(record) + draw_map(record)
            + "<h3>The arena over the step: offset against entries</h3>" + draw_arena(stage, record, max(MOST_BUFFERS // len(records), 40))
            + "<h3>Bytes in use</h3>" + draw_use(stage, record, budget_of(program, record["stage"]))
        )  # fmt: skip
        content += details(
            f"Figures of {spell(record['ranks'])}", table(["buffer", "kind", "bytes"], rows_of(record), 2)
        )
    return content


def rows_of(record: dict) -> list[list]:
    """The largest leaves, one row for the rest, and what they add up to."""
    leaves = sorted(record["leaves"], key=lambda leaf: -leaf["bytes"])
    rows = [[leaf["name"], leaf["kind"], leaf["bytes"]] for leaf in leaves[:MOST_ROWS]]
    if rest := leaves[MOST_ROWS:]:
        rows.append([f"{len(rest)} smaller ones", "", sum(leaf["bytes"] for leaf in rest)])
    return rows + [["all", "", record["peak_bytes"]]]


def note_of(record: dict) -> str:
    return note(f"Fullest at entry {record['fullest_entry']}, {record['fullest_entry_name']}.")
