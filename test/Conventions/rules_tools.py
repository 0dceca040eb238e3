"""Mains of tools hold no logic: at most 60 lines."""

from tree import Finding

LONGEST_MAIN = 60


def check(tree):
    for path in tree.below("tools", suffixes=(".cpp", ".c", ".py")):
        length = len((tree.text(path) or "").splitlines())
        if length > LONGEST_MAIN:
            yield Finding(
                path,
                LONGEST_MAIN + 1,
                f"expects a main of at most {LONGEST_MAIN} lines, but got {length}",
                "move the body to lib/Target (galvatron-opt) or the tool's library",
            )
