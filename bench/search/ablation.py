#!/usr/bin/env python3
"""What each part of the search is worth: time, quality and `proven_within` with it and without it.

  bench/search/ablation.py --build build -o bench/search/results/ablation

A part is left out by a change of some lines of this tree, which is built, copied and changed back: the product has no
switches for it. Writes ablation.md (a row a part) and ablation.csv (a row a case). Seconds are CPU seconds of one
thread, so that other work on the machine does not count.
"""

import argparse
import csv
import datetime
import json
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))
import report

INPUTS = ROOT / "test/Search/Inputs"
PROGRAMS = ROOT / "test/Inputs/imported"
# Part: its cases, and per file the lines that change when it is left out.
PARTS = {
    "RegularPlans": (
        "native",
        {"lib/Search/Solver/Solver.cpp": [("  regularPlans(true);\n", ""), ("  regularPlans(false);\n", "")]},
    ),
    "BordersBound": (
        "native",
        {"lib/Search/Solver/Solver.cpp": [("    if (candidate.hasExactSearch() && candidate.bound() < limit",
                                           "    if (false && candidate.bound() < limit")]},
    ),
    "HullPlans": ("native", {"lib/Search/Solver/Solver.cpp": [("    hullPlans();\n", "")]}),
    "StageMultisets": (  # its relaxation: then all multisets that fit are enumerated
        "reference",
        {
            "lib/Search/Reference/StageMultisets.cpp": [
                ("bounds[option].at(double(budget) / left)", "bounds[option].at(1e12)"),
                ("sums[option].at(double(budget) / left)", "sums[option].at(1e12)"),
            ]
        },
    ),
    "RankedPlans": ("programs", {"lib/Driver/OneBudgetSearch.cpp": [("  while (left > 0) {", "  while (false) {")]}),
}
LLAMA_7B = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 11008}
LLAMA_70B = {"hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
             "intermediate_size": 28672}
LLAMA_1B = {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
            "intermediate_size": 8192}
# Model, nodes, devices of a node, kind, GB of a device: from little memory to plenty.
SHAPES = [
    ("7b", LLAMA_7B, 1, 8, "a100", (18, 20, 24, 32, 80)),
    ("7b", LLAMA_7B, 2, 8, "a100", (10, 12, 16, 24)),
    ("7b", LLAMA_7B, 4, 4, "h100", (10, 14, 80)),
    ("70b", LLAMA_70B, 4, 8, "h100", (48, 60, 80)),
    ("70b", LLAMA_70B, 8, 8, "h100", (24, 32, 48, 80)),
    ("70b", LLAMA_70B, 128, 8, "h100", (20, 80)),
    ("1b", LLAMA_1B, 1, 4, "cpu", (8, 10, 14)),
    ("1b", LLAMA_1B, 1, 8, "a100", (4, 6, 8, 40)),
]


def native_cases(tool, folder):
    for path in sorted((INPUTS / "galvatron-reference").glob("*.json")):
        yield path.stem, [tool, "--config", path, "--root", INPUTS]
    for name, shape, nodes, devices, kind, sizes in SHAPES:
        for gigabytes in sizes:
            for batch in (32, 128):
                case = f"{name} {nodes}x{devices} {kind} {gigabytes} GB batch {batch}"
                stem = folder / case.replace(" ", "_")
                model, cluster = stem.with_suffix(".model.json"), stem.with_suffix(".cluster.json")
                fixed = {"vocab_size": 32000, "hidden_act": "silu", "max_position_embeddings": 4096}
                model.write_text(json.dumps(shape | fixed))
                cluster.write_text(json.dumps({"nodes": nodes, "devices_per_node": devices, "device": kind,
                                               "memory_bytes_per_device": gigabytes * 10**9}))
                yield case, [tool, "--model", model, "--cluster", cluster, "--global-batch", str(batch)]


def reference_cases(tool, folder):
    """The reference's cases, and with twice the layers and memory."""
    for path in sorted((INPUTS / "galvatron-reference").glob("*.json")):
        for times in (1, 2):
            inputs = json.loads(path.read_text())["inputs"]
            inputs["model"]["num_layers"] *= times
            hardware = inputs["args"]["hardware_info"]
            hardware["memory_constraint"] = times * hardware.get("memory_constraint", 24)
            config = folder / f"{path.stem}-{times}.json"
            config.write_text(json.dumps(inputs))
            command = [tool, "--config", config, "--root", INPUTS, "--cost-model=galvatron", "--time-limit", "60"]
            yield f"{path.stem}, {times} x layers", command


def program_cases(tool, folder):
    for path in sorted(PROGRAMS.glob("*.mlir")):
        for ranks in (2, 8):
            for kilobytes in (500, 850, 1300, 1700, 3000):
                case = f"{path.stem} on {ranks}, {kilobytes} KB"
                yield case, [tool, "--search", "--compile-to=plan", path, f"--ranks={ranks}",
                             f"--memory={kilobytes}KB", "--global-batch=16"]


KINDS = {
    "native": ("galvatron-search", native_cases),
    "reference": ("galvatron-search", reference_cases),
    "programs": ("galvatron-opt", program_cases),
}


def build(folder, tool, to):
    subprocess.run(["cmake", "--build", folder, "--target", tool], check=True, stdout=subprocess.DEVNULL)
    shutil.copy(folder / "bin" / tool, to)


def build_without(part, folder, tool, to):
    changes = PARTS[part][1]
    before = {path: (ROOT / path).read_text() for path in changes}
    try:
        for path, lines in changes.items():
            text = before[path]
            for old, new in lines:
                if old not in text:
                    sys.exit(f"ablation: error: {path} lacks '{old.strip()}'; say anew how to leave {part} out")
                text = text.replace(old, new)
            (ROOT / path).write_text(text)
        build(folder, tool, to)
    finally:
        for path, text in before.items():
            (ROOT / path).write_text(text)


def run(command):
    """CPU seconds, seconds of a step (None: no plan) and proven_within (None: not said)."""
    one_thread = [] if "--compile-to=plan" in command else ["--quiet", "--threads", "1"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    result = subprocess.run([*command, *one_thread], capture_output=True, text=True)
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    if "--compile-to=plan" in command:
        step = re.search(r"predicted_step_seconds = ([0-9.e+-]+)", result.stdout)
        return seconds, float(step.group(1)) if step else None, None
    output = json.loads(result.stdout) if result.stdout else {}
    return seconds, output.get("iteration_seconds"), output.get("proven_within")


def measure(part, folder, temporary):
    tool, cases = KINDS[PARTS[part][0]]
    whole, less = temporary / tool, temporary / f"{tool}-without"
    build(folder, tool, whole)
    build_without(part, folder, tool, less)
    for (case, command), (_, shorter) in zip(cases(whole, temporary), cases(less, temporary)):
        (seconds, step, proven), (less_seconds, less_step, less_proven) = run(command), run(shorter)
        yield {"part": part, "case": case, "seconds": round(seconds, 3), "seconds_without": round(less_seconds, 3),
               "step": step, "step_without": less_step, "proven_within": proven, "proven_within_without": less_proven}
    build(folder, tool, temporary / tool)  # leaves the build folder as it was


def summarize(part, rows):
    planned = [row for row in rows if row["step"]]
    losses = [row["step_without"] / row["step"] - 1 for row in planned if row["step_without"]]
    worse = [loss for loss in losses if loss > 1e-9]
    better = [loss for loss in losses if loss < -1e-9]
    none = sum(not row["step_without"] for row in planned)
    mean = lambda key: sum(row[key] or 0 for row in planned) / len(planned)
    proven = "–"
    if any(row["proven_within"] is not None for row in planned):
        proven = f"{mean('proven_within'):.2%} / {mean('proven_within_without'):.2%}"
    return (part, len(planned), f"{sum(row['seconds'] for row in rows):.1f} / "
            f"{sum(row['seconds_without'] for row in rows):.1f}", none, len(worse),
            f"{max(worse, default=0):.2%}", f"{sum(worse) / max(1, len(worse)):.2%}", len(better), proven)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True, help="build folder of this tree")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this one (may be repeated)")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, help="without suffix")
    arguments = parser.parse_args()
    rows, summary = [], []
    with tempfile.TemporaryDirectory() as temporary:
        for part in arguments.part or PARTS:
            measured = list(measure(part, arguments.build.resolve(), pathlib.Path(temporary)))
            rows += measured
            summary.append(summarize(part, measured))
    with open(arguments.output.with_suffix(".csv"), "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    header = ["part", "cases", "seconds with / without", "no plan without", "slower plans without", "most", "mean",
              "faster plans", "`proven_within`, mean, with / without"]
    arguments.output.with_suffix(".md").write_text(
        f"Measured on {datetime.date.today()}, {report.hardware()}, by `bench/search/ablation.py`;\n"
        "CPU seconds of all cases, one thread. Cases in ablation.csv.\n\n" + report.table(header, summary))


if __name__ == "__main__":
    main()
