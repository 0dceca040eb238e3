"""The rooms of lib stand in layers: a folder includes only folders below it, in the order of the picture in the README.

A room is a folder lib/<Room>, with its headers in include/galvatron/<Room>; where a room has folders of its own these are
rooms too (lib/Search/Model). The picture is the fenced block after the line that starts with PICTURE: each of its lines
starts with the rooms that stand side by side, `a, b`, highest first, followed by two spaces and what they are for.
Rooms of one line may not include each other.
"""

import re

from rules_includes import SOURCES, included
from tree import Finding

README = "README.md"
PICTURE = "**Rooms.**"


def picture(tree):
    """({room: height}, line number of the picture); height 0 is the lowest line."""
    lines = list(tree.lines(README))
    start = next((number for number, line in lines if line.startswith(PICTURE)), None)
    if start is None:
        return {}, 1
    rows, fences = [], 0
    for number, line in lines[start:]:
        if line.startswith("```"):
            fences += 1
            if fences == 2:
                break
        elif fences == 1 and line.strip():
            rows.append(re.split(r"\s{2,}", line.strip())[0].split(", "))
    return {room: height for height, row in enumerate(reversed(rows)) for room in row}, start


def room_of(path, rooms, reader=""):
    """The room that a file of lib or include lies in, or None; a folder that the picture does not know is its own.

    Headers that all folders of a room share lie in include/galvatron/<Room>: they belong to the folder `reader` where that is
    one of these, for others to the lowest.
    """
    match = re.match(r"(?:lib|include/galvatron)/(.+)/[^/]+$", path)
    if not match:
        return None
    folder = match.group(1)
    below = [room for room in rooms if room.startswith(folder + "/")]
    if folder in rooms or not below:
        return folder
    return reader if reader in below else min(below, key=rooms.get)


def check(tree):
    rooms, line = picture(tree)
    if not rooms:
        yield Finding(README, line, f"has no picture of the rooms after a line `{PICTURE} …`", "draw it")
        return
    seen = set()
    for path in tree.below("lib", "include/galvatron", suffixes=SOURCES):
        room = room_of(path, rooms)
        if room is None:
            continue
        seen.add(room)
        if room not in rooms:
            yield Finding(path, 1, f"lies in {room}, which the picture of {README} does not have", "draw it there")
            continue
        for number, name, own in included(tree, path):
            other = room_of(own, rooms, reader=room) if own else None
            if other and other != room and rooms.get(other, -1) >= rooms[room]:
                yield Finding(
                    path,
                    number,
                    f"in {room} includes {name} of {other}, which does not stand below it in {README}",
                    "move what both need to a room below",
                )
    for room in rooms:
        if room not in seen:
            yield Finding(README, line, f"the picture has {room}, but there is no such folder", "take it out")
