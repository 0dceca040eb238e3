"""Source files that comments and documents name are there: whoever follows the name of one that moved finds nothing.

A name may leave out folders in front, as an include does. Programs in MLIR and Python without a folder are examples, and
those of a build are made.
"""

import re

from tree import Finding

COMMENT = {
    suffix: re.compile(r"(?:^|\s)//(.*)") for suffix in (".h", ".cpp", ".c", ".cu", ".cuh", ".td", ".def", ".mlir")
}
COMMENT.update({suffix: re.compile(r"(?:^|\s)#(.*)") for suffix in (".py", ".txt", ".cmake", ".sh")})
COMMENT[".md"] = re.compile(r"(.*)")
# Of LLVM, CUDA and Hetu-Galvatron.
FOREIGN = re.compile(r"(?:llvm|mlir)/|cupti\.h$|tests/utils/")
EXAMPLE = re.compile(r"[^/]+\.(?:mlir|py)$|build/")
NAME = re.compile(r"(?<![\w./<>$}{*%-])((?:[\w-]+/)*\w[\w-]*\.(?:h|cpp|cu|cuh|td|def|py|mlir))(?![\w*{}/]|\.\w)")


def check(tree):
    known = {part for path in tree.files for part in endings(path)}
    for path in tree.files:
        comment = next((pattern for suffix, pattern in COMMENT.items() if path.endswith(suffix)), None)
        if not comment or path.startswith("test/Conventions/"):
            continue  # this rule and its tests
        for number, line in tree.lines(path):
            found = comment.search(line)
            for match in NAME.finditer(found.group(1)) if found and "RUN:" not in line else ():
                name = match.group(1)
                if name not in known and not FOREIGN.match(name) and not EXAMPLE.match(name):
                    yield Finding(path, number, f"names {name}, which is not there", "name where it is now")


def endings(path):
    """The path, and what is left of it without the first folder, the first two, …"""
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]
