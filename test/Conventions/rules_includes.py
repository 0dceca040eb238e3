"""lib/Search and runtime build without MLIR, LibTorch stays in the importer, the verifier of placements shares nothing
with what assigns them, and tests import no tests.

Restrictions hold for what is included directly and for what headers of this tree pull in.
"""

import posixpath
import re

from tree import Finding

SOURCES = (".h", ".cpp", ".c", ".cu", ".cuh", ".def")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
# Where a quoted include is looked for besides the including file's folder.
SEARCH_PATH = ("", "include")

MLIR = ("mlir/", "mlir-c/", "llvm/", "llvm-c/")
TORCH = ("torch/", "ATen/", "c10/", "caffe2/")


def included(tree, path):
    """(line, name, path in this tree or None) of every #include of a file."""
    files = set(tree.files)
    for number, line in tree.lines(path):
        match = INCLUDE.match(line)
        if not match:
            continue
        name = match.group(2)
        folders = [posixpath.dirname(path), *SEARCH_PATH] if match.group(1) == '"' else []
        candidates = [posixpath.normpath(posixpath.join(folder, name)) for folder in folders]
        yield number, name, next((candidate for candidate in candidates if candidate in files), None)


def is_standard(name):
    """A header of the C++ standard library has neither a folder nor a suffix; of the C library's own, unistd.h (memory of
    this machine, whether the output is a terminal) has no C++ counterpart."""
    return name == "unistd.h" or ("/" not in name and "." not in name)


def reached(tree, path, seen=None):
    """(chain of files, foreign include) that a header of this tree pulls in."""
    seen = seen if seen is not None else {path}
    for _, name, own in included(tree, path):
        if own is None:
            yield [path], name
        elif own not in seen:
            seen.add(own)
            for chain, foreign in reached(tree, own, seen):
                yield [path, *chain], foreign


def check_area(tree, files, allowed, message, remedy):
    """Every foreign include that `files` reach must satisfy `allowed(name)`."""
    for path in files:
        for number, name, own in included(tree, path):
            if own is None:
                if not allowed(name):
                    yield Finding(path, number, f"{message}, but includes {name}", remedy)
                continue
            for chain, foreign in reached(tree, own):
                if not allowed(foreign):
                    via = " -> ".join([name, *chain[1:]])
                    yield Finding(path, number, f"{message}, but includes {foreign} through {via}", remedy)
                    break


def own_headers(tree, path, seen):
    """A chain of files for each header of this tree that a file pulls in, that header last."""
    for _, _, own in included(tree, path):
        if own and own not in seen:
            seen.add(own)
            yield [own]
            for chain in own_headers(tree, own, seen):
                yield [own, *chain]


def check_verifier(tree):
    """verify-placements would prove nothing with the assigner's rules or the planner of redistributions."""
    assigner = re.compile(r"galvatron/(Placement|Axes)/")
    for path in tree.below("lib/Transforms", suffixes=SOURCES):
        if not posixpath.basename(path).startswith("VerifyPlacements"):
            continue
        for chain in own_headers(tree, path, set()):
            if assigner.search(chain[-1]):
                yield Finding(
                    path,
                    1,
                    f"verifies placements, but includes what assigns them: {' -> '.join(chain)}",
                    "check against what the ops of dialects/ declare",
                )


def check_tests(tree):
    """Whoever reads a test finds what it shares with others in a module that is none, and runs each alone."""
    for path in tree.below("test", suffixes=(".py",)):
        for number, line in tree.lines(path):
            if match := re.match(r"\s*(?:from|import)\s+(test_\w+|\w+_test)\b", line):
                yield Finding(path, number, f"imports the test {match.group(1)}", "move what both use into a module of its own")


def check(tree):
    yield from check_verifier(tree)
    yield from check_tests(tree)
    search = tree.below("lib/Search", "include/galvatron/Search", "tools/galvatron-search", suffixes=SOURCES)
    for readers in (False, True):  # YAML is read in one room
        foreign = ("nlohmann/", "galvatron/Search/") + (("yaml-cpp/",) if readers else ())
        yield from check_area(
            tree,
            [path for path in search if path.startswith("lib/Search/Formats/") == readers],
            lambda name: is_standard(name) or name.startswith(foreign),
            "lib/Search may include only the standard library, JSON, in Formats YAML, and its own headers",
            "move what needs it to another library, or pass its result in",
        )
    generated = ("dialects/", "galvatron/")  # .h.inc files exist only in the build folder
    yield from check_area(
        tree,
        tree.below("runtime", suffixes=SOURCES),
        lambda name: not name.startswith(MLIR + TORCH + generated),
        "runtime knows nothing of MLIR, LibTorch or the compiler's headers",
        "keep the runtime self-contained; what both sides share belongs in runtime/api",
    )
    importer = ("lib/Import/", "include/galvatron/Import/", "tools/galvatron-import/", "test/unit/Import/")
    yield from check_area(
        tree,
        [
            path
            for path in tree.below("lib", "include", "dialects", "tools", "test", suffixes=SOURCES)
            if not path.startswith(importer)
        ],
        lambda name: not name.startswith(TORCH),
        "LibTorch is for the importer alone",
        "move the code to lib/Import",
    )
