"""Diagnostics start in lower case and do not end in a full stop, so that they read well after `error:`."""

import re

from tree import Finding, line_of

CALL = re.compile(r"\b(emitOpError|emitError|emitWarning|emitOptionalError|notifyMatchFailure)\s*\(")
LITERAL = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
# Words of the field that are written in capitals: TP, NCCL, 1F1B, ZeRO, LibTorch, PyTorch.
ACRONYM = re.compile(r"\w*[A-Z]\w*[A-Z]")


def statement(text, start):
    """The text from `start` to the `;` that ends the statement, string literals skipped over."""
    index = start
    while index < len(text):
        if text[index] == '"':
            match = LITERAL.match(text, index)
            index = match.end() if match else index + 1
            continue
        if text[index] in ";{":
            break
        index += 1
    return text[start:index]


def check(tree):
    for path in tree.below("lib", "dialects", "include", suffixes=(".cpp", ".h", ".td")):
        text = tree.text(path) or ""
        for match in CALL.finditer(text):
            if text[text.rfind("\n", 0, match.start()) + 1 : match.start()].lstrip().startswith("//"):
                continue
            body = statement(text, match.end())
            literals = [literal for literal in LITERAL.finditer(body) if literal.group(1)]
            if not literals:
                continue
            first, last = literals[0], literals[-1]
            word = first.group(1).split(" ")[0]
            # A literal after a value that is printed first, as in `emitError() << name << " is …"`, starts with a space.
            if word[:1].isupper() and not ACRONYM.match(word):
                yield Finding(
                    path,
                    line_of(text, match.end() + first.start()),
                    f'message starts with a capital: "{first.group(1)}"',
                    "start in lower case, as in `expects X, but got Y`",
                )
            is_end = not body[last.end() :].strip().strip(")").strip()
            if is_end and re.search(r"[^.]\.\s*(\\n)?$", last.group(1)):
                yield Finding(
                    path,
                    line_of(text, match.end() + last.start()),
                    f'message ends in a full stop: "{last.group(1)}"',
                    "drop it",
                )
