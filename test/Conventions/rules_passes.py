"""One guess leads from a pass's flag to its file, its record and its test; its documentation is complete and true."""

import re
import subprocess
import textwrap

from rules_includes import included
from tree import Finding, line_of

AREAS = ("Transforms", "Conversion")
DEFINITION = re.compile(r'^def\s+(\w+)\s*:\s*(?:Interface)?Pass<\s*"([^"]*)"', re.MULTILINE)
FIELDS = ("summary", "description", "options", "statistics", "dependentDialects")
SECTIONS = ("**Before:**", "**After:**", "**Example:**", "**Fails when:**")
LONGEST_BLOCK = 12


class Pass:
    """A record of a Passes.td."""

    def __init__(self, area, path, name, flag, line, body, body_line):
        self.area, self.path, self.name, self.flag, self.line = area, path, name, flag, line
        self.body, self.body_line = body, body_line
        # The file of the record names the folder of its source and its test: Shard.td, lib/Transforms/Shard, …
        room = path.rpartition("/")[2].removesuffix(".td")
        self.folder = area if room == "Passes" else f"{area}/{room}"

    @property
    def source(self):
        return f"lib/{self.folder}/{self.camel}.cpp"

    @property
    def test(self):
        return f"test/{self.folder}/{self.stem}.mlir"

    @property
    def invalid_test(self):
        return f"test/{self.folder}/{self.stem}-invalid.mlir"

    @property
    def stem(self):
        return self.flag.removeprefix("galvatron-")

    @property
    def camel(self):
        return "".join(word.capitalize() for word in self.stem.split("-"))

    def finding(self, message, remedy, offset=None):
        line = self.line if offset is None else self.body_line + self.body.count("\n", 0, offset)
        return Finding(self.path, line, f"{self.name} {message}", remedy)

    def fields(self):
        """(name, offset) of the `let`s at the top level of the record, in order."""
        return [(match.group(1), match.start()) for match in re.finditer(r"^  let (\w+) =", self.body, re.MULTILINE)]

    def field(self, name):
        """(value, offset of the value) of a [{…}] or quoted field; ("", 0) where it is missing."""
        match = re.search(
            rf"let {name} = (\[\{{(?P<block>.*?)\}}\]|\"(?P<text>(?:[^\"\\]|\\.)*)\")", self.body, re.DOTALL
        )
        if not match:
            return "", 0
        group = "block" if match.group("block") is not None else "text"
        return match.group(group), match.start(group)

    def examples(self):
        """(dedented text, offset) of the fenced blocks of the description."""
        description, start = self.field("description")
        for match in re.finditer(r"^[ ]*```mlir\n(.*?)^[ ]*```", description, re.DOTALL | re.MULTILINE):
            yield textwrap.dedent(match.group(1)), start + match.start()


def passes(tree):
    for area in AREAS:
        for path in tree.below(f"include/galvatron/{area}", suffixes=(".td",)):
            text = tree.text(path)
            definitions = list(DEFINITION.finditer(text))
            for match, following in zip(definitions, [*definitions[1:], None]):
                body = text[match.start() : following.start() if following else len(text)]
                line = line_of(text, match.start())
                yield Pass(area, path, match.group(1), match.group(2), line, body, line)


def check_names(tree):
    """Flag, record and file have one name, and the file is in the folder that the record's file says."""
    known = set()
    for item in passes(tree):
        known.add(item.source.lower())
        if not re.fullmatch(r"galvatron(-[a-z0-9]+)+", item.flag):
            yield item.finding(f"has the flag {item.flag}", "name it galvatron-verb-noun in kebab-case")
        if item.name.lower() != f"{item.camel}Pass".lower():
            yield item.finding(f"has the flag {item.flag}", f"name the record {item.camel}Pass, or the flag after it")
        area = "Conversion" if item.stem.startswith("convert-") else "Transforms"
        if area != item.area:
            yield item.finding(f"is in {item.area}", f"move it to {area} (convert-… is Conversion, others Transforms)")
        if item.source.lower() not in {path.lower() for path in tree.files}:
            yield item.finding("has no source of its name", f"put it into {item.source}")
    for area in AREAS:
        sources = tree.below(f"lib/{area}", suffixes=(".cpp",))
        shared = {header for path in sources if path.lower() in known for header in beside(tree, path)}
        for path in sources:
            if path.lower() not in known and not shared.intersection(beside(tree, path)):
                yield Finding(
                    path,
                    1,
                    f"is neither a pass of include/galvatron/{area} nor a part of one",
                    "name it as its pass, in the folder of its record's file; a part of a pass shares a header beside "
                    "it; what several passes need belongs in a room below lib/Transforms",
                )


def beside(tree, path):
    """Headers in the folder of a source that it includes."""
    folder = path.rpartition("/")[0]
    return {own for _, _, own in included(tree, path) if own and own.rpartition("/")[0] == folder}


def check_tests(tree):
    """Every pass has a test of its name that runs it, an invalid one where it reports errors; every test has a pass."""
    known = list(passes(tree))
    for item in known:
        if item.test not in tree.files:
            yield item.finding("has no test", f"write {item.test}")
        elif not runs_pass(tree, item.test, item):
            yield Finding(item.test, 1, f"does not run --{item.flag}", "add a RUN line that does")
        source = next((path for path in tree.files if path.lower() == item.source.lower()), None)
        reports = source and re.search(r"\bemit(Op)?Error\s*\(", tree.text(source) or "")
        if reports and item.invalid_test not in tree.files:
            yield item.finding("reports errors, but no test sees them", f"write {item.invalid_test}")
        elif item.invalid_test in tree.files and not runs_pass(tree, item.invalid_test, item):
            yield Finding(item.invalid_test, 1, f"does not run --{item.flag}", "add a RUN line that does")
    for area in AREAS:
        for path in tree.below(f"test/{area}", suffixes=(".mlir",)):
            name = path.removeprefix("test/").removesuffix(".mlir")
            names = [f"{item.folder}/{item.stem}" for item in known]
            if "Inputs/" not in name and not any(name == stem or name.startswith(f"{stem}-") for stem in names):
                yield Finding(
                    path, 1, "is named after no pass", "name it PASS.mlir or PASS-FACT.mlir, in the folder of the pass"
                )


def runs_pass(tree, path, item):
    pattern = re.compile(rf"{re.escape(item.flag)}(?![\w-])")
    return any("RUN:" in line and pattern.search(line) for _, line in tree.lines(path))


def check_documentation(tree):
    """summary, description with its four parts, options, statistics, dependentDialects, in this order."""
    for item in passes(tree):
        fields = [(name, offset) for name, offset in item.fields() if name in FIELDS]
        names = [name for name, _ in fields]
        for (name, offset), expected in zip(fields, sorted(names, key=FIELDS.index)):
            if name != expected:
                yield item.finding(f"has {name} where {expected} belongs", f"order: {', '.join(FIELDS)}", offset)
                break
        for required in ("summary", "description", "statistics"):
            if required not in names:
                yield item.finding(f"has no {required}", f"add `let {required} = …`")
        summary, offset = item.field("summary")
        if summary.endswith("."):
            yield item.finding("has a summary with a full stop", "drop it", offset)
        first = summary.split(" ")[0]
        if summary and not (first[:1].isupper() and first.endswith("s")):
            yield item.finding(
                f"has a summary that starts with `{first}`", "third person: `Raises …`, `Verifies …`", offset
            )
        if summary and re.sub(r"\W", "", summary).lower() == item.camel.lower():
            yield item.finding("has a summary that repeats the flag", "say what it is for", offset)
        description, offset = item.field("description")
        places = [description.find(section) for section in SECTIONS]
        for section, place in zip(SECTIONS, places):
            if description and place < 0:
                yield item.finding(
                    f"has no {section} in its description", f"parts, in order: {' '.join(SECTIONS)}", offset
                )
        present = [place for place in places if place >= 0]
        if present != sorted(present):
            yield item.finding("has the parts of its description out of order", f"order: {' '.join(SECTIONS)}", offset)


def content(text):
    """The lines of a test or example that are neither comments nor empty, without indentation."""
    stripped = [line.strip() for line in text.splitlines()]
    return [line for line in stripped if line and not line.startswith("//")]


def check_examples(tree):
    """The example's input stands first in the pass's test; both blocks parse, and the pass makes the second of the first."""
    for item in passes(tree):
        examples = list(item.examples())
        if len(examples) != 2:
            yield item.finding(
                f"expects two ```mlir blocks in its description, but got {len(examples)}", "give input and output"
            )
            continue
        for text, offset in examples:
            if len(text.splitlines()) > LONGEST_BLOCK:
                yield item.finding(
                    f"has an example of {len(text.splitlines())} lines", f"use at most {LONGEST_BLOCK}", offset
                )
        test = item.test
        if test not in tree.files:
            continue  # reported by check_tests
        (before, before_offset), (after, after_offset) = examples
        expected, actual = content(before), content(tree.text(test))
        if actual[: len(expected)] != expected:
            wrong = next((a for a, e in zip(actual, expected) if a != e), "the end of the file")
            yield item.finding(
                f"has an example that does not stand first in {test}, which differs at `{wrong[:60]}`",
                "copy the input block to the top of the test",
                before_offset,
            )
        if tree.opt:
            yield from run_example(tree, item, test, before, before_offset, after, after_offset)


def run_example(tree, item, test, before, before_offset, after, after_offset):
    outputs = []
    for what, text, offset, flags in (
        ("input", before, before_offset, []),
        ("output", after, after_offset, []),
        ("pass on its", before, before_offset, pass_arguments(tree, test, item)),
    ):
        result = subprocess.run(
            [str(tree.opt), *flags, "-"], input=text, capture_output=True, text=True, timeout=60, cwd=tree.root
        )
        if result.returncode:
            lines = result.stderr.strip().splitlines()
            reason = next((line for line in lines if "error:" in line), lines[0] if lines else "no message")
            yield item.finding(f"has an example whose {what} block fails: {reason}", "correct it", offset)
            return
        outputs.append(result.stdout)
    _, expected, actual = outputs
    if actual != expected:
        difference = next(
            (pair for pair in zip(actual.splitlines(), expected.splitlines()) if pair[0] != pair[1]), ("", "")
        )
        yield item.finding(
            f"makes of its example `{difference[0].strip()}`, where the output block has `{difference[1].strip()}`",
            f"show what `galvatron-opt {' '.join(pass_arguments(tree, test, item))}` prints",
            after_offset,
        )


def pass_arguments(tree, test, item):
    """The pass's flag with the options of the test's first RUN line that has it."""
    for _, line in tree.lines(test):
        match = re.search(rf"--?({re.escape(item.flag)}(?:=(?:\"[^\"]*\"|'[^']*'|\S+))?)(?![\w-])", line)
        if "RUN:" in line and match:
            return ["--" + match.group(1).replace('"', "").replace("'", "")]
    return ["--" + item.flag]
