"""timetable.json as the report reads it: what it shows is checked, with stage, entry and key."""

from __future__ import annotations

import json
import math

from galvatron import timelines

BUFFER_KINDS = (
    "weight", "master", "gradient", "first_moment", "second_moment", "activation", "gathered", "communication",
    "scratch", "workspace", "input",
)  # fmt: skip


WITH_ROWS = 2  # the version whose buffers and entries are rows
TEXTS = ("kind", "name", "unit", "stream", "category", "body")  # keys of these whose values are text


def refuse_constant(word: str):
    raise ValueError(f"{word} is no number of JSON")


def read_json(path: str, expected: str) -> dict:
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and json.JSONDecodeError are the former
        raise ValueError(f"{path}: {expected}, but it is no JSON ({error})") from None


def is_whole(value, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value, least: float = 0) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= least


def check_buffer(buffer, where: str, arena: int, entries: int) -> None:
    if (
        not isinstance(buffer, dict)
        or not isinstance(buffer.get("name"), str)
        or buffer.get("kind") not in BUFFER_KINDS
    ):
        raise ValueError(f"{where} expects a name and a kind of {', '.join(BUFFER_KINDS)}; lower the plan again")
    if (
        not all(is_whole(buffer.get(key), 0) for key in ("bytes", "offset"))
        or buffer["offset"] + buffer["bytes"] > arena
    ):
        raise ValueError(f"{where} expects bytes and offset within the arena of {arena} bytes; lower the plan again")
    if not isinstance(buffer.get("unit", ""), str):
        raise ValueError(f"{where} key 'unit' expects text; lower the plan again")
    if buffer.get("persistent"):
        return
    first, last = buffer.get("first"), buffer.get("last")
    if not is_whole(first, 0) or not is_whole(last, 0) or not first <= last < max(entries, 1):
        raise ValueError(f"{where} expects first and last of {entries} entries; lower the plan again")


def check_entry(entry, where: str) -> None:
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("name", "kind")):
        raise ValueError(f"{where} expects a name and a kind; lower the plan again")
    for key in ("start", "seconds", "bytes"):
        if key in entry and not is_number(entry[key]):
            raise ValueError(
                f"{where} key {key!r} expects a number of at least 0, but got {json.dumps(entry[key])[:40]}"
            )
    if entry.get("category", "compute") not in timelines.COMPUTES + timelines.COMMUNICATES:
        raise ValueError(
            f"{where} key 'category' is {json.dumps(entry['category'])[:40]}, which is none; lower the plan again"
        )
    for key in ("unit", "stream"):
        if not isinstance(entry.get(key, ""), str):
            raise ValueError(f"{where} key {key!r} expects text; lower the plan again")


def check_group(group, where: str, stages: int, ranks: int) -> None:
    loops = group.get("loops", []) if isinstance(group, dict) else None
    good = isinstance(loops, list) and all(
        isinstance(loop, list) and len(loop) == 2 and all(is_whole(number, 1) for number in loop) for loop in loops
    )
    if not good:
        raise ValueError(f"{where} expects loops of [ranks, distance]; lower the plan again")
    if sum((count - 1) * distance for count, distance in loops) >= ranks:
        raise ValueError(f"{where} key 'loops' expects some of the {ranks} ranks; lower the plan again")
    between = group.get("stages", [])
    if not isinstance(between, list) or not all(is_whole(stage, 0) and stage < stages for stage in between):
        raise ValueError(f"{where} key 'stages' expects numbers of the {stages} stages; lower the plan again")


def check_uses(entry: dict, where: str, stage: int, table: dict, bodies: dict) -> None:
    """What an entry names is there: its group, the other stage, what it waits for, its body and the body's groups."""
    own = table["stages"][stage]
    needs = {"collective": ("group", len(own["groups"])), "send": ("peer", len(table["stages"]))}
    needs["receive"] = needs["send"]
    key, count = needs.get(entry.get("category", "compute"), ("", 0))
    if entry["kind"] == "wait":
        key, count = "waits_for", len(own["entries"])
    if key and not (is_whole(entry.get(key), 0) and entry[key] < count):
        raise ValueError(
            f"{where} key {key!r} expects the number of one of {count}, but got {json.dumps(entry.get(key))[:40]}"
        )
    if key == "waits_for" and own["entries"][entry[key]]["kind"] == "wait":
        raise ValueError(
            f"{where} key 'waits_for' expects what was begun, but entry {entry[key]} is a wait; lower the plan again"
        )
    body = entry.get("body", "")
    if not isinstance(body, str) or body and body not in bodies:
        raise ValueError(f"{where} key 'body' expects the name of a body, but got {json.dumps(body)[:40]}")
    for group in bodies.get(body, []):
        if group >= len(own["groups"]):
            raise ValueError(
                f"{where} key 'body': {body} communicates over group {group}, which its stage does not have"
            )


def read_bodies(table: dict, path: str) -> dict[str, list[int]]:
    """The groups over which each body communicates, by its name."""
    bodies = {}
    for index, body in enumerate(table["bodies"]):
        where = f"{path}: body {index}"
        if (
            not isinstance(body, dict)
            or not isinstance(body.get("name"), str)
            or not isinstance(body.get("calls"), list)
        ):
            raise ValueError(f"{where} expects a name and calls; lower the plan again")
        for number, call in enumerate(body["calls"]):
            good = isinstance(call, dict) and is_number(call.get("bytes", 0)) and is_number(call.get("seconds", 0))
            if (
                not good
                or call.get("collective")
                and not (isinstance(call["collective"], str) and is_whole(call.get("group"), 0))
            ):
                raise ValueError(
                    f"{where} call {number} expects bytes and seconds, and of a collective its group; lower the plan again"
                )
        bodies[body["name"]] = [call["group"] for call in body["calls"] if call.get("collective")]
    return bodies


def check_span(stage: dict, key: str, where: str) -> None:
    span = stage.get(key, {"start": 0, "seconds": 0})
    if not isinstance(span, dict) or not all(is_number(span.get(word)) for word in ("start", "seconds")):
        raise ValueError(f"{where} key {key!r} expects start and seconds; lower the plan again")


def unpack_row(row, where: str, shapes: list, words: list[str]) -> dict:
    """What a row stands for: the keys of its shape with its values; text is the number of a word, or that and a number."""

    def is_number_of(value, table: list) -> bool:
        return is_whole(value, 0) and value < len(table)

    def text_of(key: str, value) -> str:
        if is_number_of(value, words):
            return words[value]
        if isinstance(value, list) and len(value) == 2 and is_number_of(value[0], words) and is_whole(value[1], 0):
            return f"{words[value[0]]} {value[1]}"
        raise ValueError(
            f"{where} key {key!r} expects the number of one of {len(words)} words, but got {json.dumps(value)[:40]}"
        )

    if not isinstance(row, list) or not row or not is_number_of(row[0], shapes) or len(row) != 1 + len(shapes[row[0]]):
        raise ValueError(f"{where} expects a row, the number of one of {len(shapes)} shapes and its values")
    return {key: text_of(key, value) if key in TEXTS else value for key, value in zip(shapes[row[0]], row[1:])}


def unpack_rows(table: dict, path: str) -> None:
    """Puts objects in the place of the rows of a large program's buffers and entries, as version 1 has them."""

    def are_texts(value) -> bool:
        return isinstance(value, list) and all(isinstance(each, str) for each in value)

    words, shapes = table.pop("words", None), table.pop("shapes", None)
    if not are_texts(words) or not isinstance(shapes, list) or not all(are_texts(shape) for shape in shapes):
        raise ValueError(f"{path}: keys 'words' and 'shapes' expect texts and lists of keys; lower the plan again")
    for number, stage in enumerate(table["stages"] if isinstance(table.get("stages"), list) else []):
        for key, element in (("buffers", "buffer"), ("entries", "entry")):
            if isinstance(stage, dict) and isinstance(stage.get(key), list):
                where = f"{path}: stage {number} {element}"
                stage[key] = [unpack_row(row, f"{where} {at}", shapes, words) for at, row in enumerate(stage[key])]
    table["version"] = 1


def read_timetable(path: str) -> dict:
    expected = "expects the timetable.json of an output folder"
    table = read_json(path, expected)
    if not isinstance(table, dict) or table.get("format") != "galvatron-timetable":
        raise ValueError(f"{path}: {expected}, but its key 'format' is not galvatron-timetable")
    if table.get("version") not in (1, WITH_ROWS):
        raise ValueError(
            f"{path}: key 'version' expects 1 or 2, but got {json.dumps(table.get('version'))[:40]}; lower the plan again"
        )
    if table["version"] == WITH_ROWS:
        unpack_rows(table, path)
    for key in ("devices_per_stage", "micro_batches", "global_batch"):
        if not is_whole(table.get(key), 1):
            raise ValueError(f"{path}: key {key!r} expects a whole number of at least 1; lower the plan again")
    for key in ("units", "stages", "bodies"):
        if not isinstance(table.get(key), list):
            raise ValueError(f"{path}: key {key!r} expects a list; lower the plan again")
    if not is_number(table.get("predicted_step_seconds", 0.0)):
        raise ValueError(f"{path}: key 'predicted_step_seconds' expects a number of at least 0; lower the plan again")
    for index, unit in enumerate(table["units"]):
        if not isinstance(unit, dict) or not isinstance(unit.get("path"), str) or not is_whole(unit.get("stage", 0), 0):
            raise ValueError(f"{path}: unit {index} expects path and stage; lower the plan again")
        if not isinstance(unit.get("layer_type", ""), str):
            raise ValueError(f"{path}: unit {index} key 'layer_type' expects text; lower the plan again")
    for key in ("model", "precision", "command", "created_by", "plan"):
        if not isinstance(table.get(key, ""), str):
            raise ValueError(f"{path}: key {key!r} expects text; lower the plan again")
    bodies = read_bodies(table, path)
    ranks = len(table["stages"]) * table["devices_per_stage"]
    for number, stage in enumerate(table["stages"]):
        where = f"{path}: stage {number}"
        if not isinstance(stage, dict) or not all(
            isinstance(stage.get(key), list) for key in ("buffers", "entries", "groups")
        ):
            raise ValueError(f"{where} expects lists of groups, buffers and entries; lower the plan again")
        if not is_whole(stage.get("arena_bytes"), 0):
            raise ValueError(f"{where} key 'arena_bytes' expects a whole number; lower the plan again")
        for index, buffer in enumerate(stage["buffers"]):
            check_buffer(buffer, f"{where} buffer {index}", stage["arena_bytes"], len(stage["entries"]))
        for index, entry in enumerate(stage["entries"]):
            check_entry(entry, f"{where} entry {index}")
        for index, group in enumerate(stage["groups"]):
            check_group(group, f"{where} group {index}", len(table["stages"]), ranks)
        for key in ("sums", "update"):
            check_span(stage, key, where)
    for number, stage in enumerate(table["stages"]):
        for index, entry in enumerate(stage["entries"]):
            check_uses(entry, f"{path}: stage {number} entry {index}", number, table, bodies)
    return table


def check_timetable(table: dict, path: str, plan: dict, plan_path: str) -> None:
    """A timetable is that of the plan beside it: the first thing that differs is named."""

    def differs(what: str, ours, theirs) -> ValueError:
        return ValueError(
            f"{path}: expects the program of {plan_path}, but {what} is {theirs} there and {ours} here; lower the plan again"
        )

    for key in ("global_batch", "micro_batches"):
        if table[key] != plan[key]:
            raise differs(key, table[key], plan[key])
    for index in range(max(len(table["units"]), len(plan["units"]))):
        ours = table["units"][index] if index < len(table["units"]) else {}
        theirs = plan["units"][index] if index < len(plan["units"]) else {}
        if (ours.get("path"), ours.get("stage", 0)) != (theirs.get("path"), theirs.get("stage", 0)):
            raise differs(
                f"module {index}",
                f"{ours.get('path', 'none')!r} of stage {ours.get('stage', 0)}",
                f"{theirs.get('path', 'none')!r} of stage {theirs.get('stage', 0)}",
            )
    devices = table["devices_per_stage"]
    if len(table["stages"]) * devices != plan["ranks"]:
        raise differs("the number of ranks", len(table["stages"]) * devices, plan["ranks"])
    for rank, peak in enumerate(plan.get("peak_bytes_per_rank", [])):
        arena = table["stages"][rank // devices]["arena_bytes"]
        if peak != arena:
            raise differs(f"peak_bytes_per_rank of rank {rank}", arena, peak)
