"""Every error and warning of compiler and runtime occurs in a test: what none has seen may be wrong, or never said.

An error's text is what a statement that reports one has in quotes, or one that keeps a text to be reported (`error =
"..."`, `return "expects ..."`); values stand between. A test knows the text where what it expects (not its comments,
nor its input) has three consecutive words of it that no other error has. A text without such words must occur with the
longest of its parts.
"""

import collections
import re

from rules_messages import LITERAL, statement
from tree import Finding, line_of

REPORTS = (
    "emitOpError",
    "emitError",
    "emitOptionalError",
    "emitWarning",
    "emitRemark",
    "fail",
    "ImportError",
    "complain",
    "refuse",
    "reportError",
    "reportUsage",
    "Status::error",
    "GVRT_FAIL",
    "GVRT_CHECK",
)
REPORT = re.compile(
    rf"\b(?:{'|'.join(REPORTS)})\s*\(|\bwarnings\.push_back\s*\(|\badd\s*\((?=warning,)"
    r"|\bthrow\s+std::\w+\s*\(|\bError\s*\{"
    r"|(?<!error_code )\b(?:error|problem|message|finding|warning)\s*=(?!=)|\breturn\s+(?=\"(?:expects|cannot|there)\b)"
)
FOLDERS = ("lib", "dialects", "include", "runtime")
# Texts that no test can wait for, as the finding below shows them: what happens before Ctrl-C is a matter of time; a
# value that is always replaced; what the fit of a line would say of points that differ; what a bug of the importer
# would say; what a disk says that fills up or goes away between one call and the next; what the linker prevents; what a
# GPU, its links and its libraries say that are broken, busy or older than they must be.
UNTESTED = (
    "interrupted before any plan was found",
    "no cluster",
    "' keys … _bsz<b>_seq … do not determine a line; measure different batch sizes",
    "the imported program does not verify (",
    "cannot write tensor … to",
    "cannot rename … to",
    "cannot exchange … and",
    "this program was linked without a device library; compile it again",
    "cannot use GPU",
    "NCCL lost a communicator of … ranks:",
    "cudnn-frontend: … in",
    "cuDNN has no attention kernel for heads … , positions … , sizes",
)
WORDS = 3
EXPECTATION = re.compile(r"expected-(?:error|warning|remark)|^\s*(?://|#|;)?\s*[A-Z][A-Z0-9_]*(?:-[A-Z]+)?:(?!//)")


def error_texts(tree):
    """(path, line, parts of the text) of each statement that reports an error in words of its own."""
    for path in tree.below(*FOLDERS, suffixes=(".cpp", ".h", ".td")):
        text = tree.text(path) or ""
        for match in REPORT.finditer(text):
            if text[text.rfind("\n", 0, match.start()) + 1 : match.start()].lstrip().startswith("//"):
                continue
            body = re.sub(r'"\s*\n\s*"', "", statement(text, match.end()))
            parts = tuple(plain(literal.group(1)) for literal in LITERAL.finditer(body))
            parts = tuple(part for part in parts if re.search(r"[a-z]{2}", part))
            if parts and shown(parts) not in UNTESTED:
                yield path, line_of(text, match.start()), parts


def shown(parts):
    return " … ".join(part.strip() for part in parts)


def plain(text):
    """A text without escapes, its spaces single."""
    return re.sub(r"\s+", " ", re.sub(r"\\(.)", r"\1", text.replace("\\n", " ")))


def phrases(parts):
    """All runs of WORDS words."""
    for part in parts:
        words = part.split()
        for start in range(len(words) - WORDS + 1):
            yield " ".join(words[start : start + WORDS])


def expectations(tree):
    """Everything that tests expect, as one text: lines that lit's tools read, strings of programs."""
    found = []
    for path in tree.below("test", suffixes=(".mlir", ".test", ".py", ".cpp", ".h")):
        if path.startswith("test/Conventions/"):
            continue
        text = tree.text(path) or ""
        if path.endswith((".mlir", ".test")):
            lines = [line for line in text.splitlines() if "RUN:" not in line and EXPECTATION.search(line)]
            text = "\n".join(re.sub(r"\{\{|\}\}", " ", line) for line in lines)
        else:
            text = re.sub(r'"\s*\n\s*[fr]{0,2}"', "", text)
            text = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith(("#", "//")))
        found.append("\n".join(plain(line) for line in text.splitlines()))
    return "\n".join(found)


def check(tree):
    sites = list(error_texts(tree))
    count = collections.Counter(phrase for parts in {parts for *_, parts in sites} for phrase in set(phrases(parts)))
    expected = expectations(tree)
    for path, line, parts in sites:
        own = [phrase for phrase in phrases(parts) if count[phrase] == 1] or [max(parts, key=len).strip()]
        if not any(phrase in expected for phrase in own):
            yield Finding(
                path,
                line,
                f'no test expects the error "{shown(parts)[:80]}"',
                "write one that does; where no input can cause it, make it an assert",
            )
