"""Plans drawn layer by layer where hardly anything divides, of six families, equal one device by the timetables of all
ranks: heads of 5, 6, 9, 10 and 12, a vocabulary that is prime, with padding, halves of layers, rings, windows, documents.

Losses, norms and every gradient of two steps. `--wide` runs all families and seeds.
"""

from __future__ import annotations

import json
import random

import numpy
import pytest
from drawn_plans import draw_strategy, primes_of
from harness import Compiled, Model, check, config_of, succeed

from galvatron import compare

VOCABULARY, FFN, EOD, TOLERANCE = 131, 88, 7, 1e-4
DROPPED = {"attn_pdrop": 0.1, "resid_pdrop": 0.1, "embd_pdrop": 0.1}


def llama(model_type: str, heads: int, key_heads: int, **changes) -> dict:
    widths = {"hidden_size": 8 * heads, "intermediate_size": FFN, "num_hidden_layers": 2, "vocab_size": VOCABULARY}
    heads = {"num_attention_heads": heads, "num_key_value_heads": key_heads}
    return config_of(model_type, **widths, **heads, **changes)


def gpt2(heads: int, **changes) -> dict:
    widths = {"n_embd": 4 * heads, "n_inner": FFN, "n_layer": 2, "n_head": heads, "vocab_size": VOCABULARY}
    return config_of("gpt2", **widths, n_positions=64, **changes)


QWEN = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "tie_word_embeddings": True}
# Configuration, query heads, batch, positions, names of a layer's halves.
LLAMA_HALVES, GPT_HALVES = ("self_attn", "mlp"), ("attn", "mlp")
FAMILIES = {
    "llama": (llama("llama", 6, 2), 6, 6, 24, LLAMA_HALVES),
    "gpt2": (gpt2(10, **dict.fromkeys(DROPPED, 0.0)), 10, 4, 48, GPT_HALVES),
    "gpt2_dropout": (gpt2(6, **DROPPED), 6, 6, 36, GPT_HALVES),
    "mistral": (llama("mistral", 12, 4, sliding_window=7), 12, 4, 36, LLAMA_HALVES),
    "gemma2": (llama("gemma2", 10, 5, head_dim=8, sliding_window=9), 10, 6, 48, LLAMA_HALVES),
    "qwen2": (llama("llama", 9, 3) | QWEN, 9, 6, 24, LLAMA_HALVES),
}
TIED = ("gpt2", "gpt2_dropout", "gemma2", "qwen2")
IN_CI = [("llama", 0), ("llama", 3)]
WIDE = [(name, seed) for name in FAMILIES for seed in range(12) if (name, seed) not in IN_CI]


class Drawing:
    """Of plans for a model on one device, whose plan is `single`."""

    def __init__(self, name: str, seed: int, single: dict):
        self.draw, self.name, self.single = random.Random(seed), name, single
        _, self.heads, self.batch, self.positions, self.halves = FAMILIES[name]

    def is_odd(self, strategy: dict, is_block: bool) -> bool:
        tp, parts = strategy["tp"], strategy["cp"] * strategy["ulysses"]
        parts *= strategy["tp"] if strategy["sequence_parallel"] else 1
        parts *= 2 if strategy.get("cp_zigzag") else 1
        cut = [(self.heads, tp * strategy["ulysses"]), (FFN, tp)] if is_block else [(VOCABULARY, tp)]
        return any(extent % degree for extent, degree in [(self.positions, parts), *cut])

    def strategy(self, ranks: int, micro_batches: int, names: list[str], is_block: bool) -> dict:
        draw = self.draw
        while True:
            strategy = draw_strategy(draw, ranks, names)
            if strategy["cp"] > 1:
                strategy |= draw.choice(({}, {"cp_kind": "gathered", "keep_gathered": True}, {"cp_kind": "ring"}))
                strategy |= draw.choice(({}, {"cp_zigzag": False}, {"cp_zigzag": True}))
            shares = strategy["dp"] * strategy["ulysses"] * strategy["cp"] > 1
            strategy |= draw.choice(({}, {"reduce_every_micro_batch": draw.random() < 0.5})) if shares else {"zero": 0}
            is_odd = self.is_odd(strategy, is_block)
            if is_odd and draw.random() < 0.6:
                strategy["pad"] = True
            # Elements draw random numbers by their index, which padding would change.
            pads = strategy.get("pad") and self.name != "gpt2_dropout"
            if self.batch % (strategy["dp"] * micro_batches) == 0 and (pads or not is_odd):
                return strategy

    def units(self) -> list[tuple[str, list[str], bool]]:
        """Path, names of values, and whether it has heads; some layers in halves."""
        listed = []
        for number, unit in enumerate(self.single["units"]):
            is_block = 0 < number < len(self.single["units"]) - 1
            if is_block and self.draw.random() < 0.4:
                listed += [(f"{unit['path']}.{half}", [], True) for half in self.halves]
            else:
                names = self.single["recomputable_values"].get(unit["layer_type"], [])
                listed.append((unit["path"], names, is_block))
        return listed

    def plan(self) -> dict:
        draw, units = self.draw, self.units()
        stages = draw.choice((1, 1, 2))
        ranks = draw.choice([n for n in (2, 3, 4, 5, 6, 8) if n * stages <= 8])
        micro_batches = draw.choice([n for n in (1, 2, 3) if self.batch % n == 0])
        border = draw.choice([n for n in range(1, len(units)) if not units[n][0].endswith(self.halves[1])])
        mesh, planned = primes_of(ranks), []
        draw.shuffle(mesh)
        for number, (path, names, is_block) in enumerate(units):
            strategy = self.strategy(ranks, micro_batches, names, is_block)
            # States of a tied table are shared alike, and reduced at one time.
            while self.name in TIED and number == len(units) - 1 and any(
                strategy.get(key) != planned[0]["strategy"].get(key) for key in ("zero", "reduce_every_micro_batch")
            ):
                strategy = self.strategy(ranks, micro_batches, names, is_block)
            planned.append({"path": path, "stage": int(number >= border) * (stages - 1), "strategy": strategy})
        return {
            "ranks": ranks * stages,
            "global_batch": self.batch,
            "micro_batches": micro_batches,
            "schedule": draw.choice(("gpipe", "1f1b")),
            "mesh": mesh,
            "units": planned,
        }


def evaluate(program, weights, folder, *data) -> list[list[float]]:
    """Loss and norm of each step; gradients to `folder`."""
    options = ("--weights", weights, "--steps", 2, "--clip-grad", 0.5, "--lr", "1e-2", "--dump-gradients", folder, *data)
    rows = succeed("galvatron-opt", "--evaluate", program, *options).stdout.split()[1:]
    return [[float(value) for value in row.split(",")[1:3]] for row in rows]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    generator = numpy.random.default_rng(3)
    values = generator.integers(0, VOCABULARY, 4000)
    values[generator.random(4000) < 0.08] = EOD
    path = tmp_path_factory.mktemp("odd") / "tokens.bin"
    path.write_bytes(values.astype(numpy.uint8).tobytes())
    return path


@pytest.fixture(scope="module")
def one_device(tokens, tmp_path_factory):
    """A model, with documents where the name ends so: program, plan, options of data, and what a run comes to."""
    made = {}

    def get(name: str, has_documents: bool):
        if (name, has_documents) not in made:
            config, _, batch, positions, _ = FAMILIES[name]
            model = Model(name, config, tmp_path_factory.mktemp(name) / "model", batch=batch, seq=positions)
            data = ("--data", tokens, "--data-dtype", "u8")
            if has_documents:
                sizes = ("--batch", batch, "--seq", positions)
                succeed("galvatron-import", model.archive, *sizes, "--documents", "-o", model.program)
                data += ("--eod", EOD)
            succeed("galvatron-opt", "--search", "--lower", model.program, "--ranks=1", "-o", model.folder / "one")
            weights, gradients = model.program.with_suffix(".safetensors"), model.folder / "gradients"
            rows = evaluate(model.program, weights, gradients, *data)
            made[name, has_documents] = model, Compiled(model.folder / "one").plan, data, rows
        return made[name, has_documents]

    return get


def check_plan(name, seed, folder, one_device, has_documents=False):
    model, single, data, expected = one_device(name, has_documents)
    file, staged = folder / "plan.json", folder / "staged.mlir"
    file.write_text(json.dumps(Drawing(name, seed, single).plan()))
    succeed("galvatron-opt", f"--plan={file}", "--compile-to=stage", model.program, "-o", staged)
    succeed("galvatron-opt", "--verify-timetable", staged)
    found = evaluate(staged, model.program.with_suffix(".safetensors"), folder / "gradients", *data)
    assert found == [pytest.approx(row, rel=TOLERANCE) for row in expected]
    for _, own, wanted in compare.gradient_pairs(folder / "gradients", model.folder / "gradients", 2):
        own, (wanted, ties) = compare.read_gradients(own)[0], compare.read_gradients(wanted)
        check(compare.compare_gradients(own, wanted, ties, TOLERANCE))


@pytest.mark.parametrize("name, seed", IN_CI + [pytest.param(*case, marks=pytest.mark.wide) for case in WIDE])
def test_equals_one_device(name, seed, one_device, tmp_path):
    check_plan(name, seed, tmp_path, one_device)


@pytest.mark.wide
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_with_documents(name, seed, one_device, tmp_path):
    check_plan(name, seed, tmp_path, one_device, has_documents=True)
