"""The tree follows the conventions, and every rule is seen to fail on a small tree that breaks it."""

import os
import pathlib
import stat
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

import rules_errors
import rules_filecheck
import rules_includes
import rules_layers
import rules_messages
import rules_passes
import rules_paths
import rules_references
import rules_tools
from tree import Tree

PASSES_TD = """\
def SplitTensorsPass : Pass<"galvatron-split-tensors", "mlir::ModuleOp"> {
  let summary = "Gives every value its local shape";
  let description = [{
    Why.

    **Before:** placements.
    **After:** local shapes.
    **Example:**

    ```mlir
    func.func @a()
    ```

    ```mlir
    func.func @b()
    ```

    **Fails when:** never.
  }];
  let options = [];
  let statistics = [Statistic<"numSplit", "num-split", "Values split">];
  let dependentDialects = [];
}
"""
TEST_MLIR = """\
// RUN: galvatron-opt --galvatron-split-tensors %s | FileCheck %s

// CHECK: @b
func.func @a()
"""


def good_pass():
    """Files of one pass that break no rule."""
    return {
        "include/galvatron/Transforms/Shard.td": PASSES_TD,
        "lib/Transforms/Shard/SplitTensors.cpp": "// Why.\n",
        "test/Transforms/Shard/split-tensors.mlir": TEST_MLIR,
    }


@pytest.fixture
def findings(tmp_path):
    """Runs a rule over {path: content} and returns its findings as text."""

    def run(rule, files, opt=None):
        for path, content in files.items():
            target = tmp_path / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content)
        return [str(finding) for finding in rule(Tree(tmp_path, opt=opt))]

    return run


def only(found, *fragments):
    """There is exactly one finding, and it holds every fragment."""
    assert len(found) == 1, found
    for fragment in fragments:
        assert fragment in found[0]


def test_this_tree_follows_the_conventions():
    build = ROOT / os.environ.get("GALVATRON_BUILD_DIR", "build")
    opt = build / "bin" / "galvatron-opt"
    arguments = ["--opt", str(opt)] if opt.exists() else []
    script = str(HERE / "check_conventions.py")
    result = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


# --- includes ---------------------------------------------------------------------------------------------------------


def test_search_may_include_standard_library_json_and_itself(findings):
    own = '#include <vector>\n#include <unistd.h>\n#include <nlohmann/json.hpp>\n#include "galvatron/Search/Model/Plan.h"\n'
    files = {"lib/Search/Model/Plan.cpp": own, "include/galvatron/Search/Model/Plan.h": "#include <string>\n"}
    assert findings(rules_includes.check, files) == []


def test_search_may_not_include_mlir(findings):
    found = findings(rules_includes.check, {"lib/Search/Model/Plan.cpp": '#include <vector>\n#include "mlir/IR/Value.h"\n'})
    only(found, "lib/Search/Model/Plan.cpp:2:", "includes mlir/IR/Value.h")


def test_search_reads_yaml_in_formats_alone(findings):
    yaml = "#include <yaml-cpp/yaml.h>\n"
    found = findings(rules_includes.check, {"lib/Search/Formats/A.cpp": yaml, "lib/Search/Reference/B.cpp": yaml})
    only(found, "lib/Search/Reference/B.cpp:1:", "includes yaml-cpp/yaml.h")


def test_search_may_not_reach_llvm_through_a_header(findings):
    files = {
        "lib/Search/Model/Plan.cpp": '#include "galvatron/Support/Text.h"\n',
        "include/galvatron/Support/Text.h": '#include "llvm/ADT/StringRef.h"\n',
    }
    only(
        findings(rules_includes.check, files),
        "lib/Search/Model/Plan.cpp:1:",
        "llvm/ADT/StringRef.h through galvatron/Support",
    )


def test_runtime_may_include_mpi_but_not_mlir(findings):
    files = {
        "runtime/core/A.cpp": '#include <mpi.h>\n#include "runtime/core/A.h"\n',
        "runtime/core/A.h": '#pragma once\n#include "mlir/IR/Types.h"\n',
    }
    found = findings(rules_includes.check, files)
    assert len(found) == 2
    assert "runtime/core/A.cpp:2:" in found[0] and "runtime/core/A.h:2:" in found[1]


def test_libtorch_is_for_the_importer(findings):
    line = "#include <torch/script.h>\n"
    files = {"lib/Import/Load.cpp": line, "lib/Transforms/Load.cpp": line}
    only(findings(rules_includes.check, files), "lib/Transforms/Load.cpp:1:", "importer")


def test_verifier_shares_nothing_with_the_assigner(findings):
    files = {
        "lib/Transforms/Shard/VerifyPlacements.cpp": '#include "VerifyPlacements.h"\n',
        "lib/Transforms/Shard/VerifyPlacements.h": '#include "galvatron/Transforms/Passes.h"\n',
        "include/galvatron/Transforms/Passes.h": '#include "galvatron/Placement/Redistribution.h"\n',
        "include/galvatron/Placement/Redistribution.h": "",
        "lib/Transforms/Shard/AssignPlacements.cpp": '#include "galvatron/Placement/Redistribution.h"\n',
    }
    found = findings(rules_includes.check, files)
    assert [finding.split(":")[0] for finding in found] == list(files)[:2]
    assert "galvatron/Transforms/Passes.h -> include/galvatron/Placement/Redistribution.h" in found[0]


def test_tests_import_no_tests(findings):
    files = {
        "test/EndToEnd/test_a.py": "from test_b import compile_zero\n",
        "test/EndToEnd/test_b.py": "from harness import succeed\nimport testing\n",
        "test/Runtime/a_test.py": "import b_test\n",
    }
    found = findings(rules_includes.check, files)
    assert [finding.split(":")[0] for finding in found] == ["test/EndToEnd/test_a.py", "test/Runtime/a_test.py"]
    assert "imports the test test_b" in found[0]


# --- tools, messages, paths -------------------------------------------------------------------------------------------


def test_main_is_at_most_60_lines(findings):
    files = {"tools/a/a.cpp": "x\n" * 60, "tools/b/b.cpp": "x\n" * 61}
    only(findings(rules_tools.check, files), "tools/b/b.cpp:61:", "got 61")


@pytest.mark.parametrize(
    "code",
    [
        'op.emitOpError("expects X, but got Y");',
        'op.emitOpError() << "expects " << x << ", but got " << y;',
        'emitOpError("NCCL needs a GPU");',
        'emitError(loc) << name << " ends … in three dots...";',
        '// emitOpError("Commented out.")',
        'emitOpError("expects " + path + ".txt");',
    ],
)
def test_good_messages(findings, code):
    assert findings(rules_messages.check, {"lib/A.cpp": code + "\n"}) == []


def test_message_starts_in_lower_case(findings):
    files = {"lib/A.cpp": '\nreturn op.emitOpError("Expects X");\n'}
    only(findings(rules_messages.check, files), "lib/A.cpp:2:", "capital")


def test_message_has_no_full_stop(findings):
    files = {"dialects/A.cpp": 'emitOpError("expects X, but got ")\n    << y << " of them.";\n'}
    only(findings(rules_messages.check, files), "dialects/A.cpp:2:", "full stop")


@pytest.mark.parametrize("line", ["cd /home/me/tree", 'open("/tmp/model.pt")', "-I/root/include"])
def test_no_machine_paths(findings, line):
    only(findings(rules_paths.check, {"scripts/a.sh": "x\n" + line + "\n"}), "scripts/a.sh:2:", "one machine")


@pytest.mark.parametrize(
    "line", ["#!/usr/bin/env python3", "cat /proc/meminfo", "a/home/b", "$OUT/tmp/x", "/".join(("see docs", "work", "x"))]
)
def test_other_paths(findings, line):
    assert findings(rules_paths.check, {"scripts/a.sh": line + "\n"}) == []


def test_no_hosts_but_documentation(findings):
    files = {"a.md": "https://mlir.llvm.org/docs\nhttps://registry.example/simple\n"}
    only(findings(rules_paths.check, files), "a.md:2:", "registry.example")


def test_no_registry_options(findings):
    only(findings(rules_paths.check, {"a.sh": "pip install --index-url $X torch\n"}), "a.sh:1:", "registry")


# --- errors -----------------------------------------------------------------------------------------------------------

ERROR = 'return op.emitOpError("expects a rank of at least ") << rank << ", but got " << x;\n'


@pytest.mark.parametrize(
    "path, text",
    [
        ("test/a.mlir", "// expected-error @below {{expects a rank of at least 2}}\n"),
        ("test/a.test", "MESSAGE: error: {{.*}}a rank of at{{.*}}\n"),
        ("test/a.mlir", "// CHECK-SAME: expects a rank of\n"),
        ("test/unit/A.cpp", 'EXPECT_EQ(error, "expects a "\n          "rank of at least 2");\n'),
        ("test/python/a.py", 'match="expects a rank of at least 2"\n'),
    ],
)
def test_errors_that_tests_expect(findings, path, text):
    assert findings(rules_errors.check, {"lib/A.cpp": ERROR, path: text}) == []


@pytest.mark.parametrize(
    "report",
    [
        "throw ImportError(TEXT)",
        "throw std::runtime_error(TEXT)",
        "return fail(TEXT)",
        "emitWarning(TEXT)",
        "return Status::error(path, TEXT)",
        "GVRT_CHECK(context, x == y, TEXT)",
        "error = path + TEXT",
        "warning = path + TEXT",
        "warnings.push_back(path + TEXT)",
        "add(warning, TEXT)",
        "return TEXT",
    ],
)
def test_errors_of_every_kind(findings, report):
    statement = report.replace("TEXT", '"expects one model or none"')
    found = findings(rules_errors.check, {"runtime/A.cpp": f"{statement};\n"})
    only(found, "runtime/A.cpp:1:", "expects one model or none")


def test_errors_of_a_gpu_are_tested_too(findings):
    files = {"runtime/cuda/A.cpp": 'GVRT_FAIL(context, "expects one model or none");\n'}
    only(findings(rules_errors.check, files), "runtime/cuda/A.cpp:1:", "expects one model or none")


@pytest.mark.parametrize(
    "path, text",
    [
        ("test/a.mlir", "// It expects a rank of at least 2.\n"),
        ("test/a.mlir", "// RUN: grep 'expects a rank of at least'\n"),
        ("test/a.mlir", "// expected-error @below {{a rank}}\n"),
        ("test/a.mlir", "// expected-error @below {{expects a list of at least 2, but got 1}}\n"),
        ("test/unit/A.cpp", '// says "expects a rank of at least 2"\n'),
    ],
)
def test_errors_that_no_test_expects(findings, path, text):
    other = ERROR.replace("rank of", "list of")
    found = findings(rules_errors.check, {"lib/A.cpp": ERROR, "lib/B.cpp": other, path: text})
    only([finding for finding in found if finding.startswith("lib/A.cpp")], "lib/A.cpp:1:", "expects a rank of at least")


def test_short_errors_occur_whole(findings):
    files = {"lib/A.cpp": 'fail("no name");\nfail("no name twice");\n', "test/a.test": "A: no name twice\n"}
    assert findings(rules_errors.check, files) == []
    files["test/a.test"] = "A: no file\n"
    assert len(findings(rules_errors.check, files)) == 2


# --- FileCheck --------------------------------------------------------------------------------------------------------


def lit(*lines, run="galvatron-opt %s | FileCheck %s"):
    return {"test/Dialect/Graph/a.mlir": "\n".join([f"// RUN: {run}", *lines]) + "\n"}


@pytest.mark.parametrize(
    "line",
    [
        "// CHECK: a",
        "// CHECK-NEXT: a",
        "//CHECK-COUNT-2: a",
        "// CHECK{LITERAL}: [[",
        "// REQUIRES: import",
        "// A remark: of no concern",
        "// TP shards the columns: here",
    ],
)
def test_live_lines(findings, line):
    assert findings(rules_filecheck.check, lit(line)) == []


@pytest.mark.parametrize(
    "line",
    ["// CHECK foo", "// CHECK : foo", "// CHECKS-SAME: foo", "// CHECK-NXT: foo", "// CHEKC: foo", "// FOO-NEXT: foo"],
)
def test_dead_lines(findings, line):
    only(findings(rules_filecheck.check, lit(line)), "a.mlir:2:", "never checked")


def test_prefixes_are_those_of_the_run_lines(findings):
    run = "galvatron-opt %s | FileCheck %s --check-prefixes=ONE,TWO"
    only(findings(rules_filecheck.check, lit("// ONE: a", "// TWO-SAME: b", "// CHECK: c", run=run)), "a.mlir:4:")


def test_checks_without_filecheck_are_dead(findings):
    only(findings(rules_filecheck.check, lit("// CHECK: a", run="galvatron-opt %s")), "a.mlir:2:", "no prefix")


def test_expected_errors_need_verify_diagnostics(findings):
    only(findings(rules_filecheck.check, lit("// expected-error @below {{x}}")), "a.mlir:2:", "-verify-diagnostics")


def test_invalid_files_split_and_verify(findings):
    files = {"test/Transforms/x-invalid.mlir": "// RUN: galvatron-opt %s\n"}
    only(findings(rules_filecheck.check, files), "x-invalid.mlir:1:", "-split-input-file")


def test_file_without_run_line(findings):
    only(findings(rules_filecheck.check, {"test/Dialect/a.mlir": "// CHECK: a\n"}), "a.mlir:1:", "no RUN line")


def test_every_folder_that_lit_runs_is_looked_at(findings):
    text = "// RUN: galvatron-opt %s | FileCheck %s\n// CHECK foo\n"
    paths = ("test/New/a.mlir", "test/Search/b.test", "test/Tools/c.test", "test/Transforms/Shard/d.mlir")
    found = findings(rules_filecheck.check, {path: text for path in (*paths, "test/New/Inputs/e.mlir")})
    assert [finding.split(":")[0] for finding in found] == list(paths)


@pytest.mark.parametrize(
    "line, dead",
    [
        ("ONE: a", False),
        ("ONE-NEXT: a", False),
        ("One: a", False),
        ("ONE : a", True),
        ("TWO: a", True),
        ("ONE-NXT: a", True),
    ],
)
def test_lines_of_test_files_need_no_comment_sign(findings, line, dead):
    text = f"RUN: galvatron-opt --help | FileCheck %s --check-prefix=ONE\n{line}\n"
    found = findings(rules_filecheck.check, {"test/Tools/a.test": text})
    assert (len(found) == 1 and "a.test:2:" in found[0]) if dead else found == []


# --- references -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["// See lib/A/B.h.", "// A/B.h and B.h", "// B.h.inc", "// x.mlir", 'auto x = "C.h";'])
def test_files_that_comments_may_name(findings, line):
    assert findings(rules_references.check, {"lib/A/B.h": "", "lib/A/C.cpp": line}) == []


@pytest.mark.parametrize("path, line", [("lib/A/C.cpp", "x = 1; // see A/D.h"), ("docs/a.md", "as `lib/B.h` says")])
def test_files_that_are_not_there(findings, path, line):
    only(findings(rules_references.check, {"lib/A/B.h": "", path: line}), "which is not there")


# --- layers ------------------------------------------------------------------------------------------------------------

README = """\
**Rooms.** Of lib.

```
Driver            the main job
Solver/A, Axes    two that do not know each other
Support           what all use
```
"""


def rooms(**extra):
    files = {"README.md": README, "include/galvatron/Support/S.h": "", "include/galvatron/Axes/Axes.h": ""}
    files |= {"lib/Driver/D.cpp": '#include "galvatron/Axes/Axes.h"\n', "lib/Solver/A/A.cpp": ""}
    return files | {path.replace("__", "/") + ".cpp": text for path, text in extra.items()}


def test_rooms_include_rooms_below(findings):
    assert findings(rules_layers.check, rooms(lib__Axes__Axes='#include "galvatron/Support/S.h"\n')) == []


def test_rooms_may_not_include_rooms_above_or_beside(findings):
    found = findings(rules_layers.check, rooms(lib__Support__S='\n#include "galvatron/Axes/Axes.h"\n'))
    only(found, "lib/Support/S.cpp:2:", "does not stand below")
    found = findings(rules_layers.check, rooms(lib__Support__S="", lib__Solver__A__A='#include "galvatron/Axes/Axes.h"\n'))
    only(found, "lib/Solver/A/A.cpp:1:", "does not stand below")


def test_picture_and_folders_are_the_same(findings):
    files = rooms(lib__New__N="") | {"README.md": README.replace("Driver ", "Driver, Gone ")}
    new, gone = findings(rules_layers.check, files)
    only([new], "lib/New/N.cpp:1:", "does not have")
    only([gone], "README.md:1:", "Gone")


def test_no_picture(findings):
    only(findings(rules_layers.check, {"README.md": "# x\n"}), "has no picture")


# --- passes -----------------------------------------------------------------------------------------------------------


def test_good_pass_breaks_no_rule(findings):
    for rule in (
        rules_passes.check_names,
        rules_passes.check_tests,
        rules_passes.check_documentation,
        rules_passes.check_examples,
    ):
        assert findings(rule, good_pass()) == []


def changed(path, old, new):
    files = good_pass()
    assert old in files[path]
    files[path] = files[path].replace(old, new, 1)
    return files


TD = "include/galvatron/Transforms/Shard.td"


def test_record_is_named_after_the_flag(findings):
    files = changed(TD, "SplitTensorsPass", "TensorSplitterPass")
    only(findings(rules_passes.check_names, files), "Shard.td:1:", "name the record SplitTensorsPass")


def test_flag_is_kebab_case_and_begins_with_the_project(findings):
    files = changed(TD, "galvatron-split-tensors", "split-tensors")
    only(findings(rules_passes.check_names, files), "has the flag split-tensors")


def test_pass_has_a_source_of_its_name(findings):
    files = good_pass()
    del files["lib/Transforms/Shard/SplitTensors.cpp"]
    only(findings(rules_passes.check_names, files), "lib/Transforms/Shard/SplitTensors.cpp")


def test_conversions_are_in_conversion(findings):
    files = {
        "include/galvatron/Conversion/Passes.td": PASSES_TD,
        "lib/Conversion/SplitTensors.cpp": "",
    }
    only(findings(rules_passes.check_names, files), "is in Conversion; move it to Transforms")


def test_source_is_a_pass_or_a_part_of_one(findings):
    files = good_pass() | {
        "lib/Transforms/Shard/SplitTensors.cpp": '#include "Splitting.h"\n',
        "lib/Transforms/Shard/Splitting.h": "",
        "lib/Transforms/Shard/SplitNorms.cpp": '#include "Splitting.h"\n',
        "lib/Transforms/Shard/Other.cpp": "",
    }
    only(findings(rules_passes.check_names, files), "lib/Transforms/Shard/Other.cpp:1:", "nor a part of one")


def test_pass_has_a_test(findings):
    files = good_pass()
    del files["test/Transforms/Shard/split-tensors.mlir"]
    only(findings(rules_passes.check_tests, files), "has no test; write test/Transforms/Shard/split-tensors.mlir")


def test_test_runs_its_pass(findings):
    files = changed("test/Transforms/Shard/split-tensors.mlir", "--galvatron-split-tensors", "--galvatron-split-tensors-more")
    only(findings(rules_passes.check_tests, files), "does not run --galvatron-split-tensors")


def test_errors_have_an_invalid_test(findings):
    files = good_pass() | {"lib/Transforms/Shard/SplitTensors.cpp": 'op.emitOpError("expects X");\n'}
    only(findings(rules_passes.check_tests, files), "split-tensors-invalid.mlir")


def test_test_is_named_after_a_pass(findings):
    files = good_pass() | {
        "test/Transforms/Shard/split-tensors-uneven.mlir": TEST_MLIR,
        "test/Transforms/Shard/unsplit.mlir": TEST_MLIR,
    }
    only(findings(rules_passes.check_tests, files), "test/Transforms/Shard/unsplit.mlir:1:")


def test_fields_are_in_order(findings):
    statistics = '  let statistics = [Statistic<"numSplit", "num-split", "Values split">];\n'
    files = changed(TD, "  let options = [];\n" + statistics, statistics + "  let options = [];\n")
    only(findings(rules_passes.check_documentation, files), "Shard.td:20:", "has statistics where options belongs")


@pytest.mark.parametrize("field", ["summary", "description", "statistics"])
def test_fields_are_there(findings, field):
    files = changed(TD, f"let {field} =", f"let other{field} =")
    assert any(f"has no {field}" in finding for finding in findings(rules_passes.check_documentation, files))


@pytest.mark.parametrize(
    "summary, fragment",
    [
        ("Gives every value its local shape.", "full stop"),
        ("Give every value its local shape", "third person"),
        ("Splits tensors", None),
        ("Split tensors", "repeats the flag"),
    ],
)
def test_summary(findings, summary, fragment):
    files = changed(TD, "Gives every value its local shape", summary)
    found = findings(rules_passes.check_documentation, files)
    assert any(fragment in finding for finding in found) if fragment else found == []


def test_description_has_its_parts(findings):
    files = changed(TD, "**After:**", "Afterwards:")
    only(findings(rules_passes.check_documentation, files), "has no **After:**")


def test_parts_of_the_description_are_in_order(findings):
    files = changed(TD, "**Before:**", "**X:**")
    files[TD] = files[TD].replace("**After:**", "**Before:**").replace("**X:**", "**After:**")
    only(findings(rules_passes.check_documentation, files), "out of order")


def test_two_examples(findings):
    files = changed(TD, "    ```mlir\n    func.func @b()\n    ```\n", "")
    only(findings(rules_passes.check_examples, files), "expects two ```mlir blocks in its description, but got 1")


def test_examples_are_short(findings):
    lines = [f"func.func @a{index}()" for index in range(13)]
    files = changed(TD, "    func.func @a()\n", "".join(f"    {line}\n" for line in lines))
    files["test/Transforms/Shard/split-tensors.mlir"] = TEST_MLIR.replace("func.func @a()\n", "\n".join(lines) + "\n")
    only(findings(rules_passes.check_examples, files), "example of 13 lines")


def test_example_stands_first_in_the_test(findings):
    files = changed("test/Transforms/Shard/split-tensors.mlir", "func.func @a()", "func.func @c()\nfunc.func @a()")
    only(findings(rules_passes.check_examples, files), "Shard.td:10:", "differs at `func.func @c()`")


def fake_opt(tmp_path, body):
    """A stand-in for galvatron-opt: a shell script."""
    path = tmp_path / "opt.sh"
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_example_parses(findings, tmp_path):
    opt = fake_opt(tmp_path, 'echo "a.mlir:1:1: error: no such op" >&2; exit 1\n')
    only(findings(rules_passes.check_examples, good_pass(), opt), "input block fails", "no such op")


def test_pass_makes_the_output_of_its_example(findings, tmp_path):
    right = fake_opt(tmp_path, 'if [ "$1" = - ]; then cat; else sed s/@a/@b/; fi\n')
    assert findings(rules_passes.check_examples, good_pass(), right) == []
    wrong = fake_opt(tmp_path, "cat\n")
    only(
        findings(rules_passes.check_examples, good_pass(), wrong),
        "makes of its example `func.func @a()`",
        "`func.func @b()`",
    )
