"""scripts/summarize_tests.py: nothing that failed can look green."""

import pathlib
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "summarize_tests.py"
JUNIT = """<testsuites><testsuite>
<testcase classname="a" name="passes"/><testcase classname="a" name="is skipped"><skipped/></testcase>{}
</testsuite></testsuites>"""
FAILURE = '<testcase classname="a" name="fails"><failure>why</failure></testcase>'


def summarize(folder, **runners):
    """Runs the script over {runner: (exit status, JUnit text or None)}; (exit status, lines)."""
    for name, (status, xml) in runners.items():
        (folder / f"{name}.status").write_text(f"{status}\n")
        if xml is not None:
            (folder / f"{name}.xml").write_text(xml)
    result = subprocess.run([sys.executable, str(SCRIPT), str(folder)], capture_output=True, text=True)
    return result.returncode, result.stdout.splitlines()


def test_sums_over_runners(tmp_path):
    status, lines = summarize(tmp_path, lit=(0, JUNIT.format("")), unit=(1, JUNIT.format(FAILURE)))
    assert status == 1 and lines[-1] == "2 passed, 1 failed, 2 skipped"
    assert "    FAILED a fails" in lines


def test_all_green(tmp_path):
    assert summarize(tmp_path, lit=(0, JUNIT.format(""))) == (
        0,
        ["lit              1 passed     0 failed     1 skipped", "1 passed, 0 failed, 1 skipped"],
    )


def test_runner_without_results_failed(tmp_path):
    status, lines = summarize(tmp_path, lit=(124, None))
    assert status == 1 and lines[-1] == "0 passed, 1 failed, 0 skipped"


def test_runner_that_ends_badly_failed(tmp_path):
    status, lines = summarize(tmp_path, lit=(124, JUNIT.format("")))
    assert status == 1 and lines[-1] == "1 passed, 1 failed, 1 skipped"


def test_empty_folder_of_tests_is_no_failure(tmp_path):
    status, lines = summarize(tmp_path, lit=(0, JUNIT.format("")), python=(5, "<testsuites/>"))
    assert status == 0 and lines[-1] == "1 passed, 0 failed, 1 skipped"


def test_nothing_ran_is_a_failure(tmp_path):
    assert summarize(tmp_path, lit=(0, "<testsuites/>"))[0] == 1
