#!/usr/bin/env python3
"""How the search's time and memory grow with layers, devices, memory and batch.

  bench/search/scaling.py --tool build/bin/galvatron-search --cases FOLDER -o bench/search/results

Writes reference.csv (the reference's cases under its own cost model) and scaling.csv (native), one row a run,
scaling.svg (CPU seconds of scaling.csv) and large.csv: 128 layers on 1,024 devices, by batch and threads, with the work
and the longest chain of it, which say what many processors can do. FOLDER holds galvatron-reference and galvatron-profiles (test/Search/Inputs does).
"""

import argparse
import csv
import json
import math
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


def search_native(tool, case, threads=0):
    """Of layers, devices, gigabytes and batch: the tool's output, seconds and CPU seconds."""
    with tempfile.TemporaryDirectory() as folder:
        model, cluster = pathlib.Path(folder) / "model.json", pathlib.Path(folder) / "cluster.json"
        model.write_text(json.dumps({
            "hidden_size": 4096, "num_hidden_layers": case["layers"], "num_attention_heads": 32,
            "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 32000, "hidden_act": "silu",
            "max_position_embeddings": 8192}))
        cluster.write_text(json.dumps({
            "nodes": max(1, case["devices"] // 8), "devices_per_node": min(8, case["devices"]), "device": "h100",
            "memory_bytes_per_device": case["gigabytes"] * 10**9}))
        command = [tool, "--model", model, "--cluster", cluster, "--global-batch", str(case["batch"]), "--quiet",
                   "--time-limit", "60"]
        return run(command + (["--threads", str(threads)] if threads else []))


def scaling_rows(tool):
    base = {"layers": 32, "devices": 64, "gigabytes": 80, "batch": 256}
    sweeps = {
        "layers": [8, 32, 64, 128],
        "devices": [8, 64, 256, 1024],
        "gigabytes": [20, 40, 80, 141],
        "batch": [64, 256, 1024],
    }
    for name, values in sweeps.items():
        for value in values:
            case = dict(base, **{name: value})
            output, _, cpu = search_native(tool, case)
            yield dict(case, sweep=name, status=output.get("status"), step_seconds=output.get("iteration_seconds"),
                       search_seconds=output.get("search_seconds"), cpu_seconds=round(cpu, 3),
                       proven_within=output.get("proven_within"))


def large_rows(tool):
    for batch in (2048, 1024, 256):
        for threads in (1, 2):
            case = {"layers": 128, "devices": 1024, "gigabytes": 80, "batch": batch}
            output, _, cpu = search_native(tool, case, threads)
            work, chain = output.get("work_seconds"), output.get("chain_seconds")
            yield dict(case, threads=threads, step_seconds=output.get("iteration_seconds"),
                       search_seconds=output.get("search_seconds"), cpu_seconds=round(cpu, 3),
                       proven_within=output.get("proven_within"), work_seconds=round(work, 4),
                       chain_seconds=round(chain, 4), sixteen_threads_share=round((work / 16 + chain) / work, 4))


def write(path, rows):
    rows = list(rows)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return rows


def plot(rows, path):
    """Search time against each quantity, both axes logarithmic, one panel a sweep."""
    width, height, left, top, gap = 190, 150, 50, 20, 60
    sweeps = list(dict.fromkeys(row["sweep"] for row in rows))
    times = [float(row["cpu_seconds"]) for row in rows if float(row["cpu_seconds"]) > 0]
    low, high = math.floor(math.log10(min(times))), math.ceil(math.log10(max(times)))
    total = left + len(sweeps) * (width + gap)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="{height + 70}" font-family="sans-serif" '
        'font-size="11">',
        f'<rect width="{total}" height="{height + 70}" fill="white"/>',
    ]
    for number, sweep in enumerate(sweeps):
        x0 = left + number * (width + gap)
        points = [(float(row[sweep]), float(row["cpu_seconds"])) for row in rows if row["sweep"] == sweep]
        points = [(x, y) for x, y in points if y > 0]
        first, last = math.log(points[0][0]), math.log(points[-1][0])
        place = lambda x, y: (
            x0 + (math.log(x) - first) / (last - first) * width,
            top + height - (math.log10(y) - low) / (high - low) * height,
        )
        out.append(f'<rect x="{x0}" y="{top}" width="{width}" height="{height}" fill="none" stroke="black"/>')
        for power in range(low, high + 1):
            y = place(points[0][0], 10**power)[1]
            out.append(f'<line x1="{x0}" x2="{x0 + width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ccc"/>')
            out.append(f'<text x="{x0 - 4}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g} s</text>')
        line = " ".join("%.1f,%.1f" % place(x, y) for x, y in points)
        out.append(f'<polyline points="{line}" fill="none" stroke="#1f5fa8" stroke-width="1.5"/>')
        for x, y in points:
            px, py = place(x, y)
            out.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="#1f5fa8"/>')
            out.append(f'<text x="{px:.1f}" y="{top + height + 15}" text-anchor="middle">{x:g}</text>')
        out.append(f'<text x="{x0 + width / 2}" y="{top + height + 35}" text-anchor="middle">{sweep}</text>')
    path.write_text("\n".join(out) + "\n</svg>\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tool", required=True)
    parser.add_argument("--cases", type=pathlib.Path, required=True)
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    write(arguments.output / "reference.csv", reference_rows(arguments.tool, arguments.cases))
    plot(write(arguments.output / "scaling.csv", scaling_rows(arguments.tool)), arguments.output / "scaling.svg")
    write(arguments.output / "large.csv", large_rows(arguments.tool))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"largest resident set of a run: {peak:.0f} MiB")


if __name__ == "__main__":
    main()
