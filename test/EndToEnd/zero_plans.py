"""Plans with a level of ZeRO for all layers, or one each."""

from __future__ import annotations

from harness import Layout
from plans import PLANS

PP = [0, 0, 0, 1, 1]
LAYOUTS = {
    "dp2": PLANS["dp2"],
    "dp2-accumulate": Layout(ranks=2, micro_batches=4),
    "dp4": Layout(ranks=4, micro_batches=2),
    "dp2-tp2": PLANS["dp2-tp2"],
    "dp2-pp2": Layout(ranks=4, stages=PP, micro_batches=4),
    "dp2-tp2-pp2": PLANS["dp2-tp2-pp2"],
    "mixed-pp2": Layout(ranks=8, tp=[2, 2, 1, 2, 1], stages=PP, micro_batches=2),
    "recompute": Layout(ranks=2, micro_batches=2, recompute=[False, True, False, True, False]),
}


def compile_zero(
    models, model: str, name: str, level: int | list[int], layout: Layout | None = None, every: bool | None = None
):
    """`level`: one for all layers, or one each. `every`: `reduce_every_micro_batch` of all, where it is said."""
    made = models(model)
    plan = (layout or LAYOUTS[name]).plan(made.units, made.batch)
    levels = level if isinstance(level, list) else [level] * len(made.units)
    for unit, own in zip(plan["units"], levels, strict=True):
        unit["strategy"]["zero"] = own
        if every is not None:
            unit["strategy"]["reduce_every_micro_batch"] = every
    return made.compile_plan(f"{name}-zero{level}-{every}", plan)
