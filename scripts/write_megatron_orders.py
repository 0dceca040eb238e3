"""Writes what Megatron-LM gives, for tests that compare with it: test/EndToEnd/megatron_orders.json, the samples of its
GPTDataset for a few small datasets, and test/Runtime/megatron_rates.json, the learning rates of its
OptimizerParamScheduler.

python scripts/write_megatron_orders.py

Needs the package megatron-core, which nothing else here does: pip install --no-deps megatron-core. The tests compare
`launch --dump-batches` and `--log` with the files, and where the package is installed, the files with the package.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

VOCABULARY, SEQ = 256, 16
TESTS = Path(__file__).parents[1] / "test"
FILE, RATES_FILE = TESTS / "EndToEnd" / "megatron_orders.json", TESTS / "Runtime" / "megatron_rates.json"

# Tokens of each dataset's sequences, drawn; `samples` is the number that the order is made for, `batch` how many of them
# are compared. Of one epoch, several, the last of them apart (below 0.8 of an epoch is needed) or not, splits and blends.
# `share`: of the split; 1 is what is evaluated.
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
    "evaluation": {"datasets": [60], "samples": 12, "seed": 3, "split": "700,250,50", "share": 1},
    "evaluation, several epochs": {"datasets": [40], "samples": 24, "seed": 9, "split": "8,2", "share": 1},
    "evaluation of a blend": {"datasets": [60, 50], "weights": [3, 7], "samples": 8, "seed": 1, "split": "6,4", "share": 1},
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
    share = case.get("share", 0)
    sizes = [case["samples"] if number == share else 1 for number in range(3)]
    dataset = BlendedMegatronDatasetBuilder(GPTDataset, sizes, lambda: True, config).build()[share]
    samples = [dataset[number] for number in range(case["samples"])]
    return [[*sample["tokens"].tolist(), sample["labels"][-1].item()] for sample in samples]


def all_samples() -> dict[str, list[list[int]]]:
    found = {}
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = megatron_samples(case, Path(folder))
    return found


# Learning rates: options of `launch`, which have Megatron's words but for the hyphens.
STEPS, RATE, LOWEST = 12, 0.01, 0.001
SCHEDULES = [
    {"--lr-schedule": "inverse-square-root"},
    {"--lr-schedule": "inverse-square-root", "--warmup": 3},
    *({"--lr-schedule": "WSD", "--wsd-decay-steps": 5, "--warmup": 2, "--wsd-decay": decay}
      for decay in ("exponential", "linear", "cosine", "minus-sqrt")),
    {"--lr-schedule": "WSD", "--wsd-decay-steps": 12},
    {"--lr-schedule": "cosine", "--warmup": 4},
    {"--lr-schedule": "linear"},
]  # fmt: skip


def megatron_rates(options: dict) -> list[float]:
    """Of steps 1 to STEPS."""
    import torch
    from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    scheduler = OptimizerParamScheduler(
        optimizer,
        init_lr=0.0,
        max_lr=RATE,
        min_lr=LOWEST,
        lr_warmup_steps=options.get("--warmup", 0),
        lr_decay_steps=STEPS,
        lr_decay_style=options["--lr-schedule"],
        start_wd=0.0,
        end_wd=0.0,
        wd_incr_steps=STEPS,
        wd_incr_style="constant",
        wsd_decay_steps=options.get("--wsd-decay-steps"),
        lr_wsd_decay_style=options.get("--wsd-decay", "exponential").replace("-", "_"),
    )
    rates = []
    for _ in range(STEPS):
        scheduler.step(1)
        rates.append(scheduler.get_lr(optimizer.param_groups[0]))
    return rates


def all_rates() -> list[dict]:
    """Options with the rates of their steps."""
    common = {"--steps": STEPS, "--lr": RATE, "--min-lr": LOWEST}
    return [{"options": common | options, "rates": megatron_rates(options)} for options in SCHEDULES]


if __name__ == "__main__":
    lines = [f"  {json.dumps(name)}: {json.dumps(rows, separators=(',', ':'))}" for name, rows in all_samples().items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    RATES_FILE.write_text("[\n  " + ",\n  ".join(json.dumps(rates) for rates in all_rates()) + "\n]\n")
