"""The plans that a model of three layers is tried under: embedding, layers 0 to 2, head.

World rank = ((stage · dp) + dp rank) · tp + tp rank. `tp` on a drawing is one box cut, `dp` one box copied.
"""

from harness import Layout

ONE = Layout()
PLANS = {
    "one": ONE,
    "dp2": Layout(ranks=2),
    "tp2": Layout(ranks=2, tp=2),
    "tp4": Layout(ranks=4, tp=4),
    "pp2-gpipe": Layout(ranks=2, stages=[0, 0, 0, 1, 1], schedule="gpipe", micro_batches=4),
    "pp2-1f1b": Layout(ranks=2, stages=[0, 0, 0, 1, 1], schedule="1f1b", micro_batches=4),
    "dp2-tp2": Layout(ranks=4, tp=2),
    "tp2-pp2": Layout(ranks=4, tp=2, stages=[0, 0, 0, 1, 1], micro_batches=4),
    "dp2-tp2-pp2": Layout(ranks=8, tp=2, stages=[0, 0, 0, 1, 1], micro_batches=4),
    # tp 4 | dp 4 | tp 2 x dp 2 in one stage: what crosses is redistributed.
    "mixed": Layout(ranks=4, tp=[1, 4, 1, 2, 4]),
    "mixed-pp2": Layout(ranks=8, tp=[4, 4, 1, 2, 1], stages=[0, 0, 0, 1, 1], micro_batches=2),
    "recompute": Layout(ranks=2, tp=2, recompute=[False, True, False, True, False]),
    "recompute-pp2": Layout(
        ranks=4, stages=[0, 0, 0, 1, 1], micro_batches=4, recompute=[False, True, True, False, False]
    ),
    # The head alone on the last stage; the embedding alone on the first.
    "uneven": Layout(ranks=3, stages=[0, 1, 1, 1, 2], micro_batches=4),
    "accumulate": Layout(ranks=1, micro_batches=4),
}


def layout_of(model) -> Layout:
    """Two stages of a module of any number of layers, the second layer recomputed."""
    count = len(model.units)
    stages, recompute = [int(k >= count // 2) for k in range(count)], [k == 1 for k in range(count)]
    return Layout(ranks=4, tp=2, stages=stages, micro_batches=4, recompute=recompute)
