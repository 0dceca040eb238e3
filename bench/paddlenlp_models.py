"""Plans the two models of PaddleNLP's port of Galvatron on H100s of 80 GB: what fits, what binds, what it takes.

    . scripts/env.sh
    python bench/paddlenlp_models.py -o bench/results/paddlenlp_models

For each model and number of devices: export and import without weights, then search and lowering of all stages, timed
together (wall, and seconds that all cores computed, which is what it takes on a machine that does other things too);
step, exact bytes of the fullest rank and what binds, as `--explain` says it. Where nothing fits, the refusal names how
many devices do. Writes paddlenlp_models.md and .json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import report
from compile_time import LLAMA_7B
from imported import import_model

BATCH = 64
GIGABYTES = 80
PER_NODE = 8
LIMIT_SECONDS = 60


@dataclass(frozen=True)
class Model:
    name: str
    config: dict
    sequence: int
    devices: tuple[int, ...]


def config(layers: int, hidden: int, ffn: int, vocabulary: int, sequence: int) -> dict:
    return LLAMA_7B | {
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "max_position_embeddings": sequence,
        "vocab_size": vocabulary,
    }


MODELS = [
    Model("30B", config(72, 5120, 25600, 32000, 32768), 32768, (8, 64, 128)),
    Model("100B", config(74, 8192, 49152, 32000, 131072), 131072, (64, 128, 512)),
]


def core_seconds() -> float:
    """Of all children so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def plan(program: Path, devices: int) -> dict:
    """Search and lowering of the plan found, to the program of every stage."""
    cluster = program.with_name(f"h100x{devices}.json")
    nodes = {"nodes": max(1, devices // PER_NODE), "devices_per_node": min(PER_NODE, devices), "device": "h100"}
    cluster.write_text(json.dumps(nodes))
    command = ["galvatron-opt", "--search", "--target=cuda", "--explain", f"--cluster={cluster}"]
    command += [f"--memory={GIGABYTES}GB", "--compile-to=lower", str(program)]
    command += ["-o", str(program.with_suffix(".lowered"))]
    start, before = time.perf_counter(), core_seconds()
    result = subprocess.run(command, capture_output=True, text=True)
    row = {"devices": devices, "seconds": time.perf_counter() - start, "core_seconds": core_seconds() - before}
    text = result.stdout + result.stderr
    if result.returncode:
        return row | {"refused": text.strip().splitlines()[0].replace(f"{program}: ", "")}
    lowered = program.with_suffix(".lowered").read_text()
    notes = [line for line in text.splitlines() if re.match(r"memory (binds|does not)|slowest stage", line)]
    return row | {
        "plan": text.splitlines()[0],
        "strategies": sorted(set(re.findall(r"^\d+ +\S.*?  +(\S.*?)(?:  |$)", text, re.MULTILINE))),
        "arena_bytes": [int(found) for found in re.findall(r"dist\.arena_bytes = (\d+)", lowered)],
        "notes": notes,
    }


def plan_model(model: Model) -> list[dict]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        program = import_model(model.config, BATCH, model.sequence, Path(folder))
        for devices in model.devices:
            row = {"model": model.name} | plan(program, devices)
            if enough := re.search(r"or use (\d+) ranks, which are enough", row.get("refused", "")):
                row["enough"] = int(enough.group(1))
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
    return rows


def describe(row: dict) -> tuple[str, ...]:
    head = (f"{row['model']}, {row['devices']} devices", f"{row['seconds']:.1f} s", f"{row['core_seconds']:.1f} s")
    if "refused" in row:
        needs = re.search(r"needs (\d+) bytes", row["refused"])
        enough = f"; {row['enough']} devices suffice" if "enough" in row else ""
        least = f"the smallest plan needs {int(needs.group(1)):,} bytes" if needs else row["refused"]
        return *head, f"nothing fits: {least}{enough}", "–", "memory"
    return *head, row["plan"], f"{max(row['arena_bytes']):,}", "; ".join(row["notes"])


def text_of(result: dict) -> str:
    text = "# The models of PaddleNLP's port\n\n"
    text += f"{result['date']}, {result['hardware']}; H100s of {GIGABYTES} GB, {PER_NODE} a node, bf16, global batch "
    text += f"{BATCH}.\nSearch and lowering together must take at most {LIMIT_SECONDS} s. Bytes are those of the fullest "
    text += "rank's arena.\n\n"
    header = ["model", "search and lower", "of all cores", "plan", "bytes", "what binds"]
    text += report.table(header, (describe(row) for row in result["rows"]))
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("paddlenlp_models"), help="files, without suffix")
    parser.add_argument("--note", default="", help="what else ran, for instance")
    arguments = parser.parse_args()
    result = {"date": str(datetime.date.today()), "hardware": report.hardware(), "rows": []}
    if arguments.note:
        result["hardware"] += f", {arguments.note}"
    for model in MODELS:
        result["rows"] += plan_model(model)
    report.write(result, text_of(result), arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
