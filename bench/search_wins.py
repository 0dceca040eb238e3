"""Compares searched plans with every uniform plan of eight families, by predicted step time and exact bytes.

    . scripts/env.sh
    python bench/search_wins.py -o bench/results/search_wins

For each model, number of simulated H200 and budget: `galvatron-opt --search`, and the fastest of the uniform plans (all
layers alike, every number of micro-batches) that fits by its lowered bytes. Writes search_wins.md and search_wins.json, and
fails where a uniform plan is faster than the searched one. `--quick`: one model of few layers and few plans, as a test.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import report
from compile_time import LLAMA_7B
from imported import import_model

LLAMA_3_8B = LLAMA_7B | {
    "intermediate_size": 14336,
    "num_key_value_heads": 8,
    "max_position_embeddings": 32768,
    "vocab_size": 128256,
}
BATCH = 8
GIB = 1 << 30
# Plans take the same time by the same sums; beyond this a difference is one.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Case:
    name: str
    config: dict
    sequence: int
    ranks: tuple[int, ...] = (2, 4, 8)
    gigabytes: tuple[int, ...] = (24, 40, 60)


CASES = [Case("Llama-2-7B, 4 K", LLAMA_7B, 4096), Case("Llama-3-8B, 32 K", LLAMA_3_8B, 32768)]
QUICK = [Case("two layers of Llama-2-7B, 4 K", LLAMA_7B | {"num_hidden_layers": 2}, 4096, (4,), (8, 16))]


def families(ranks: int) -> dict[str, dict]:
    zero = {f"ZeRO-{level}": {"dp": ranks, "zero": level} for level in (1, 2, 3)}
    return zero | {
        "tp + SP": {"tp": ranks, "sequence_parallel": True},
        "Ulysses": {"ulysses": ranks},
        "cp": {"cp": ranks},
        "ring": {"cp": ranks, "cp_kind": "ring"},
        # Alone they leave states whole.
        "Ulysses + ZeRO-3": {"ulysses": ranks, "zero": 3},
        "cp + ZeRO-3": {"cp": ranks, "zero": 3},
        "ring + ZeRO-3": {"cp": ranks, "cp_kind": "ring", "zero": 3},
    }


def write_cluster(folder: Path, ranks: int) -> Path:
    path = folder / f"h200x{ranks}.json"
    path.write_text(json.dumps({"nodes": 1, "devices_per_node": ranks, "device": "h200"}))
    return path


def uniform_plan(layers: int, ranks: int, micro_batches: int, strategy: dict, recompute: bool) -> dict:
    paths = [f"model.layers.{index}" for index in range(layers)]
    units = [{"path": path, "strategy": strategy | {"recompute": recompute}} for path in paths]
    ends = [{"path": path, "strategy": strategy} for path in ("model.embed_tokens", "lm_head")]
    return {
        "ranks": ranks,
        "global_batch": BATCH,
        "micro_batches": micro_batches,
        "units": [ends[0], *units, ends[1]],
    }


def compile_plan(model: Path, cluster: Path, options: list[str], output: Path) -> tuple[dict | None, str]:
    """The step and the exact bytes of the fullest rank, with what its libraries hold, of the plan compiled; and what the
    driver said."""
    command = ["galvatron-opt", str(model), "--target=cuda", f"--cluster={cluster}", "--lower", "-o", str(output)]
    result = subprocess.run(command + options, capture_output=True, text=True)
    if result.returncode:
        return None, result.stderr.strip()
    plan = json.loads((output / "plan.json").read_text())
    shutil.rmtree(output)
    ranks = zip(plan["peak_bytes_per_rank"], plan["reserved_bytes_per_rank"])
    figures = {"ms": plan["estimated_step_seconds"] * 1e3, "simulated_ms": plan["predicted_step_seconds"] * 1e3}
    return figures | {"bytes": max(map(sum, ranks))}, result.stdout


def price_uniform(model: Path, cluster: Path, layers: int, ranks: int) -> list[dict]:
    def price(plan: tuple) -> dict | None:
        name, strategy, recompute, micro_batches = plan
        stem = model.parent / f"{ranks}-{name}-{recompute}-{micro_batches}".replace(" ", "")
        file = stem.with_suffix(".json")
        file.write_text(json.dumps(uniform_plan(layers, ranks, micro_batches, strategy, recompute)))
        priced, said = compile_plan(model, cluster, [f"--plan={file}"], stem)
        if not priced:
            print(f"{file.name}: {said.splitlines()[0]}", file=sys.stderr)
            return None
        name += ", all recomputed" if recompute else ""
        return {"plan": f"{name}, {micro_batches} micro-batch{'es' if micro_batches > 1 else ''}"} | priced

    plans = [
        (name, strategy, recompute, micro_batches)
        for name, strategy in families(ranks).items()
        for recompute in (False, True)
        for micro_batches in (1, 2, 4, 8)
        if (BATCH // micro_batches) % strategy.get("dp", 1) == 0
    ]
    with ThreadPoolExecutor(2) as threads:
        return [priced for priced in threads.map(price, plans) if priced]


def search(model: Path, cluster: Path, gigabytes: int) -> dict:
    found, text = compile_plan(model, cluster, ["--search", f"--memory={gigabytes}GiB"], model.with_name("searched"))
    if not found:
        return {"refused": text.splitlines()[0].replace(f"{model}: ", "")}
    lines = [re.split(r"\s{2,}", line) for line in text[text.index("stage  layers") :].splitlines()[1:]]
    rows = [line for line in lines if re.fullmatch(r"\d+", line[0])]
    return {"plan": "; ".join(f"{row[1]}: {row[2]}" for row in rows)} | found


def compare(case: Case, folder: Path) -> list[dict]:
    model = import_model(case.config, BATCH, case.sequence, folder)
    rows = []
    for ranks in case.ranks:
        cluster = write_cluster(folder, ranks)
        uniform = price_uniform(model, cluster, case.config["num_hidden_layers"], ranks)
        for gigabytes in case.gigabytes:
            fitting = [plan for plan in uniform if plan["bytes"] <= gigabytes * GIB]
            best = min(fitting, key=lambda plan: plan["ms"], default=None)
            found = search(model, cluster, gigabytes)
            rows.append({"model": case.name, "ranks": ranks, "gib": gigabytes, "uniform": best, "searched": found})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def is_lost(row: dict) -> bool:
    """Whether a uniform plan is faster than the searched one."""
    uniform, searched = row["uniform"], row["searched"]
    if uniform is None or "ms" not in searched:
        return uniform is not None
    # Of plans that are near by estimate the search takes the best by simulation.
    keys = ("ms", "simulated_ms") if "simulated_ms" in uniform and "simulated_ms" in searched else ("ms",)
    return all(uniform[key] < searched[key] * (1 - ROUNDING) for key in keys)


def text_of(result: dict) -> str:
    rows = []
    for row in result["rows"]:
        uniform, searched = row["uniform"], row["searched"]
        best = f"{uniform['ms']:.1f} ms, {uniform['plan']}" if uniform else "none fits"
        if "ms" in searched:
            gain = f"{(uniform['ms'] / searched['ms'] - 1) * 100:.1f} %" if uniform else "–"
            found, plan = f"{searched['ms']:.1f} ms", searched["plan"]
        else:
            needs = re.search(r"needs (\d+) bytes", searched["refused"])
            gain, plan = "–", "–"
            found = f"none fits; the smallest needs {int(needs.group(1)) / GIB:.2f} GiB" if needs else "none fits"
        rows.append((f"{row['model']}, {row['ranks']} x {row['gib']} GiB", found, best, gain, plan))
    text = "# The search against uniform plans\n\n"
    text += f"{result['date']}, searched on {result['hardware']}; predicted steps on simulated H200 of one node, bf16, "
    text += f"global batch {BATCH}.\nUniform: the best of ZeRO-1, 2, 3, tp + SP, Ulysses and cp, gathered and in a ring, these "
    text += "three also with ZeRO-3,\nwith and without all recomputed, with every number of micro-batches, that fits by its "
    text += "lowered bytes.\n\n"
    header = ["model, devices", "searched", "best uniform", "faster by", "searched plan"]
    text += report.table(header, rows)
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("search_wins"), help="result files, without suffix")
    parser.add_argument("--quick", action="store_true", help="one small model, as a test")
    arguments = parser.parse_args()
    result = {"date": str(datetime.date.today()), "hardware": report.hardware(), "rows": []}
    for case in QUICK if arguments.quick else CASES:
        with tempfile.TemporaryDirectory() as folder:
            result["rows"] += compare(case, Path(folder))
    report.write(result, text_of(result), arguments.output)
    lost = [f"{row['model']}, {row['ranks']} x {row['gib']} GiB" for row in result["rows"] if is_lost(row)]
    if lost:
        sys.exit(f"search_wins: error: a uniform plan is faster than the searched one: {'; '.join(lost)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
