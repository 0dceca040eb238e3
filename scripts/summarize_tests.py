"""Adds up the JUnit files of all test runners and prints the closing line.

Usage: summarize_tests.py FOLDER, where every runner left NAME.status (its exit status) and NAME.xml. A runner without a
readable NAME.xml, or with a failing status although no test of its failed, counts as one failure, so that a crash of the
runner itself cannot look green. Exit status 1 if anything failed.
"""

import pathlib
import sys
import xml.etree.ElementTree as ElementTree

# pytest's exit status when it found no test: an empty folder, not a failure.
NO_TESTS_COLLECTED = 5


def count(path):
    """(passed, names of failed, skipped) of one JUnit file."""
    passed, failed, skipped = 0, [], 0
    for case in ElementTree.parse(path).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(f"{case.get('classname', '')} {case.get('name')}".strip())
        elif case.find("skipped") is not None or case.get("status") in ("notrun", "disabled"):
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def summarize(folder):
    total_passed, total_failed, total_skipped = 0, 0, 0
    for status_file in sorted(folder.glob("*.status")):
        runner = status_file.stem
        status = int(status_file.read_text())
        try:
            passed, failed, skipped = count(folder / f"{runner}.xml")
        except (OSError, ElementTree.ParseError) as error:
            passed, failed, skipped = 0, [f"{runner}: left no results ({error})"], 0
        if status not in (0, NO_TESTS_COLLECTED) and not failed:
            failed = [f"{runner}: ended with exit status {status}" + (" (too slow)" if status == 124 else "")]
        print(f"{runner:12} {passed:5} passed {len(failed):5} failed {skipped:5} skipped")
        for name in failed:
            print(f"    FAILED {name}")
        total_passed += passed
        total_failed += len(failed)
        total_skipped += skipped
    print(f"{total_passed} passed, {total_failed} failed, {total_skipped} skipped")
    return 1 if total_failed or not total_passed else 0


if __name__ == "__main__":
    sys.exit(summarize(pathlib.Path(sys.argv[1])))
