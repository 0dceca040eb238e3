"""Communication of a step, by group of ranks and kind: calls, bytes, seconds, and what of them nothing hides."""

from __future__ import annotations

from collections import Counter, defaultdict

from galvatron import timelines
from galvatron.report_page.inputs import Program
from galvatron.report_page.markup import note, seconds, size, table, text
from galvatron.timelines import Trace


def ranks_of(group: dict, stage: int, devices: int) -> list[int]:
    """One group of those that meet at a time: that of the stage's first rank."""
    if group.get("stages"):
        return [number * devices for number in group["stages"]]
    offsets = [0]
    for loop in group.get("loops", []):
        offsets = [offset + turn * loop[1] for turn in range(loop[0]) for offset in offsets]
    return [stage * devices + offset for offset in sorted(offsets)]


def spell(ranks: list[int]) -> str:
    if len(ranks) > 4 and ranks == list(range(ranks[0], ranks[-1] + 1)):
        return f"{ranks[0]}–{ranks[-1]}"
    return ",".join(map(str, ranks[:16])) + (f",… ({len(ranks)})" if len(ranks) > 16 else "")


def exposed_by_entry(trace: Trace) -> dict[tuple[int, int], float]:
    """Seconds of which an entry of a stage is the cause, a wait for it apart: means over the stage's ranks and the steps."""
    found: dict[tuple[int, int], float] = defaultdict(float)
    for spans in trace.steps.values():
        by_rank = defaultdict(list)
        for span in spans:
            by_rank[span.rank].append(span)
        ranks = Counter(own[0].stage for own in by_rank.values())
        for own in by_rank.values():
            weight = 1 / (len(trace.steps) * ranks[own[0].stage])
            for index, length in timelines.cause_lengths(own).items():
                if index >= 0:
                    found[own[index].stage, own[index].entry] += weight * length
    return found


def figures(program: Program, predicted: Trace | None) -> list[dict]:
    """Rows of one rank of each stage; `seconds` is null where entries have no times of their own."""
    if not program.timetable:
        return []
    devices = program.timetable["devices_per_stage"]
    exposed = exposed_by_entry(predicted) if predicted else {}
    bodies = {
        body["name"]: body.get("calls", [])
        for body in program.timetable["bodies"]
        if isinstance(body, dict) and "name" in body
    }
    rows: dict[tuple[str, str], dict] = {}

    def row(group: str, kind: str) -> dict:
        empty = {"group": group, "kind": kind, "calls": 0, "bytes": 0, "seconds": 0.0, "exposed_seconds": 0.0}
        return rows.setdefault((group, kind), empty)

    for number, stage in enumerate(program.timetable["stages"]):
        groups = [spell(ranks_of(group, number, devices)) for group in stage["groups"]]
        for index, entry in enumerate(stage["entries"]):
            category = entry.get("category", "compute")
            if entry["kind"] == "wait":
                count_wait(stage, entry, number, index, groups, exposed, row, devices)
            elif category in timelines.COMMUNICATES:
                own = row(*key_of(entry, number, groups, devices))
                own["calls"] += 1
                own["bytes"] += entry.get("bytes", 0)
                own["seconds"] += entry.get("seconds", 0.0)
                own["exposed_seconds"] += exposed.get((number, index), 0.0)
            for call in bodies.get(entry.get("body"), []):
                if call.get("collective"):
                    own = row(groups[call["group"]], f"{call['collective']} within modules")
                    own["calls"] += 1
                    own["bytes"] += int(call.get("bytes", 0))
                    if "seconds" in call:
                        own["seconds"] += call["seconds"]
                    else:
                        own["seconds"] = own["exposed_seconds"] = None
                    hidden = "handle" in call
                    if own["exposed_seconds"] is not None:
                        own["exposed_seconds"] = None if hidden else own["exposed_seconds"] + call["seconds"]
    return sorted(
        rows.values(), key=lambda each: (-(each["seconds"] or 0), -each["bytes"], each["group"], each["kind"])
    )


def key_of(entry: dict, stage: int, groups: list[str], devices: int) -> tuple[str, str]:
    if entry.get("category") == "collective":
        return groups[entry["group"]], entry["kind"]
    peer = entry["peer"]
    one, two = (stage, peer) if entry["category"] == "send" else (peer, stage)
    return f"{one * devices}→{two * devices}", entry["category"]


def count_wait(stage: dict, entry: dict, number: int, index: int, groups, exposed, row, devices: int) -> None:
    """A wait's time is that of what it ends."""
    begun = stage["entries"][entry["waits_for"]]
    if begun.get("category", "compute") in timelines.COMMUNICATES:
        row(*key_of(begun, number, groups, devices))["exposed_seconds"] += exposed.get((number, index), 0.0)


def write(rows: list[dict]) -> str:
    if not rows:
        return note("What is exchanged is not known: the plan has no timetable.json beside it.")

    def show(length: float | None) -> str:
        return "–" if length is None else seconds(length)

    head = ["ranks", "kind", "calls", "bytes", "predicted", "of it exposed"]
    lines = []
    for row in rows:
        cells = [row["calls"], size(row["bytes"]), show(row["seconds"]), show(row["exposed_seconds"])]
        lines.append(
            f'<tr data-group="{text(row["group"])}" data-kind="{text(row["kind"])}" data-bytes="{row["bytes"]}">'
            f'<td class="words">{text(row["group"])}</td><td class="words">{text(row["kind"])}</td>'
            + "".join(f"<td>{text(cell)}</td>" for cell in cells)
            + "</tr>"
        )
    whole = table(head, [], 2, "communication by group of ranks and kind").replace(
        "<tbody>", "<tbody>" + "".join(lines)
    )
    untold = any(row["seconds"] is None for row in rows)
    return whole + note(
        "Of each stage one rank's, of each group one of those that meet at a time; bytes are those of the whole value."
        + (" – : collectives that a module's own work contains, whose time is not told from it." if untold else "")
    )
