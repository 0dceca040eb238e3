"""Times what stands before the first step and the tokenizer's tool: orders of many sequences, large files, tokens a second.

    . scripts/env.sh
    python bench/data.py -o bench/results/data

Writes data.md and data.json. The start is from `launch` to the line of step 1, of one rank confined to one core; what an
order or a large file costs is the difference to a start on small data, which alternates with it. The large data are
sparse: all their tokens are zeros. The tool is compared with the tokenizer's own batches of the same documents, both on
all cores.
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

import numpy as np
import report

ROOT = Path(__file__).resolve().parents[1]
SEQUENCES, LENGTH, SEQ = 10_000_000, 256, 256
LARGE_GIB = 64
TRIES = 5
ORDER_SECONDS, ORDER_BYTES, FILE_SECONDS, TOOL_SHARE = 5.0, 1 << 30, 2.0, 0.8
DOCUMENTS, CORPUS_BYTES = 2000, 24 << 20


def call(*words):
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL)


def compile_program(folder: Path) -> Path:
    """A small Llama whose labels are fed by the reader, on one rank."""
    config = ROOT / "test" / "Inputs" / "models" / "llama.json"
    call(sys.executable, "-m", "galvatron.export", "--config", config, "--seq", SEQ, "-o", folder / "model.pt")
    words = ["--labels", "next", "--batch", 2, "--seq", SEQ, "-o", folder / "model.mlir"]
    call("galvatron-import", folder / "model.pt", *words)
    call("galvatron-opt", "--search", "--lower", folder / "model.mlir", "--ranks=1", "-o", folder / "out")
    return folder / "out"


def write_sparse(path: Path, size: int):
    with open(path, "wb") as file:
        file.truncate(size)


def write_indexed(prefix: Path, sequences: int) -> Path:
    """Sequences of zeros."""
    lengths = np.full(sequences, LENGTH, np.int32)
    header = b"MMIDIDX\x00\x00" + np.int64(1).tobytes() + np.uint8(8).tobytes()
    with open(f"{prefix}.idx", "wb") as file:
        file.write(header + np.array([sequences, sequences + 1], np.int64).tobytes() + lengths.tobytes())
        file.write((np.arange(sequences, dtype=np.int64) * (2 * LENGTH)).tobytes())
        file.write(np.arange(sequences + 1, dtype=np.int64).tobytes())
    write_sparse(Path(f"{prefix}.bin"), sequences * 2 * LENGTH)
    return prefix


def start(program: Path, *options) -> tuple[float, int]:
    """Seconds to step 1, and by how many bytes the process grew."""
    core = min(os.sched_getaffinity(0))
    words = ["taskset", "-c", core, program / "launch", "--steps", 1, *options]
    begin, seconds, output = time.monotonic(), 0.0, ""
    with subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("step 1/"):
                seconds = time.monotonic() - begin
            output += line
    if process.returncode or not seconds:
        raise SystemExit(f"error: {' '.join(map(str, words))} failed\n{output}")
    return seconds, int(re.search(r"^resident +\[(\d+)", output, re.MULTILINE)[1])


def compare(program: Path, small: list, large: list) -> dict:
    found = {"small": [], "large": []}
    for _ in range(TRIES):
        found["small"].append(start(program, *small))
        found["large"].append(start(program, *large))
    seconds = [large[0] - small[0] for small, large in zip(found["small"], found["large"], strict=True)]
    grown = max(grown for _, grown in found["large"]) - min(grown for _, grown in found["small"])
    return {"seconds": seconds, "start_seconds": [s for s, _ in found["small"]], "bytes": grown}


def time_order(program: Path, folder: Path) -> dict:
    small, large = write_indexed(folder / "few", 1000), write_indexed(folder / "many", SEQUENCES)
    samples = ["--train-samples", SEQUENCES * LENGTH // SEQ - 1]
    return compare(program, ["--data", small], ["--data", large, *samples])


def time_file(program: Path, folder: Path) -> dict:
    write_sparse(folder / "small.bin", 1 << 20)
    write_sparse(folder / "large.bin", LARGE_GIB << 30)
    return compare(program, ["--data", folder / "small.bin", "--shuffle"], ["--data", folder / "large.bin", "--shuffle"])


def write_corpus(path: Path) -> list[str]:
    """Words that occur as often as their rank says, as in a language, in documents of many lengths."""
    generator = np.random.default_rng(1)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    words = ["".join(letters[np.minimum(generator.geometric(0.12, size), 26) - 1]) for size in generator.poisson(5, 20000) + 1]
    documents, size = [], 0
    while size < CORPUS_BYTES:
        ranks = np.minimum(generator.zipf(1.2, int(generator.exponential(4000)) + 10), len(words)) - 1
        documents.append(" ".join(words[rank] for rank in ranks) + ".")
        size += len(documents[-1])
    path.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents))
    return documents


def time_tool(folder: Path) -> dict:
    import tokenizers

    documents = write_corpus(folder / "corpus.jsonl")
    tokenizer = tokenizers.ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(documents[:DOCUMENTS], vocab_size=16384, show_progress=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    own, tool, tokens = [], [], 0
    command = [sys.executable, "-m", "galvatron.data", folder / "corpus.jsonl", "--tokenizer", folder / "tokenizer.json"]
    for _ in range(TRIES):
        begin, tokens = time.monotonic(), 0
        for first in range(0, len(documents), 1000):
            batch = tokenizer.encode_batch_fast(documents[first : first + 1000], add_special_tokens=False)
            tokens += sum(len(encoding) for encoding in batch)
        own.append(time.monotonic() - begin)
        begin = time.monotonic()
        call(*command, "-o", folder / "set")
        tool.append(time.monotonic() - begin)
    shares = [a / b for a, b in zip(own, tool, strict=True)]
    return {"tokens": tokens, "tokenizer_seconds": own, "tool_seconds": tool, "share": shares}


def describe(result: dict) -> str:
    order, file, tool = result["order"], result["file"], result["tool"]
    rate = lambda seconds: f"{tool['tokens'] / report.median(seconds) / 1e6:.2f} million a second"  # noqa: E731
    rows = [
        [f"order of {SEQUENCES // 10**6} million sequences, seconds", report.spread(order["seconds"]), f"<= {ORDER_SECONDS}"],
        ["the same, GiB of memory more", f"{order['bytes'] / 2**30:.2f}", f"<= {ORDER_BYTES / 2**30:.0f}"],
        [f"step 1 of a shuffled file of {LARGE_GIB} GiB, seconds more than of 1 MiB", report.spread(file["seconds"]),
         f"<= {FILE_SECONDS}"],
        ["galvatron.data, share of the tokenizer's speed", report.spread(tool["share"]), f">= {TOOL_SHARE}"],
    ]  # fmt: skip
    return (
        f"# Data before and beside the steps\n\n{result['date']}, {result['hardware']}, load {result['load']:.1f} at the "
        f"start. Made by `python bench/data.py`; median (least to greatest) of {TRIES}.\n\n"
        + report.table(["", "measured", "wanted"], rows)
        + f"\nThe tokenizer's own batches: {rate(tool['tokenizer_seconds'])}; the tool with reading, writing and its start: "
        f"{rate(tool['tool_seconds'])}, {tool['tokens']:,} tokens. Starts on the small data: "
        f"{report.spread(file['start_seconds'])} s.\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="without suffix")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = compile_program(folder)
        result = {
            "date": str(datetime.date.today()),
            "hardware": report.hardware(),
            "load": load,
            "order": time_order(program, folder),
            "file": time_file(program, folder),
            "tool": time_tool(folder),
        }
    report.write(result, describe(result), options.output)


if __name__ == "__main__":
    main()
