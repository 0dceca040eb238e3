"""Whether galvatron-profile's figures repeat, and agree with other programs', on the CPU.

    . scripts/env.sh
    python bench/profile_check.py others -o bench/results/profile_others      # NetPIPE (Debian: netpipe-openmpi), oneDNN, PyTorch
    python bench/profile_check.py repeats --model model.mlir -o bench/results/profile_repeats

`others`: rounds, in each of which galvatron-profile, NetPIPE (its caches invalidated and its memory in huge pages, as our operands are) and a program
on oneDNN alone (onednn_products.c) measure the same messages from 1 MiB and the same products, in turn; the medians over
rounds are compared, and PyTorch, whose products are another library's, stands beside them. Products run on all ranks at once.

`repeats`: two profiles one after the other; their figures (messages from 64 KiB) side by side: 95 % are to differ by at most
10 %, and those that differ more have to carry a spread of half of that at least. With --model each profile's plan is lowered,
and priced by the other's figures (--predict): it is to be within 1 % of the other's own.

Nothing else may run meanwhile. --allow-busy tries the script on a machine that does. The exit code is 1 where something is
beyond what it is to be. Writes OUTPUT.json and OUTPUT.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measuring
import report

BENCH = Path(__file__).resolve().parent
SIZES = "1MiB:8MiB"  # beyond, NetPIPE with its caches invalidated reads past its buffers
# Seconds for each product of another program.
WINDOW = 0.5
WITHIN_OTHERS, WITHIN_REPEATS, SHARE_OF_REPEATS, WITHIN_PLANS = 0.15, 0.10, 0.95, 0.01
LEAST_MESSAGE = 65536


def name_of(entry: dict) -> str:
    """Tells a figure of a profile from all others."""
    keys = ("kind", "ranks", "stride", "groups", "bytes", "shape", "hash", "strategy", "samples", "seq")
    return json.dumps({key: entry[key] for key in keys if key in entry}, sort_keys=True)


def figures(profile: dict) -> dict[str, tuple[float, float]]:
    """Seconds and spread, by what they are of; without messages that are latency."""
    found = {}
    for entry in profile["collectives"] + profile["kernels"]:
        if "ranks" not in entry or entry["bytes"] >= LEAST_MESSAGE:
            found[name_of(entry)] = (entry["seconds"], entry["spread"])
    for entry in profile["layers"]:
        for part in ("forward_seconds", "backward_seconds"):
            if entry["measured"] and entry[part] > 0:
                found[f"{name_of(entry)} {part}"] = (entry[part], entry["spread"])
    return found


def compare(first: dict, second: dict) -> dict:
    """Of two profiles: how many figures both have, which share is alike, which differ more and do not say so."""
    a, b = figures(first), figures(second)
    rows = []
    for name in sorted(a.keys() & b.keys()):
        difference = max(a[name][0], b[name][0]) / min(a[name][0], b[name][0]) - 1
        if difference > WITHIN_REPEATS:
            spread = max(a[name][1], b[name][1])
            rows.append({"figure": name, "difference": difference, "spread": spread})
    count = len(a.keys() & b.keys())
    return {
        "figures": count,
        "within": 1 - len(rows) / count if count else 0.0,
        "differ": rows,
        "silent": sum(row["spread"] < row["difference"] / 2 for row in rows),
    }


def take(folder: Path, command: list[str | Path], arguments: argparse.Namespace) -> dict:
    more = ["--allow-busy"] if arguments.allow_busy else []
    words = ["galvatron-profile", *command, "--ranks", "2", "-o", folder, "--quiet", *more]
    measuring.quietly([*words, "--time-limit", str(arguments.time_limit)])
    return json.loads((folder / "profile.json").read_text())


def netpipe(folder: Path) -> dict[int, float]:
    """Seconds one way, by bytes."""
    command = ["mpirun", "-q", "--bind-to", "none", "-np", "2", "NPopenmpi", "-l", str(1 << 20), "-u", str(8 << 20)]
    # Its memory lies in huge pages, as arenas do: a message through other memory takes twice as long.
    environment = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    measuring.quietly([*command, "-p", "0", "-I", "-o", "np.out"], cwd=folder, env=os.environ | environment)
    rows = [line.split() for line in (folder / "np.out").read_text().splitlines()]
    return {int(row[0]): float(row[2]) for row in rows}


def at_once(command: list[str | Path], words: list[str]) -> dict[str, float]:
    """The slower one of two processes that measure the same products at the same time."""
    begin = time.time() + 5  # both have started and have their operands by then
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    full = [str(word) for word in [*command, begin, WINDOW, *words]]
    processes = [subprocess.Popen(full, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    outputs = [process.communicate(timeout=measuring.PATIENCE)[0] for process in processes]
    if any(process.returncode for process in processes):
        sys.exit(f"profile_check: error: {full[0]} failed")
    found: dict[str, float] = {}
    for line in "".join(outputs).splitlines():
        word, seconds = line.split()
        found[word] = max(found.get(word, 0.0), float(seconds))
    return found


def others(arguments: argparse.Namespace) -> tuple[dict, str]:
    sides: dict[str, dict[str, list[float]]] = {}

    def add(figure: str, side: str, seconds: float) -> None:
        sides.setdefault(figure, {}).setdefault(side, []).append(seconds)

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        program = folder / "onednn_products"
        measuring.quietly(["cc", "-O2", BENCH / "onednn_products.c", "-ldnnl", "-o", program])
        for turn in range(arguments.rounds):
            kinds = ["hardware", "--kinds", "send,gemm", "--sizes", SIZES]
            profile = take(folder / f"profile{turn}", kinds, arguments)
            for entry in profile["collectives"]:
                add(f"send {entry['bytes']}", "ours", entry["seconds"])
            products = [entry for entry in profile["kernels"] if entry["shape"]["m"] >= 256]
            words = [":".join(str(entry["shape"][key]) for key in ("layout", "m", "n", "k")) for entry in products]
            for word, entry in zip(words, products):
                add(word, "ours", entry["seconds"])
            for size, seconds in netpipe(folder).items():
                add(f"send {size}", "other", seconds)
            for word, seconds in at_once([program], words).items():
                add(word, "other", seconds)
            for word, seconds in at_once([sys.executable, BENCH / "torch_products.py"], words).items():
                add(word, "pytorch", seconds)
            print(f"round {turn + 1} of {arguments.rounds} is through", flush=True)
    rows = []
    for figure, each in sorted(sides.items()):
        if "ours" in each and "other" in each:
            row = {side: report.median(values) for side, values in each.items()}
            rows.append({"figure": figure, **row, "difference": row["ours"] / row["other"] - 1, "rounds": each})
    if not rows:
        sys.exit("profile_check: error: no figure was measured by both sides; give a longer --time-limit")
    beyond = [row["figure"] for row in rows if abs(row["difference"]) > WITHIN_OTHERS]
    milliseconds = lambda row, side: f"{1e3 * row[side]:.4g}" if side in row else ""  # noqa: E731
    text = "# Profiled messages and products beside other programs'\n\n"
    text += f"Messages beside NetPIPE's, products beside oneDNN alone, PyTorch for comparison. {len(beyond)} of {len(rows)} "
    text += f"differ by more than {100 * WITHIN_OTHERS:.0f} %.\n\n"
    cells = [
        (row["figure"], *(milliseconds(row, side) for side in ("ours", "other", "pytorch")), f"{100 * row['difference']:+.1f} %")
        for row in rows
    ]
    text += report.table(["figure", "ours, ms", "other, ms", "PyTorch, ms", "ours ÷ other - 1"], cells)
    return {"rows": rows, "beyond": beyond}, text


def price_of_plans(folders: list[Path], arguments: argparse.Namespace) -> dict:
    """By each profile: what the other's plan takes ÷ what its own does - 1."""
    for folder in folders:
        command = ["galvatron-opt", "--search", "--lower", arguments.model, f"--profile={folder / 'profile.json'}"]
        measuring.quietly([*command, "-o", folder / "lowered"])
    worse = []
    for own, other in (folders, reversed(folders)):
        seconds = []
        for program in (own, other):
            command = ["galvatron-search", "--predict", program / "lowered", "--profile", own / "profile.json"]
            seconds.append(json.loads(measuring.quietly(command))["predicted_step_seconds"])
        worse.append(seconds[1] / seconds[0] - 1)
    return {"other_plan_is_slower_by": worse}


def repeats(arguments: argparse.Namespace) -> tuple[dict, str]:
    with tempfile.TemporaryDirectory() as temporary:
        folders = [Path(temporary) / name for name in ("first", "second")]
        command = ["all", arguments.model] if arguments.model else ["hardware"]
        if arguments.sizes:
            command += ["--sizes", arguments.sizes]
        profiles = [take(folder, command, arguments) for folder in folders]
        result = compare(*profiles)
        if arguments.model:
            result |= price_of_plans(folders, arguments)
    result["beyond"] = []
    if result["within"] < SHARE_OF_REPEATS:
        result["beyond"].append(f"{100 * result['within']:.1f} % of the figures are alike")
    if result["silent"]:
        result["beyond"].append(f"{result['silent']} figures differ by more than their spread says")
    if any(share > WITHIN_PLANS for share in result.get("other_plan_is_slower_by", [])):
        result["beyond"].append("plans are not within 1 % by each other's prices")
    text = "# Two profiles, one after the other\n\n"
    text += f"{100 * result['within']:.1f} % of {result['figures']} figures are within {100 * WITHIN_REPEATS:.0f} %. "
    if "other_plan_is_slower_by" in result:
        shares = " and ".join(f"{100 * share:+.2f} %" for share in result["other_plan_is_slower_by"])
        text += f"The other's plan is slower than the own one by {shares}, by each one's prices. "
    text += f"{'; '.join(result['beyond']) or 'All as it is to be'}.\n\n"
    rows = [(row["figure"], f"{100 * row['difference']:.0f} %", f"{100 * row['spread']:.0f} %") for row in result["differ"]]
    return result, text + report.table(["figure", "differs by", "spread"], rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["others", "repeats"])
    parser.add_argument("--model", type=Path, help="of repeats: a model.mlir, whose bodies and plans count, too")
    parser.add_argument("--sizes", help="of repeats: messages and copies, as galvatron-profile takes them")
    parser.add_argument("--rounds", type=int, default=3, help="of others (default: 3)")
    parser.add_argument("--time-limit", type=float, default=120, help="seconds of each profile (default: 120)")
    parser.add_argument("--allow-busy", action="store_true", help="try the script where others are at work")
    parser.add_argument("-o", "--output", type=Path, required=True, help="result files, without suffix")
    arguments = parser.parse_args()
    result, text = others(arguments) if arguments.what == "others" else repeats(arguments)
    head = {"date": str(datetime.date.today()), "hardware": report.hardware(), "busy": arguments.allow_busy}
    title, _, rest = text.partition("\n\n")
    when = f"{head['date']}, {head['hardware']}{', others at work' if arguments.allow_busy else ''}."
    report.write(head | result, f"{title}\n\n{when} {rest}", arguments.output)
    return 1 if result["beyond"] else 0


if __name__ == "__main__":
    sys.exit(main())
