"""PyTorch as referee of model families under plans that use every parallelism, in sizes that no one chose.

20 steps: every loss and gradient norm, and every gradient of each of them. `--wide` runs all families under all plans.
"""

from __future__ import annotations

import numpy
import pytest
from drawn_plans import Sizes, draw_plan
from harness import STEPS, Model, config_of

from galvatron import compare

BATCH, SEQ = 6, 48
# 6 heads, three of keys and values where they are shared; the vocabulary is prime where nothing may cut it.
GROUPED = {"hidden_size": 60, "head_dim": 20, "num_attention_heads": 6, "num_key_value_heads": 3, "intermediate_size": 90}
FULL = {"hidden_size": 60, "num_attention_heads": 6}
FAMILIES = {
    "llama": GROUPED | {"vocab_size": 97},
    "gpt2": {"n_embd": 60, "n_head": 6, "n_inner": 102, "vocab_size": 97},  # tied
    "mistral": GROUPED | {"vocab_size": 96, "sliding_window": 7},
    "falcon_alibi": FULL | {"ffn_hidden_size": 90, "vocab_size": 96},
    "opt": FULL
    | {"ffn_dim": 90, "word_embed_proj_dim": 60, "vocab_size": 97, "dropout": 0.0, "attention_dropout": 0.0}
    | {"activation_function": "gelu"},  # the slope of its own, relu, jumps where rounding changes a sign
    "qwen2": FULL | {"num_key_value_heads": 3, "intermediate_size": 66, "vocab_size": 96},
    "bloom": {"hidden_size": 60, "n_head": 6, "vocab_size": 97},  # feed-forward width 240
    "gpt_neox": FULL | {"intermediate_size": 90, "vocab_size": 96},
    "phi": FULL | {"hidden_size": 72, "intermediate_size": 90, "vocab_size": 97},
}


TIED = ("gpt2", "opt", "falcon_alibi", "bloom")  # one table at both ends


def each(**strategy) -> list[dict]:
    """For embedding, layers 0 to 2, head; both ends without tensor parallelism, whose ranks dp, cp or ulysses get."""
    ends = {key: value for key, value in strategy.items() if key not in ("tp", "sequence_parallel", "strided")}
    ends["cp"] = ends.get("cp", 1) * strategy.get("tp", 1)
    return [ends, *[strategy] * 3, ends]


# ranks, micro-batches, stages, strategies; dp is left over.
PLANS = {
    "zero1-dp3": (3, 2, None, each(zero=1)),
    "zero3-dp6": (6, 1, None, each(zero=3, recompute=True)),
    "zero2-pp2": (4, 3, [0, 0, 1, 1, 1], each(zero=2)),
    "zero1-sp-dp3": (6, 2, None, each(zero=1, tp=2, sequence_parallel=True)),
    "zero2-ulysses3": (6, 3, None, each(zero=2, ulysses=3)),
    "zero3-cp2-pp2": (8, 3, [0, 0, 0, 1, 1], each(zero=3, cp=2)),
    "cp3-tp2-strided": (6, 6, None, each(cp=3, tp=2, strided=True, recompute_values="all")),
    "tp6-sp": (6, 1, None, each(tp=6, sequence_parallel=True, recompute_values="odd")),
    "zero2-cp2-ulysses2": (8, 1, None, each(zero=2, cp=2, ulysses=2, recompute_values="odd")),
    # Each layer its own.
    "mixed": (
        6,
        1,
        None,
        [
            {"cp": 3, "zero": 1},
            {"tp": 2, "sequence_parallel": True, "zero": 2, "recompute_values": "even"},
            {"ulysses": 6, "zero": 3},
            {"cp": 2, "tp": 3, "strided": True, "zero": 1, "recompute": True},
            {"zero": 1, "ulysses": 2},
        ],
    ),
    "mixed-pp2": (
        6,
        2,
        [0, 0, 1, 1, 1],
        [
            {"cp": 3, "zero": 3},
            {"tp": 3, "sequence_parallel": True, "recompute_values": "all"},
            {"zero": 3},
            {"ulysses": 3, "zero": 2, "recompute_values": "even"},
            {"cp": 3, "zero": 3},
        ],
    ),
    "mixed-strided": (
        8,
        3,
        None,
        [
            {"ulysses": 2, "cp": 2, "zero": 2},
            {"tp": 2, "cp": 2, "sequence_parallel": True, "strided": True, "zero": 3, "recompute_values": "odd"},
            {"cp": 4, "tp": 2, "sequence_parallel": True},
            {"ulysses": 2, "tp": 1, "cp": 4, "zero": 1, "recompute": True},
            {"cp": 8, "zero": 3},
        ],
    ),
}
SGD = ("--optimizer", "sgd", "--lr", "0.1", "--clip-grad", "1")
ADAMW = ("--lr", "1e-3", "--warmup", "3", "--weight-decay", "0.1", "--clip-grad", "1", "--eps", "1e-6")
PICKED = {"all": slice(None), "odd": slice(1, None, 2), "even": slice(0, None, 2)}
# Every plan in one family, every family under two plans; the first six of each are tested always.
DIAGONAL = dict(zip(list(FAMILIES)[:6], ("mixed", "mixed-pp2", "zero3-cp2-pp2", "tp6-sp", "cp3-tp2-strided", "mixed-strided")))
CASES = [
    pytest.param(family, plan, marks=() if DIAGONAL.get(family) == plan else pytest.mark.wide)
    for family in FAMILIES
    for plan in PLANS
]


@pytest.fixture(scope="module")
def data(work):
    """Words of tokens that all vocabularies have."""
    generator = numpy.random.default_rng(11)
    words = [generator.integers(0, 96, 7) for _ in range(15)]
    path = work / "words.bin"
    path.write_bytes(numpy.concatenate([words[i] for i in generator.integers(0, 15, 1000)]).astype(numpy.uint8).tobytes())
    return path


@pytest.fixture(scope="module")
def trained(work, data, pytorch):
    """Each model with PyTorch's run of it, by optimizer."""
    made = {}

    def get(family, options):
        if family not in made:
            config = config_of(family, **FAMILIES[family])
            made[family] = Model(family, config, work / f"plans-{family}", batch=BATCH, seq=SEQ)
        model = made[family]
        if (family, options) not in made:
            words = ("--data", data, "--steps", STEPS, "--dump-steps", STEPS, *options)
            made[family, options] = pytorch(model, model.folder / f"pytorch-{options[1]}", *words)
        return model, made[family, options]

    return get


def written_plan(model: Model) -> dict:
    """On one device: with the names of layer types and of values."""
    return model.compile_plan("one", {"ranks": 1, "units": [{"path": path} for path in model.units]}).plan


def plan_of(model: Model, name: str) -> dict:
    ranks, micro_batches, stages, strategies = PLANS[name]
    written, units = written_plan(model), []
    for number, (unit, strategy) in enumerate(zip(written["units"], strategies, strict=True)):
        if number == len(strategies) - 1 and model.name in TIED:
            strategy = strategies[0]  # one table, placed alike
        names = written["recomputable_values"].get(unit["layer_type"], [])
        if picked := strategy.get("recompute_values"):
            strategy = strategy | {"recompute_values": names[PICKED[picked]]}
        units.append({"path": unit["path"], "stage": (stages or [0] * 5)[number], "strategy": strategy})
    return {"ranks": ranks, "global_batch": BATCH, "micro_batches": micro_batches, "units": units}


def check_equal(compiled, expected, options, data, tmp_path):
    gradients = tmp_path / "gradients"
    run = compiled.train(tmp_path, "--data", data, "--steps", STEPS, "--dump-gradients", gradients, *options)
    assert run.list_by_rank("peak bytes") == compiled.plan["peak_bytes_per_rank"]
    differences = []
    # AdamW divides by a root of a moment that may itself be rounding: weights, and gradients with them, drift apart.
    steps = STEPS if options is SGD else 3
    for label, found, wanted in compare.gradient_pairs(gradients, expected.folder / "gradients", steps):
        found, (wanted, ties) = compare.read_gradients(found)[0], compare.read_gradients(wanted)
        for difference in compare.compare_gradients(found, wanted, ties):
            differences.append((label, difference))
    for column in ("loss", "grad_norm"):
        tolerance = 1e-4 if options is SGD else 5e-4
        differences += [("", d) for d in compare.compare_columns(run.log, expected.log, column, tolerance)]
    failed = [f"{label} {d.name}: {d.detail}" for label, d in differences if not d.passed]
    assert not failed, "\n".join(failed[:8])
    assert run.column("loss")[-1] < run.column("loss")[0] - 0.1


@pytest.mark.parametrize("family, plan", CASES)
def test_equals_pytorch(family, plan, trained, data, tmp_path):
    options = (SGD, ADAMW)[list(PLANS).index(plan) % 2]
    model, expected = trained(family, options)
    check_equal(model.compile_plan(plan, plan_of(model, plan)), expected, options, data, tmp_path)


@pytest.mark.wide
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("family", FAMILIES)
def test_drawn_plan_equals_pytorch(family, seed, trained, data, tmp_path):
    options = (SGD, ADAMW)[seed % 2]
    model, expected = trained(family, options)
    written = written_plan(model)
    config = FAMILIES[family]
    widths = (config.get(key) for key in ("intermediate_size", "n_inner", "ffn_hidden_size", "ffn_dim"))
    width = next((width for width in widths if width), 240)
    sizes = Sizes(BATCH, SEQ, 6, width, config["vocab_size"], tied=family in TIED)
    plan = draw_plan(seed, sizes, written["units"], written["recomputable_values"])
    check_equal(model.compile_plan(f"drawn{seed}", plan), expected, options, data, tmp_path)
