"""Writes test/EndToEnd/megatron_orders.json: the samples that Megatron-LM's GPTDataset gives, for a few small datasets.

python scripts/write_megatron_orders.py [FILE]

Needs the package megatron-core, which nothing else here does: pip install --no-deps megatron-core. The test compares
`launch --dump-batches` with the file, and where the package is installed, the file with the package.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

VOCABULARY, SEQ = 256, 16
FILE = Path(__file__).parents[1] / "test" / "EndToEnd" / "megatron_orders.json"

# Tokens of each dataset's sequences, drawn; `samples` is the number that the order is made for, `batch` how many of them
# are compared. Of one epoch, several, the last of them apart (below 0.8 of an epoch is needed) or not, splits and blends.
CASES = {
    "one epoch": {"datasets": [40], "samples": 16, "seed": 0},
    "three epochs together": {"datasets": [12], "samples": 20, "seed": 1234},
    "last epoch apart": {"datasets": [12], "samples": 16, "seed": 1234},
    "many epochs": {"datasets": [3], "samples": 64, "seed": 7},
    "training split": {"datasets": [40], "samples": 16, "seed": 3, "split": "900,60,40"},
    "half of it": {"datasets": [41], "samples": 16, "seed": 3, "split": "1,1"},
    "blend": {"datasets": [30, 20], "weights": [30, 70], "samples": 64, "seed": 11},
    "blend of nine": {"datasets": [9] * 9, "weights": [1, 2, 3, 4, 5, 6, 7, 8, 9.5], "samples": 48, "seed": 5},
    "blend of one": {"datasets": [12], "weights": [2], "samples": 16, "seed": 2},
    "one after another": {"datasets": [30, 20], "samples": 24, "seed": 11, "split": "8,2"},
}


def sequences(case: dict) -> list[list[np.ndarray]]:
    """Of each dataset its sequences; some are empty, most shorter than a sample."""
    generator = np.random.default_rng(len(case["datasets"]) + case["seed"])
    return [
        [generator.integers(0, VOCABULARY, int(length)) for length in generator.geometric(0.08, count) - 1]
        for count in case["datasets"]
    ]


def write_indexed(prefix: Path, documents: list[np.ndarray], dtype=np.uint16):
    """PREFIX.bin and PREFIX.idx, one sequence a document."""
    codes = {np.uint8: 1, np.int8: 2, np.int16: 3, np.int32: 4, np.int64: 5, np.float32: 7, np.uint16: 8}
    lengths = np.array([len(document) for document in documents], np.int32)
    ends = np.cumsum(lengths, dtype=np.int64)
    prefix.with_name(prefix.name + ".bin").write_bytes(np.concatenate(documents).astype(dtype).tobytes())
    counts = np.array([len(lengths), len(lengths) + 1], np.int64)
    header = b"MMIDIDX\x00\x00" + np.int64(1).tobytes() + np.uint8(codes[dtype]).tobytes() + counts.tobytes()
    pointers = (ends - lengths) * np.dtype(dtype).itemsize
    bounds = np.arange(len(lengths) + 1, dtype=np.int64)
    index = prefix.with_name(prefix.name + ".idx")
    index.write_bytes(header + lengths.tobytes() + pointers.tobytes() + bounds.tobytes())


class Tokenizer:
    """What GPTDataset wants to know."""

    vocab_size, eod, pad, unique_identifiers = VOCABULARY, 0, -1, {}


def megatron_samples(case: dict, folder: Path) -> list[list[int]]:
    """SEQ + 1 tokens of each sample."""
    from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig

    prefixes = []
    for number, documents in enumerate(sequences(case)):
        write_indexed(folder / f"set{number}", documents)
        prefixes.append(str(folder / f"set{number}"))
    config = GPTDatasetConfig(
        random_seed=case["seed"],
        sequence_length=SEQ,
        blend=(prefixes, case.get("weights")),
        split=case.get("split", "1,0,0"),
        tokenizer=Tokenizer(),
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
    )
    sizes = [case["samples"], 1, 1]
    train = BlendedMegatronDatasetBuilder(GPTDataset, sizes, lambda: True, config).build()[0]
    samples = [train[number] for number in range(case["samples"])]
    return [[*sample["tokens"].tolist(), sample["labels"][-1].item()] for sample in samples]


def all_samples() -> dict[str, list[list[int]]]:
    found = {}
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = megatron_samples(case, Path(folder))
    return found


if __name__ == "__main__":
    lines = [f"  {json.dumps(name)}: {json.dumps(rows, separators=(',', ':'))}" for name, rows in all_samples().items()]
    Path(sys.argv[1] if len(sys.argv) > 1 else FILE).write_text("{\n" + ",\n".join(lines) + "\n}\n")
