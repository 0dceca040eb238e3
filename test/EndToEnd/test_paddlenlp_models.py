"""The layers of the models in bench/paddlenlp_models.py at 1/64 of their width, 8 of them: plans on 8 ranks equal one device.

Heads are 8 with one of keys and values, a 64th of 64 being none that a degree divides. The plans are of the kinds that the
search takes for those models, folded to 8 ranks: different degrees and levels of ZeRO from layer to layer.
"""

from __future__ import annotations

import json

import pytest
from harness import Model, config_of, succeed

BATCH, SEQ, STEPS, LAYERS = 8, 16, 3, 8
WIDTHS = {"30B": (80, 400), "100B": (128, 768)}  # hidden, feed-forward

TENSOR = {"tp": 8, "sequence_parallel": True}
ULYSSES = {"ulysses": 8, "zero": 3, "recompute": True}
MIXED = {"ulysses": 2, "tp": 4, "sequence_parallel": True, "zero": 2}
CONTEXT = {"cp": 2, "tp": 4, "sequence_parallel": True, "zero": 3, "recompute": True}
# Of embedding, the first four layers, the others, and head; micro-batches.
PLANS = {
    "ulysses": (TENSOR, ULYSSES, MIXED, TENSOR, 4),
    "context": (MIXED, CONTEXT, TENSOR, {"cp": 4, "zero": 1}, 2),
    "data": ({"tp": 2, "zero": 1}, {"dp": 8, "zero": 3}, {"ulysses": 4, "zero": 2, "recompute": True}, {"zero": 3}, 1),
}


def plan_of(kind: str) -> dict:
    embedding, first, second, head, micro_batches = PLANS[kind]
    layers = [first] * (LAYERS // 2) + [second] * (LAYERS // 2)
    units = [{"path": f"model.layers.{index}", "strategy": strategy} for index, strategy in enumerate(layers)]
    units = [{"path": "model.embed_tokens", "strategy": embedding}, *units, {"path": "lm_head", "strategy": head}]
    return {"ranks": 8, "global_batch": BATCH, "micro_batches": micro_batches, "units": units}


def train(program, weights) -> list[list[float]]:
    """Loss and gradient norm of each step."""
    options = ["--weights", weights, "--steps", STEPS, "--clip-grad", 0.5]
    rows = succeed("galvatron-opt", "--evaluate", program, *options).stdout.split()[1:]
    return [[float(value) for value in row.split(",")[1:3]] for row in rows]


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "30B" else pytest.mark.wide) for n in WIDTHS])
def test_folded_plans_equal_one_device(name, tmp_path):
    hidden, ffn = WIDTHS[name]
    widths = {"hidden_size": hidden, "intermediate_size": ffn, "num_hidden_layers": LAYERS}
    heads = {"num_attention_heads": 8, "num_key_value_heads": 1, "vocab_size": 512}
    model = Model(name, config_of("llama", **widths, **heads), tmp_path / "model", batch=BATCH, seq=SEQ)
    weights = model.program.with_suffix(".safetensors")
    expected = train(model.program, weights)
    assert len(expected) == STEPS
    for kind in PLANS:
        file, staged = tmp_path / f"{kind}.json", tmp_path / f"{kind}.mlir"
        file.write_text(json.dumps(plan_of(kind)))
        succeed("galvatron-opt", f"--plan={file}", "--compile-to=stage", model.program, "-o", staged)
        assert train(staged, weights) == [pytest.approx(row, rel=1e-5) for row in expected], kind
