"""What is prepared, checked and raced: models, the plans each is compiled under, and the rows of the race.

Standard library only: it is read where programs are built and where they run. No weights travel: a program draws its start
values by counter from the seed, the same on every device and under every plan.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

INDEX = "programs.json"

# The same for every program of the equality checks. AdamW with an epsilon of the size of a gradient's element: the first
# steps would otherwise be signs of gradients, which turn rounding of elements near zero into whole steps.
EQUALITY_STEPS = 3
EQUALITY = ["--lr", "1e-3", "--eps", "1e-3", "--betas", "0.9,0.95", "--weight-decay", "0.1", "--clip-grad", "1"]
# As one would train. At 1e-3 runs part by rounding alone: two in fp32 end 1 % apart.
TEXT_STEPS = 200
TEXT = ["--lr", "3e-4", "--betas", "0.9,0.95", "--weight-decay", "0.1", "--clip-grad", "1", "--warmup", "20"]
# torch_llama.py's optimizer.
RACE = ["--lr", "1e-4", "--betas", "0.9,0.95", "--weight-decay", "0.1", "--weight-decay-on", "all", "--clip-grad", "1"]

TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


def gpt2(hidden: int, layers: int, heads: int, positions: int, vocabulary: int) -> dict:
    """Tied embedding, biases, gelu, no dropout."""
    off = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    size = {"n_embd": hidden, "n_layer": layers, "n_head": heads, "n_positions": positions, "vocab_size": vocabulary}
    return {"model_type": "gpt2", **size, **off, **TOKENS}


def llama(hidden: int, ffn: int, layers: int, heads: int, kv: int, positions: int, vocabulary: int, **more) -> dict:
    """Untied, grouped key-value heads where kv < heads."""
    size = {"hidden_size": hidden, "intermediate_size": ffn, "num_hidden_layers": layers, "num_attention_heads": heads}
    size |= {"num_key_value_heads": kv, "max_position_embeddings": positions, "vocab_size": vocabulary}
    more = {"rms_norm_eps": 1e-5, "rope_theta": 1e4, "tie_word_embeddings": False} | more
    return {"model_type": "llama", **size, **TOKENS, **more}


def mistral(hidden: int, ffn: int, layers: int, heads: int, kv: int, positions: int, vocabulary: int, window: int) -> dict:
    """Llama with sliding windows."""
    return llama(hidden, ffn, layers, heads, kv, positions, vocabulary, model_type="mistral", sliding_window=window)


def is_tied(config: dict) -> bool:
    """Whether embedding and head are one parameter."""
    return config.get("tie_word_embeddings", config["model_type"] == "gpt2")


def units(config: dict) -> list[str]:
    """Paths of the embedding, the layers and the head, as plans name them."""
    if config["model_type"] == "gpt2":
        return ["transformer.wte", *(f"transformer.h.{k}" for k in range(config["n_layer"])), "lm_head"]
    return ["model.embed_tokens", *(f"model.layers.{k}" for k in range(config["num_hidden_layers"])), "lm_head"]


def halves(config: dict) -> tuple[str, str]:
    """Names of a layer's attention and feed-forward."""
    return ("attn" if config["model_type"] == "gpt2" else "self_attn", "mlp")


@dataclasses.dataclass(frozen=True)
class Layout:
    """A plan by hand. A tuple has one entry for each unit; a single value holds for all. dp is what is left of a stage's
    ranks. `cut` is the number of the first unit of the second stage. `virtual`: two stages of so many parts each, layers dealt out
    evenly. `searched`: no plan by hand, the compiler finds one.
    `halves`: strategies of attention and feed-forward of every other layer, the first one's on. `recompute_values`: every
    other name of a layer's values.
    """

    ranks: int = 1
    tp: int | tuple[int, ...] = 1
    sequence_parallel: bool | tuple[bool, ...] = False
    ulysses: int | tuple[int, ...] = 1
    cp: int | tuple[int, ...] = 1
    cp_kind: str | None = None  # None: the compiler's choice
    cp_zigzag: bool | None = None
    zero: int | tuple[int, ...] = 0
    cut: int = 0
    virtual: int = 1
    schedule: str = "1f1b"
    micro_batches: int = 1
    recompute: bool | tuple[bool, ...] = False
    recompute_values: bool = False
    pad: bool | None = None
    halves: tuple[dict, dict] | None = None
    searched: bool = False

    def plan(self, paths: list[str], batch: int, values: dict[str, list[str]] | None = None, halves=()) -> dict:
        """`values`: of each unit's path, names of the values that it can recompute; `halves`: names of a layer's."""

        def each(value):
            return value if isinstance(value, tuple) else (value,) * len(paths)

        keys = ("tp", "sequence_parallel", "ulysses", "cp", "cp_kind", "cp_zigzag", "zero", "recompute", "pad")
        rows = zip(*(each(getattr(self, key)) for key in keys), strict=True)
        listed = []
        for number, (path, row) in enumerate(zip(paths, rows, strict=True)):
            strategy = {key: value for key, value in zip(keys, row, strict=True) if value is not None}
            if self.recompute_values:
                strategy["recompute_values"] = (values or {}).get(path, [])[::2]
            parts = [("", strategy)]
            if self.halves and number % 2 == 1 and number < len(paths) - 1:
                parts = [(f".{name}", half) for name, half in zip(halves, self.halves, strict=True)]
            place = {"stage": int(0 < self.cut <= number)}
            if self.virtual > 1:
                chunk, stage = divmod(self.part(number, len(paths)), 2)
                place = {"stage": stage, "chunk": chunk}
            listed += [{"path": path + part, **place, "strategy": own} for part, own in parts]
        head = {"ranks": self.ranks, "global_batch": batch, "micro_batches": self.micro_batches}
        head |= {"virtual_stages": self.virtual} if self.virtual > 1 else {}
        return head | {"schedule": self.schedule, "units": listed}

    def part(self, number: int, units: int) -> int:
        """Of a unit: embedding with the first layers, head with the last."""
        layer = min(max(number - 1, 0), units - 3)
        return layer * 2 * self.virtual // (units - 2)


# For models of four layers, so six units.
PLANS = {
    "one": Layout(),
    "dp2": Layout(2),
    "tp2": Layout(2, tp=2),
    "sp2": Layout(2, tp=2, sequence_parallel=True),
    "ulysses2": Layout(2, ulysses=2),
    "cp2": Layout(2, cp=2, cp_zigzag=False),
    "zigzag2": Layout(2, cp=2, cp_kind="gathered", cp_zigzag=True),
    "ring2": Layout(2, cp=2, cp_kind="ring", cp_zigzag=True),
    **{f"zero{level}": Layout(2, zero=level) for level in (1, 2, 3)},
    # Each layer its own: tp with its sequence | ulysses | cp | dp.
    "sequence": Layout(
        2,
        tp=(2, 2, 1, 1, 1, 2),
        sequence_parallel=(True, True, False, False, False, True),
        ulysses=(1, 1, 2, 1, 1, 1),
        cp=(1, 1, 1, 2, 1, 1),
    ),
    "pp2-gpipe": Layout(2, cut=3, schedule="gpipe", micro_batches=4),
    "pp2-1f1b": Layout(2, cut=3, micro_batches=4),
    "pp2-interleaved": Layout(2, virtual=2, schedule="interleaved", micro_batches=4),
    "tp2-interleaved": Layout(4, tp=2, virtual=2, schedule="interleaved", micro_batches=4),
    # Attention in tp with its sequence, feed-forward in ulysses; the other layers in tp.
    "halves2": Layout(2, tp=2, halves=({"tp": 2, "sequence_parallel": True}, {"ulysses": 2})),
    "values2": Layout(2, tp=2, micro_batches=2, recompute_values=True),
    "pad2": Layout(2, tp=2, pad=True),
    "padsp2": Layout(2, tp=2, sequence_parallel=True, pad=True),
    "padulysses2": Layout(2, ulysses=2, pad=True),
    "padcp2": Layout(2, cp=2, cp_kind="gathered", cp_zigzag=True, pad=True),
    "padring2": Layout(2, cp=2, cp_kind="ring", cp_zigzag=True, pad=True),
    "dp2-tp2": Layout(4, tp=2),
    "tp4": Layout(4, tp=4),
    "tp2-pp2": Layout(4, tp=2, cut=3, micro_batches=4),
    # tp 4 | dp 4 | tp 2 x dp 2 in one stage: what crosses is redistributed.
    "mixed": Layout(4, tp=(1, 4, 1, 2, 4, 4)),
    "recompute": Layout(4, tp=2, recompute=(False, True, False, True, False, False)),
}


@dataclasses.dataclass(frozen=True)
class Model:
    """One that correctness is judged on. `data` is a file of prepare.py, or without a `data_type` the prefix of indexed
    data; `plans` of PLANS, the first on one device. `importing`, `running`: options of galvatron-import and of the programs, in
    which {data} stands for the folder of the data."""

    name: str
    config: dict
    batch: int
    seq: int
    data: str
    data_type: str
    plans: tuple[str, ...] = tuple(plan for plan in PLANS if not plan.startswith("pad"))
    importing: tuple[str, ...] = ()
    running: tuple[str, ...] = ()

    @property
    def is_text(self) -> bool:
        """Whether torch_decoder.py knows it."""
        return self.name in ("gpt2", "llama")


def models(size: str) -> list[Model]:
    """`full`: heads of 64 and 128, as attention libraries want them; `tiny`: for a machine without a GPU."""
    odd = ("one", "dp2", "zero3", "pad2")
    windows = ("one", "dp2", "sp2", "ulysses2", "cp2", "zigzag2", "ring2", "zero3", "sequence", "halves2", "values2", "pp2-1f1b")
    windows += ("pp2-interleaved",)
    rows = ("one", "dp2", "sp2", "ulysses2", "cp2", "zigzag2", "ring2", "zero3", "pp2-1f1b")
    padded = ("one", "padsp2", "padulysses2", "padcp2", "padring2")
    given = ("one", "dp2", "sp2", "ring2", "pp2-1f1b")
    # A document is a line.
    lines = {"importing": ("--documents",), "running": ("--reset-at-documents", "--eod", "10")}
    # Of every line the second half is to be predicted.
    chat = {"importing": ("--documents",), "running": ("--samples", "packed", "--labels", "{data}/chat_labels")}
    if size == "tiny":
        return [
            Model("gpt2", gpt2(64, 4, 4, 32, 256), 8, 32, "text.u8", "u8"),
            Model("llama", llama(64, 96, 4, 8, 4, 32, 256, head_dim=16), 8, 32, "text.u8", "u8"),
            Model("gpt2-odd", gpt2(64, 4, 4, 32, 1003), 8, 32, "text.u16", "u16", odd),
            Model("mistral", mistral(64, 96, 4, 8, 4, 32, 256, 8), 8, 32, "text.u8", "u8", windows),
            Model("llama-lines", llama(64, 96, 4, 8, 4, 32, 256, head_dim=16), 8, 32, "text.u8", "u8", rows, **lines),
            Model("llama-odd", llama(64, 96, 4, 8, 4, 32, 256, head_dim=16), 8, 31, "text.u8", "u8", padded),
            Model("llama-chat", llama(64, 96, 4, 8, 4, 128, 256, head_dim=16), 8, 128, "chat", "", given, **chat),
        ]
    return [
        Model("gpt2", gpt2(512, 4, 8, 256, 256), 8, 256, "text.u8", "u8"),
        Model("llama", llama(512, 1408, 4, 8, 4, 256, 256, head_dim=128), 8, 256, "text.u8", "u8"),
        Model("gpt2-odd", gpt2(512, 4, 8, 256, 1003), 8, 256, "text.u16", "u16", odd),
        Model("mistral", mistral(512, 1408, 4, 8, 2, 256, 256, 96), 8, 256, "text.u8", "u8", windows),
        Model("llama-lines", llama(512, 1408, 4, 8, 4, 256, 256), 8, 256, "text.u8", "u8", rows, **lines),
        Model("llama-odd", llama(512, 1408, 4, 8, 4, 256, 256), 8, 255, "text.u8", "u8", padded),
        Model("llama-chat", llama(512, 1408, 4, 8, 4, 256, 256), 8, 256, "chat", "", given, **chat),
    ]


@dataclasses.dataclass(frozen=True)
class Row:
    """One of the race. `plans`: by name, the first is tried first; `peer`: torch_llama.py's options, empty where the figure
    measured earlier is all there is. `figure` is that, in tokens/s of one GPU, `must` and `goal` are ratios."""

    name: str
    title: str
    config: dict
    batch: int
    seq: int
    plans: dict[str, Layout]
    figure: float
    must: float
    goal: float
    peer: tuple[str, ...] = ()
    source: str = "torch_llama.py"

    @property
    def ranks(self) -> int:
        return next(iter(self.plans.values())).ranks


LLAMA2_7B = llama(4096, 11008, 32, 32, 32, 4096, 32000)
LLAMA3_8B = llama(4096, 14336, 32, 32, 8, 8192, 128256, rope_theta=5e5)
FUSED = ("--fused", "1", "--reshard", "0", "--attn", "cudnn")

ROWS = [
    Row(
        "llama2-7b-8l",
        "8 layers of Llama-2-7B, s 4096, 1 GPU, 4 sequences",
        LLAMA2_7B | {"num_hidden_layers": 8},
        4,
        4096,
        {"one": Layout()},
        47854,
        1.0,
        1.12,
        ("--model", "llama2-7b", "--layers", "8", "--mb", "4", *FUSED),
    ),
    Row(
        "llama3-8b-8l",
        "8 layers of Llama-3-8B, s 8192, 1 GPU, 2 sequences",
        LLAMA3_8B | {"num_hidden_layers": 8},
        2,
        8192,
        {"one": Layout()},
        34960,
        1.0,
        1.12,
        ("--model", "llama3-8b", "--layers", "8", "--mb", "2", *FUSED),
    ),
    # The vocabulary as llm.c pads it.
    Row(
        "gpt2-1558m",
        "GPT-2 1558M, s 1024, 1 GPU, micro-batch 16",
        gpt2(1600, 48, 25, 1024, 50304),
        16,
        1024,
        {"one": Layout()},
        51100,
        0.95,
        1.10,
        source="llm.c, measured earlier",
    ),
    Row(
        "llama2-7b-tp2-dp2",
        "Llama-2-7B, tp 2 x dp 2, 4 GPUs, 8 sequences a replica",
        LLAMA2_7B,
        16,
        4096,
        {
            "whole": Layout(4, tp=2),
            "halves": Layout(4, tp=2, micro_batches=2),
            "quarters": Layout(4, tp=2, micro_batches=4),
        },
        11513,
        0.92,
        1.12,
        ("--model", "llama2-7b", "--tp", "2", "--mb", "8", "--attn", "cudnn"),
    ),
    # Within 60 GiB of each: its states alone are 56.5 of them. Plain PyTorch has no such figure.
    Row(
        "llama2-7b-2gpus",
        "Llama-2-7B, 2 GPUs, 8 sequences, within 60 GiB",
        LLAMA2_7B,
        8,
        4096,
        {
            "sp": Layout(2, tp=2, sequence_parallel=True, recompute=True, micro_batches=8),
        },
        0,
        0,
        0,
        source="none",
    ),
    # Schedules, against our own 1F1B.
    Row(
        "llama2-7b-pp2",
        "Llama-2-7B, pp 2, 16 micro-batches of one, 2 GPUs",
        LLAMA2_7B,
        16,
        4096,
        {
            "1f1b": Layout(2, cut=17, micro_batches=16),
            **{f"interleaved{v}": Layout(2, virtual=v, schedule="interleaved", micro_batches=16) for v in (2, 4, 8)},
        },
        0,
        0,
        0,
        source="none",
    ),
    # Optimizer states, gradients and weights shared by two replicas, against FSDP2.
    Row(
        "llama2-7b-zero",
        "Llama-2-7B, ZeRO, 2 GPUs, 2 sequences a replica",
        LLAMA2_7B,
        4,
        4096,
        {"zero1": Layout(2, zero=1), "zero2": Layout(2, zero=2), "zero3": Layout(2, zero=3)},
        0,
        0.92,
        1.1,
        ("--model", "llama2-7b", "--mb", "2", *FUSED),
    ),
    # The fastest plan for the same devices and batch, against the fastest of plain PyTorch (FSDP2, ZeRO-2).
    Row(
        "llama2-7b-4gpus",
        "Llama-2-7B, 4 GPUs, 16 sequences, the plan as searched",
        LLAMA2_7B,
        16,
        4096,
        {"searched": Layout(4, searched=True)},
        12845,
        1.0,
        1.12,
        ("--model", "llama2-7b", "--mb", "4", *FUSED),
    ),
    # 32 sequences: a micro-batch is one sequence of each of two replicas. The first stage has the embedding, and in
    # "uneven" a layer more than the second, which has the head.
    Row(
        "llama2-7b-pp2-dp2",
        "Llama-2-7B, pp 2 x dp 2, 16 micro-batches, 4 GPUs",
        LLAMA2_7B,
        32,
        4096,
        {"even": Layout(4, cut=17, micro_batches=16), "uneven": Layout(4, cut=18, micro_batches=16)},
        11412,
        0.95,
        1.13,
        source="torchtitan, measured earlier",
    ),
]


def rows(size: str) -> list[Row]:
    """`tiny`: the same plans on models that a machine without a GPU can train, to try the scripts."""
    if size != "tiny":
        return ROWS
    small = []
    for row in ROWS:
        config = llama(128, 256, 4, 8, 8, 64, 512)
        if row.config["model_type"] == "gpt2":
            config = gpt2(128, 4, 8, 64, 512)
        plans = {name: dataclasses.replace(layout, cut=layout.cut and 3) for name, layout in row.plans.items()}
        small.append(dataclasses.replace(row, config=config, seq=64, plans=plans))
    return small


def data_options(model: dict, folder: Path) -> list[str]:
    """What programs of a model of the index are fed with, from the folder of the data."""
    kind = ["--data-dtype", model["data_type"]] if model["data_type"] else []
    return ["--data", str(folder / model["data"]), *kind, *(word.format(data=folder) for word in model["running"])]


def read_index(folder: Path) -> dict:
    """What prepare.py wrote: {"device", "size", "models": {…}, "programs": […], "race": […]}."""
    return json.loads((folder / INDEX).read_text())
