"""Checks the rules of the style guide that a program can check; prints file:line, finding and remedy for each.

Usage: check_conventions.py [--root FOLDER] [--opt PATH/galvatron-opt] [--rule NAME]...

Without --opt the rules that run the compiler are left out. Exit status 1 when there are findings. A rule is a function
from a Tree to Findings, registered in RULES; test_conventions.py sees every rule fail once.
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

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

RULES = {
    "includes": rules_includes.check,
    "layers": rules_layers.check,
    "pass-names": rules_passes.check_names,
    "pass-tests": rules_passes.check_tests,
    "pass-documentation": rules_passes.check_documentation,
    "pass-examples": rules_passes.check_examples,
    "messages": rules_messages.check,
    "errors": rules_errors.check,
    "filecheck": rules_filecheck.check,
    "paths": rules_paths.check,
    "references": rules_references.check,
    "tools": rules_tools.check,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default_root = pathlib.Path(__file__).resolve().parents[2]
    parser.add_argument("--root", type=pathlib.Path, default=default_root, help="source tree (default: this one)")
    parser.add_argument("--opt", type=pathlib.Path, help="galvatron-opt, for the rules that run it")
    parser.add_argument("--rule", action="append", choices=RULES, help="only this rule (may be repeated)")
    arguments = parser.parse_args()

    tree = Tree(arguments.root, opt=arguments.opt)
    findings = [finding for name in arguments.rule or RULES for finding in RULES[name](tree)]
    for finding in findings:
        print(finding)
    print(f"conventions: {len(findings)} findings in {len(tree.files)} files")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
