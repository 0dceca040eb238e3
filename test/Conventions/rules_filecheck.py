"""Lines of lit tests that look like checks but are never run."""

import difflib
import re

from tree import Finding

COMMENT = re.compile(r"^\s*(?://|#|;)\s*([A-Z][A-Z0-9_]*)(.*)$")
# A .test file is not a program: its lines need no comment sign.
BARE = re.compile(r"^([A-Z][A-Z0-9_]*)(-[\w-]*|\{LITERAL\})?(\s*:.*)$")
# What may follow a prefix, up to the colon that makes the line a directive.
DIRECTIVE = re.compile(r"^(-(NEXT|SAME|NOT|DAG|LABEL|EMPTY|COUNT-\d+))?(\{LITERAL\})?:")
# Comments in capitals that are lit's own.
LIT = ("RUN", "REQUIRES", "UNSUPPORTED", "XFAIL", "DEFINE", "REDEFINE", "END", "ALLOW_RETRIES", "COM")
EXPECTED = re.compile(r"//\s*expected-(error|warning|note|remark)")


def prefixes_of(text):
    """Check prefixes that the RUN lines declare."""
    runs = "\n".join(line for line in text.splitlines() if "RUN:" in line)
    prefixes = []
    for match in re.finditer(r"--?check-prefix(?:es)?[= ]([\w,-]+)", runs):
        prefixes += match.group(1).split(",")
    # A FileCheck without a prefix listens to CHECK.
    if any(
        "FileCheck" in part and "check-prefix" not in part for part in re.split(r"\||&&|\n", runs.replace("\\\n", " "))
    ):
        prefixes.append("CHECK")
    return prefixes


def check_file(tree, path):
    text = tree.text(path) or ""
    prefixes = prefixes_of(text)
    verifies = "-verify-diagnostics" in text
    if "RUN:" not in text:
        yield Finding(path, 1, "has no RUN line, so it never runs", "add one, or move the file to an Inputs folder")
        return
    if path.endswith("-invalid.mlir") and not (verifies and "-split-input-file" in text):
        yield Finding(
            path, 1, "is an invalid test without -split-input-file -verify-diagnostics", "add them to its RUN line"
        )
    for number, line in tree.lines(path):
        if EXPECTED.search(line) and not verifies:
            yield Finding(
                path, number, "expected-… is read only under -verify-diagnostics", "add the option to the RUN line"
            )
        match = COMMENT.match(line)
        bare = BARE.match(line) if path.endswith(".test") else None
        if not match and not bare:
            continue
        word, rest = match.groups() if match else (bare.group(1), (bare.group(2) or "") + bare.group(3))
        if word in LIT and re.match(r"^[-\w]*:", rest):
            continue
        if word in prefixes and DIRECTIVE.match(rest):
            continue
        looks_like = [
            prefix
            for prefix in [*prefixes, "CHECK"]
            if word.startswith(prefix) or difflib.SequenceMatcher(None, word, prefix).ratio() > 0.75
        ]
        is_directive = re.match(r"^-?[A-Z]*-?\w*\s*:", rest)
        if looks_like or bare or (prefixes and is_directive and rest.startswith("-")):
            known = ", ".join(dict.fromkeys(prefixes)) or "no prefix, since no RUN line has FileCheck"
            yield Finding(
                path,
                number,
                f"`{line.strip()[:60]}` is never checked",
                f"write PREFIX: or PREFIX-NEXT|SAME|NOT|DAG|LABEL|EMPTY|COUNT-n: (this file's RUN lines know {known})",
            )


def check(tree):
    """What lit runs: every .mlir and .test below test/ but inputs, as test/lit.cfg.py has it."""
    for path in tree.below("test", suffixes=(".mlir", ".test")):
        if "/Inputs/" not in path and "/corpus/" not in path:
            yield from check_file(tree, path)
