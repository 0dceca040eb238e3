"""Times export, import and compilation of large weightless Llama models, and counts what grows with their layers.

    . scripts/env.sh
    python bench/compile_time.py -o bench/results/compile_time

Writes compile_time.md and compile_time.json. Seconds are wall time of the whole process; seconds of a core are what it and
its children (the linker) compute, confined to one core; resident memory is the process's high-water mark, or that of its
largest child, whichever is more.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import report

LLAMA_7B = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "vocab_size": 32000,
    "tie_word_embeddings": False,
}
LLAMA_70B = LLAMA_7B | {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
}
SEQUENCE = 4096
# Name, config, ranks, GiB of a device, the most seconds that import may take (None: no bound), and the most seconds of one
# core that search and lowering may.
CASES = [
    ("Llama-2-7B", LLAMA_7B, 8, 80, 3.0, 3.0),
    ("Llama-2-70B", LLAMA_70B, 8, 256, None, 8.0),
    ("Llama-2-70B", LLAMA_70B, 64, 80, None, 8.0),
]
RESIDENT_LIMIT_MB = 2000
PHASES = ["import", "shard", "stage", "lower"]


def confine() -> None:
    """To the first of the cores that this process may use."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def run(command: list[str], on_one_core: bool = False) -> tuple[float, float, float]:
    """Wall seconds, resident megabytes and seconds of all cores of a command."""
    with tempfile.TemporaryFile("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, preexec_fn=confine if on_one_core else None
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        if process.returncode != 0:
            sys.exit(f"compile_time: error: {' '.join(command)} failed:\n{output.read()}")
    return seconds, usage.ru_maxrss * 1024 / 1e6, usage.ru_utime + usage.ru_stime


def import_model(config: dict, folder: Path, batch: int) -> tuple[Path, dict]:
    (folder / "config.json").write_text(json.dumps(config))
    archive, model = folder / "model.pt", folder / "model.mlir"
    export = [sys.executable, "-m", "galvatron.export", "--config", str(folder / "config.json"), "--weightless"]
    export_seconds, export_mb, _ = run(export + ["-o", str(archive)])
    command = ["galvatron-import", str(archive), "--batch", str(batch), "--seq", str(SEQUENCE), "-o", str(model)]
    return model, {"export": (export_seconds, export_mb), "archive_bytes": archive.stat().st_size, "command": command}


def measure_case(case: tuple, folder: Path, repeats: int) -> dict:
    name, config, ranks, gigabytes, import_limit, compile_limit = case
    model, result = import_model(config, folder, batch=ranks)
    imports = [run(result["command"])[:2] for _ in range(repeats)]
    output = folder / "out"
    compile_command = ["galvatron-opt", "--search", "--lower", str(model), f"--ranks={ranks}"]
    compile_command += [f"--memory={gigabytes}GiB", f"--global-batch={ranks}", "-o", str(output)]
    compiles = [run(compile_command, on_one_core=True) for _ in range(repeats)]
    plan = json.loads((output / "plan.json").read_text())
    return {
        "model": name,
        "ranks": ranks,
        "memory_gib": gigabytes,
        "export_seconds": result["export"][0],
        "archive_bytes": result["archive_bytes"],
        "model_bytes": model.stat().st_size,
        "import_seconds": [seconds for seconds, _ in imports],
        "import_resident_mb": max(mb for _, mb in imports),
        "import_limit_seconds": import_limit,
        "compile_seconds": [seconds for seconds, _, _ in compiles],
        "compile_core_seconds": [core_seconds for _, _, core_seconds in compiles],
        "compile_resident_mb": max(mb for _, mb, _ in compiles),
        "compile_limit_seconds": compile_limit,
        "stages": len(list(output.glob("stage*"))),
        "stage_bytes": sum(path.stat().st_size for path in output.glob("stage*")),
        "strategies": sorted({json.dumps(unit["strategy"]) for unit in plan["units"]}),
    }


def count_program(text: str) -> dict:
    """Lines of the program, and ops of each body: the lines between its head and its end that are no closing brace."""
    bodies: dict[str, int] = {}
    current = None
    for line in text.splitlines():
        head = re.match(r"  (?:graph\.layer|dist\.body|exec\.function) @([\w.]+)", line)
        if head and line.endswith("{"):
            current = head.group(1)
            bodies[current] = 0
        elif line.startswith("  }"):
            current = None
        elif current and not re.match(r"\s*(\}|\^)", line):
            bodies[current] += 1
    return {"lines": len(text.splitlines()), "bodies": bodies}


def count_layers(layers: int, folder: Path) -> dict:
    """The same model with that many layers, under a budget that never binds, so that the plans are the same."""
    model, imported = import_model(LLAMA_7B | {"num_hidden_layers": layers}, folder, batch=8)
    run(imported["command"])
    options = ["--search", str(model), "--ranks=8", "--memory=16TiB", "--global-batch=8"]
    counts = {}
    for phase in PHASES:
        program = folder / f"{phase}.txt"
        run(["galvatron-opt", *options, f"--compile-to={phase}", "-o", str(program)])
        counts[phase] = count_program(program.read_text())
    run(["galvatron-opt", "--lower", *options, "-o", str(folder / "out")])
    counts["stage_bytes"] = sum(path.stat().st_size for path in (folder / "out").glob("stage*"))
    return counts


def against(seconds: float, limit: float | None) -> str:
    return f"{seconds:.2f} s" + (f" (≤ {limit:.0f} s)" if limit else "")


def text_of(result: dict) -> str:
    rows = [
        (
            f"{case['model']}, {case['ranks']} ranks",
            f"{case['export_seconds']:.1f} s",
            against(report.median(case["import_seconds"]), case["import_limit_seconds"]),
            f"{case['import_resident_mb']:.0f} MB",
            f"{report.median(case['compile_seconds']):.2f} s",
            against(report.median(case["compile_core_seconds"]), case["compile_limit_seconds"]),
            f"{case['compile_resident_mb']:.0f} MB",
            f"{case['stages']} × {case['stage_bytes'] / case['stages'] / 1024:.0f} KiB",
        )
        for case in result["cases"]
    ]
    text = f"# Compile time\n\n{result['date']}, {result['hardware']}; medians of {result['repeats']} runs.\n"
    text += f"{result['note']}\n" if result["note"] else ""
    text += f"Resident memory must stay below {RESIDENT_LIMIT_MB} MB.\n\n"
    header = ["model", "export", "import", "resident", "search and lower", "of one core", "resident", "stage binaries"]
    text += report.table(header, rows)
    eight, eighty = result["layers"]["8"], result["layers"]["80"]
    text += "\n## 8 and 80 equal layers\n\nLlama-2-7B's layer, 8 ranks, a budget that never binds.\n\n"
    rows = []
    for phase in PHASES:
        few, many = eight[phase], eighty[phase]
        rows.append(
            (
                phase,
                f"{sum(few['bodies'].values())} in {len(few['bodies'])}",
                f"{sum(many['bodies'].values())} in {len(many['bodies'])}",
                "equal" if few["bodies"] == many["bodies"] else "DIFFERENT",
                few["lines"],
                many["lines"],
                f"{(many['lines'] - few['lines']) / 72:.2f}",
            )
        )
    header = ["program after", "ops in bodies, 8", "80", "bodies", "lines, 8", "80", "lines a layer"]
    text += report.table(header, rows)
    growth = (eighty["stage_bytes"] - eight["stage_bytes"]) / 72
    text += f"\nStage binary: {eight['stage_bytes']:,} bytes with 8 layers, {eighty['stage_bytes']:,} with 80: "
    text += f"{growth:.0f} bytes a layer.\n"
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("compile_time"), help="result files, without suffix")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each command (default: 5)")
    parser.add_argument("--note", default="", help="a line for the report, such as what ran beside")
    arguments = parser.parse_args()
    result = {"date": str(datetime.date.today()), "hardware": report.hardware(), "repeats": arguments.repeats}
    result["note"] = arguments.note
    with tempfile.TemporaryDirectory() as folder:
        result["cases"] = [measure_case(case, Path(folder), arguments.repeats) for case in CASES]
        result["layers"] = {str(layers): count_layers(layers, Path(folder)) for layers in (8, 80)}
    report.write(result, text_of(result), arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
