#!/usr/bin/env python3
"""How the search's time and memory grow with layers, devices, memory and batch.

  bench/search/scaling.py --tool build/bin/galvatron-search --cases FOLDER -o bench/search/results

Writes reference.csv (the reference's cases under its own cost model) and scaling.csv (native), one row a run, and
scaling.svg if matplotlib is there. FOLDER holds galvatron-reference and galvatron-profiles (test/Search/Inputs does).
"""

import argparse
import csv
import json
import pathlib
import resource
import subprocess
import tempfile
import time


def run(arguments):
    before = time.monotonic()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    result = subprocess.run(arguments, capture_output=True, text=True)
    seconds = time.monotonic() - before
    cpu = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - usage
    output = json.loads(result.stdout) if result.stdout else {}
    return output, seconds, cpu


def reference_rows(tool, cases):
    for path in sorted((cases / "galvatron-reference").glob("*.json")):
        case = json.loads(path.read_text())
        output, seconds, _ = run([tool, "--config", path, "--root", cases, "--cost-model=galvatron", "--quiet"])
        cost = case["search_cost"]
        reference = cost.get("unmodified", cost["equivalent_table_reuse"])["wall_seconds"]
        yield {
            "case": path.stem,
            "reference_throughput": case["result"]["predicted"]["throughput_samples_per_s"],
            "throughput": output.get("throughput_samples_per_s"),
            "reference_seconds": reference,
            "reference_unmodified": "unmodified" in cost,
            "search_seconds": output.get("search_seconds"),
            "process_seconds": round(seconds, 4),
        }


def scaling_rows(tool):
    base = {"layers": 32, "devices": 64, "gigabytes": 80, "batch": 256}
    sweeps = {"layers": [8, 32, 64, 128], "devices": [8, 64, 256, 1024], "gigabytes": [40, 80, 141], "batch": [64, 256, 1024]}
    for name, values in sweeps.items():
        for value in values:
            case = dict(base, **{name: value})
            with tempfile.TemporaryDirectory() as folder:
                model, cluster = pathlib.Path(folder) / "model.json", pathlib.Path(folder) / "cluster.json"
                model.write_text(json.dumps({
                    "hidden_size": 4096, "num_hidden_layers": case["layers"], "num_attention_heads": 32,
                    "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 32000, "hidden_act": "silu",
                    "max_position_embeddings": 8192}))
                cluster.write_text(json.dumps({
                    "nodes": max(1, case["devices"] // 8), "devices_per_node": min(8, case["devices"]), "device": "h100",
                    "memory_bytes_per_device": case["gigabytes"] * 10**9}))
                output, seconds, cpu = run([tool, "--model", model, "--cluster", cluster, "--global-batch",
                                            str(case["batch"]), "--quiet", "--time-limit", "60"])
            yield dict(case, sweep=name, status=output.get("status"), step_seconds=output.get("iteration_seconds"),
                       search_seconds=output.get("search_seconds"), cpu_seconds=round(cpu, 3),
                       proven_within=output.get("proven_within"))


def write(path, rows):
    rows = list(rows)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return rows


def plot(rows, path):
    try:
        import matplotlib
        matplotlib.use("svg")
        from matplotlib import pyplot
    except ImportError:
        print("no matplotlib: no plot")
        return
    sweeps = list(dict.fromkeys(row["sweep"] for row in rows))
    figure, axes = pyplot.subplots(1, len(sweeps), figsize=(12, 3), sharey=True)
    for axis, sweep in zip(axes, sweeps):
        chosen = [row for row in rows if row["sweep"] == sweep and row["cpu_seconds"]]
        axis.loglog([row[sweep] for row in chosen], [row["cpu_seconds"] for row in chosen], "o-")
        axis.set_xlabel(sweep)
    axes[0].set_ylabel("CPU seconds")
    figure.tight_layout()
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tool", required=True)
    parser.add_argument("--cases", type=pathlib.Path, required=True)
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    write(arguments.output / "reference.csv", reference_rows(arguments.tool, arguments.cases))
    plot(write(arguments.output / "scaling.csv", scaling_rows(arguments.tool)), arguments.output / "scaling.svg")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"largest resident set of a run: {peak:.0f} MiB")


if __name__ == "__main__":
    main()
