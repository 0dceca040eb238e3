"""One rank on one core against PyTorch on one thread: the same fp32 Llama step, in one run.

    . scripts/env.sh
    python bench/cpu_speed.py -o bench/results/cpu_speed

Every program gets the same weights, tokens and AdamW settings, and is pinned to the same core; they take turns, a few
steps each a round, the first of which warms up and is not counted. Step time: the compiled model's log says
tokens/s of each step; PyTorch's is measured around forward, backward, clipping and AdamW. Ratio: the median over rounds of
PyTorch's median step over ours in that round. The losses of the last step are printed as evidence that the work is the
same. Then one more run says where our step's time goes (kernel_times.c).

Writes cpu_speed.md and cpu_speed.json.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import report

BENCH = Path(__file__).resolve().parent
QUICKSTART = json.loads((BENCH.parent / "scripts/quickstart/llama.json").read_text())
WIDE = QUICKSTART | {
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
    "max_position_embeddings": 512,
    "vocab_size": 4096,
}
# Name, config, batch, tokens of a row.
MODELS = [("quickstart", QUICKSTART, 8, 256), ("wide", WIDE, 4, 512)]
SIDES = {
    "eager": "PyTorch eager",
    "compile": "torch.compile",
    "onednn": "PyTorch eager with oneDNN's matrix product",
}
LEARNING_RATE = 1e-3

NOTE = """
Why PyTorch is slower here: two thirds of its step are aten::mm, and its BLAS (MKL) does not do well on this processor.
The last row of each table replaces only that product by the oneDNN inside PyTorch: it separates what our choice of library
gains from what the rest of the program gains. Ratios to eager PyTorch will be smaller where MKL is at home.
"""


class TorchSide:
    """PyTorch in a process of its own, which trains only when asked to."""

    def __init__(self, kind: str, model: dict, pin: list[str]):
        command = [
            *pin,
            sys.executable,
            str(BENCH / "torch_step.py"),
            "--serve",
            kind,
            "--config",
            str(model["config"]),
        ]
        command += ["--batch", str(model["batch"]), "--seq", str(model["seq"]), "--data", str(model["data"])]
        command += ["--lr", str(LEARNING_RATE)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def train(self, steps: int) -> tuple[list[float], list[float]]:
        """Seconds and losses."""
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit("cpu_speed: error: torch_step.py failed")
        results = json.loads(line)
        return [seconds for seconds, _ in results], [loss for _, loss in results]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def quietly(command: list[str], **options) -> None:
    result = subprocess.run(command, capture_output=True, text=True, **options)
    if result.returncode != 0:
        sys.exit(f"cpu_speed: error: {' '.join(command)} failed:\n{result.stdout}{result.stderr}")


def prepare(config: dict, batch: int, seq: int, folder: Path) -> dict:
    """Exports, imports and compiles for one rank."""
    model = {"config": folder / "config.json", "batch": batch, "seq": seq, "data": folder / "tokens.bin"}
    model["output"] = folder / "model"
    model["config"].write_text(json.dumps(config))
    model["data"].write_bytes(random.Random(1).randbytes(64 * batch * seq))
    archive, program = str(folder / "model.pt"), str(folder / "model.mlir")
    export = [sys.executable, "-m", "galvatron.export", "--config", str(model["config"]), "--seed", "0", "-o", archive]
    quietly(export)
    quietly(["galvatron-import", archive, "--batch", str(batch), "--seq", str(seq), "-o", program])
    command = ["galvatron-opt", "--search", "--lower", program, "--ranks=1", "--memory=8GiB"]
    quietly(command + [f"--global-batch={batch}", "-o", str(model["output"])])
    return model


def train_compiled(model: dict, steps: int, pin: list[str], environment: dict | None = None):
    """Seconds and losses of the compiled model, from the start."""
    log = model["output"] / "log.csv"
    command = [*pin, str(model["output"] / "stage0"), "--steps", str(steps), "--lr", str(LEARNING_RATE)]
    command += ["--weight-decay", "0.01", "--weight-decay-on", "all", "--clip-grad", "1", "--data", str(model["data"])]
    quietly(command + ["--data-dtype", "u8", "--log", str(log), "--quiet"], env=os.environ | (environment or {}))
    rows = list(csv.DictReader(log.open()))
    tokens = model["batch"] * model["seq"]
    return [tokens / float(row["tokens_per_second"]) for row in rows], [float(row["loss"]) for row in rows]


def where_time_goes(model: dict, steps: int, pin: list[str]) -> dict[str, float]:
    """Milliseconds of a step, by function of the device library."""
    library, times = model["output"] / "kernel_times.so", model["output"] / "kernel_times.txt"
    quietly(["cc", "-O2", "-shared", "-fPIC", f"-I{BENCH.parent}", str(BENCH / "kernel_times.c"), "-o", str(library)])
    environment = {"LD_PRELOAD": str(library), "KERNEL_TIMES": str(times)}
    seconds, _ = train_compiled(model, steps, pin, environment)
    result = {}
    for line in times.read_text().splitlines():
        name, _, spent = line.split()
        result[name] = float(spent) / steps * 1000
    result["generated loops and the rest"] = sum(seconds) / steps * 1000 - sum(result.values())
    return dict(sorted(result.items(), key=lambda item: -item[1]))


def measure(name: str, config: dict, batch: int, seq: int, arguments: argparse.Namespace, pin: list[str]) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        model = prepare(config, batch, seq, Path(folder))
        sides = {kind: TorchSide(kind, model, pin) for kind in SIDES}
        for side in sides.values():
            side.train(1)  # compilation, and the libraries' own warm-up
        rounds, losses, trained = [], {}, 1
        for turn in range(arguments.rounds):
            steps = arguments.steps + 1
            # Ours starts anew each round; only in the last one must it reach the step whose losses are compared.
            last = turn + 1 == arguments.rounds
            seconds, ours = train_compiled(model, trained + steps if last else steps, pin)
            step_seconds = {"compiled": seconds[-arguments.steps :]}
            losses["compiled"] = ours[-1]
            for kind, side in sides.items():
                seconds, theirs = side.train(steps)
                step_seconds[kind] = seconds[1:]
                losses[kind] = theirs[-1]
            trained += steps
            rounds.append(step_seconds)
            print(name, {kind: round(report.median(values), 4) for kind, values in step_seconds.items()}, flush=True)
        for side in sides.values():
            side.close()
        profile = where_time_goes(model, 5, pin)
        resident = json.loads((model["output"] / "plan.json").read_text())["peak_bytes_per_rank"][0]
    return {
        "model": name,
        "batch": batch,
        "seq": seq,
        "config": config,
        "step": trained,
        "rounds": rounds,
        "losses": losses,
        "profile_ms": profile,
        "peak_bytes": resident,
    }


def describe(case: dict) -> str:
    tokens = case["batch"] * case["seq"]
    config = case["config"]
    ours = [report.median(turn["compiled"]) for turn in case["rounds"]]
    rows = []
    for kind, title in [("compiled", "galvatron-opt"), *SIDES.items()]:
        medians = [report.median(turn[kind]) for turn in case["rounds"]]
        ratios = [theirs / mine for theirs, mine in zip(medians, ours)]
        speedup = "" if kind == "compiled" else report.spread(ratios) + " ×"
        milliseconds = report.spread([1000 * value for value in medians], 0)
        rows.append(
            (title, milliseconds, f"{tokens / report.median(medians):.0f}", speedup, f"{case['losses'][kind]:.5f}")
        )
    text = f"\n## {case['model']}: hidden {config['hidden_size']}, {config['num_hidden_layers']} layers, "
    text += f"ffn {config['intermediate_size']}, vocabulary {config['vocab_size']}, "
    text += f"batch {case['batch']} × {case['seq']} tokens\n\n"
    header = ["program", "ms a step", "tokens/s", "its step / ours", f"loss, step {case['step']}"]
    text += report.table(header, rows)
    total = sum(case["profile_ms"].values())
    text += f"\nWhere {total:.0f} ms of a step of ours go (means of 5 steps, the first included):\n\n"
    spent = [
        (name, f"{ms:.1f}", f"{100 * ms / total:.1f} %")
        for name, ms in case["profile_ms"].items()
        if ms > 0.002 * total
    ]
    return text + report.table(["function", "ms", "share"], spent)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("cpu_speed"), help="result files, without suffix")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each program (default: 5)")
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a turn (default: 3)")
    parser.add_argument("--core", type=int, default=0, help="core to run on (default: 0)")
    parser.add_argument("--model", choices=[name for name, *_ in MODELS], help="one model only")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    pin = ["taskset", "-c", str(arguments.core)] if shutil.which("taskset") else []
    cases = [measure(*case, arguments, pin) for case in MODELS if arguments.model in (None, case[0])]
    import torch

    result = {
        "date": str(datetime.date.today()),
        "hardware": report.hardware(),
        "torch": torch.__version__,
        "cases": cases,
    }
    text = f"# CPU speed\n\n{result['date']}, one core of {result['hardware']}; PyTorch {result['torch']}.\n"
    text += f"The programs took turns: {arguments.rounds} rounds of {arguments.steps} timed steps each. "
    text += "Medians over rounds (least to greatest).\n" + "".join(describe(case) for case in cases)
    text += NOTE
    report.write(result, text, arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
