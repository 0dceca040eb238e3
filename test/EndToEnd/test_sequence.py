"""Sequence-parallel plans equal PyTorch: Megatron's, Ulysses, context parallelism, with each other and with stages.

Loss and gradient norm of each step, the first step's gradients, and losses after AdamW's steps, which weights made.
"""

from __future__ import annotations

import pytest
from harness import Compiled, Layout, check_equal, succeed, targets, train_adamw

TWO_STAGES = [0, 0, 0, 1, 1]

# Embedding, layers 0 to 2, head; 4 query heads, 2 of keys where they are shared, 16 positions.
PLANS = {
    "sp2": Layout(ranks=2, tp=2, sequence_parallel=True),
    "sp2-dp2-pp2": Layout(ranks=8, tp=2, sequence_parallel=True, stages=TWO_STAGES, micro_batches=4),
    "sp4-strided": Layout(ranks=4, tp=[4, 2, 4, 2, 4], sequence_parallel=True, strided=True),
    "sp2-cp2-kept": Layout(
        ranks=4, tp=2, cp=2, sequence_parallel=True, keep_gathered=True, recompute=[False, False, True, False, False]
    ),
    "ulysses2-pp2": Layout(ranks=4, ulysses=2, stages=TWO_STAGES, micro_batches=2),
    # More than heads of keys.
    "ulysses4": Layout(ranks=4, ulysses=4, recompute=[False, True, False, False, False]),
    "cp2": Layout(ranks=2, cp=2),
    "cp2-sp2-dp2": Layout(ranks=8, cp=2, tp=2, sequence_parallel=True, micro_batches=2),
    "zigzag2": Layout(ranks=2, cp=2, cp_zigzag=True),
    "zigzag2-ulysses2": Layout(ranks=4, cp=2, cp_zigzag=True, ulysses=2),
    "ring2-sp2-pp2": Layout(
        ranks=8, cp=2, cp_kind="ring", cp_zigzag=True, tp=2, sequence_parallel=True, stages=TWO_STAGES, micro_batches=2
    ),
    "ring4": Layout(ranks=4, cp=4, cp_kind="ring", cp_zigzag=False),
    # Of four ranks: gathered, as a ring, with positions from both ends and without, beside tp.
    "rings-mixed": Layout(
        ranks=4,
        cp=[4, 4, 2, 4, 2],
        tp=[1, 1, 2, 1, 2],
        cp_kind=["gathered", "ring", "ring", "gathered", "gathered"],
        cp_zigzag=[True, True, False, False, True],
        micro_batches=2,
        recompute=[False, True, False, False, False],
    ),
    # Each layer its own: cp 4 | ulysses 2 x cp 2 | dp 2 x tp 2 | tp 4 with its sequence | ulysses 2 x tp 2.
    "mixed": Layout(
        ranks=4,
        cp=[4, 2, 1, 1, 1],
        ulysses=[1, 2, 1, 1, 2],
        tp=[1, 1, 2, 4, 2],
        sequence_parallel=[False, False, False, True, False],
        micro_batches=2,
    ),
}
MODELS = {
    "llama": ("sp2", "sp2-dp2-pp2", "sp4-strided", "sp2-cp2-kept", "ulysses2-pp2", "ulysses4")
    + ("cp2-sp2-dp2", "mixed")
    + ("zigzag2", "zigzag2-ulysses2", "ring2-sp2-pp2", "ring4", "rings-mixed"),
    "gpt2": ("sp2-dp2-pp2", "ulysses4", "cp2", "mixed", "zigzag2", "rings-mixed"),
    "falcon_alibi": ("sp2", "zigzag2"),  # a mask and a bias that depend on positions
    "mistral": ("sp2", "ulysses4", "cp2-sp2-dp2", "mixed", "zigzag2", "rings-mixed"),
}


@pytest.mark.parametrize("name, plan", [(name, plan) for name, plans in MODELS.items() for plan in plans])
def test_equals_pytorch(name, plan, trained, tokens, tmp_path):
    model, expected = trained(name)
    check_equal(train_adamw(model.compile(plan, PLANS[plan]), tokens, tmp_path), expected)


def test_plan_with_the_reference_keys(trained, tokens, tmp_path):
    model, expected = trained("llama")
    plan = {
        "pp_deg": 1, "tp_sizes_enc": "2,2,2", "tp_consecutive_flags": "0,1,1", "use_sp": "0,1,0", "cp_sizes_enc": "1,2,2",
        "dp_types_enc": "0,0,0", "global_bsz": 8, "chunks": 2, "vtp": 2, "vsp": 1, "vcp": 2, "world_size": 4,
    }  # fmt: skip
    check_equal(train_adamw(model.compile_plan("reference", plan), tokens, tmp_path), expected)


def test_searched_plan(trained, tokens, tmp_path):
    """Where memory is scarce the search divides sequences too."""
    model, expected = trained("llama")
    options = ("--ranks=4", "--memory=720KiB", "--global-batch=8", "-o", tmp_path / "out")
    succeed("galvatron-opt", "--search", "--lower", model.program, *options)
    compiled = Compiled(tmp_path / "out")
    keys = {key for unit in compiled.plan["units"] for key in unit["strategy"]}
    assert keys & {"sequence_parallel", "ulysses", "cp"}, compiled.plan
    check_equal(train_adamw(compiled, tokens, tmp_path), expected)


def test_dropout_masks_are_of_global_positions(models, tokens, tmp_path):
    model = models("gpt2_dropout")
    expected = train_adamw(model.compile("one", Layout()), tokens, tmp_path / "one")
    for plan in ("sp2", "mixed", "rings-mixed"):
        check_equal(train_adamw(model.compile(plan, PLANS[plan]), tokens, tmp_path / plan), expected)


@pytest.mark.skipif("cuda" not in targets(), reason="no libraries of a GPU")
@pytest.mark.parametrize("plan", ("sp2-dp2-pp2", "ulysses4", "cp2-sp2-dp2", "mixed", "ring2-sp2-pp2"))
def test_compiles_for_gpus(plan, trained, tmp_path):
    model, _ = trained("llama")
    file = model.compile(plan, PLANS[plan]).folder / "plan.json"
    for precision in ("fp32", "bf16"):
        options = ("--target=cuda", f"--precision={precision}", "-o", tmp_path / precision)
        succeed("galvatron-opt", f"--plan={file}", "--lower", model.program, *options)
