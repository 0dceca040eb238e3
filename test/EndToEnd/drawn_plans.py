"""Plans in which each layer draws its own strategy, out of all that the lowering runs: seeded, legal, as plan files."""

from __future__ import annotations

import dataclasses
import random


@dataclasses.dataclass
class Sizes:
    """What a strategy may cut of a model. `queries` are heads of queries; `tied`: both ends have one table."""

    batch: int
    seq: int
    queries: int
    feed_forward: int
    vocabulary: int
    tied: bool = False


def primes_of(number: int) -> list[int]:
    return next(([p, *primes_of(number // p)] for p in range(2, number + 1) if number % p == 0), [])


def is_legal(sizes: Sizes, strategy: dict, micro_batches: int, is_block: bool) -> bool:
    tp, ulysses = strategy["tp"], strategy["ulysses"]
    parts = strategy["cp"] * ulysses * (tp if strategy["sequence_parallel"] else 1)
    cut = sizes.vocabulary % tp == 0
    if is_block:
        cut = sizes.queries % (tp * ulysses) == 0 and sizes.feed_forward % tp == 0
    return cut and sizes.batch % (strategy["dp"] * micro_batches) == 0 and sizes.seq % parts == 0


def draw_strategy(random: random.Random, ranks: int, names: list[str]) -> dict:
    """Legal or not. `names`: of the layer's values that can be recomputed."""
    degrees = dict.fromkeys(("dp", "cp", "ulysses", "tp"), 1)
    for prime in primes_of(ranks):
        degrees[random.choice(list(degrees))] *= prime
    strategy = degrees | {
        "sequence_parallel": degrees["tp"] > 1 and random.random() < 0.5,
        "strided": degrees["tp"] > 1 and random.random() < 0.3,
        "zero": random.randrange(4) if degrees["tp"] < ranks else 0,
        "recompute": random.random() < 0.3,
    }
    if not strategy["recompute"]:
        count = random.choice((0, 1, len(names) // 2, len(names)))
        strategy["recompute_values"] = random.sample(names, min(count, len(names)))
    return strategy


def draw_plan(seed: int, sizes: Sizes, units: list[dict], values: dict[str, list[str]], most_ranks: int = 8) -> dict:
    """`units` and `values`: of a written plan, whose keys are `units` and `recomputable_values`."""
    draw = random.Random(seed)
    stages = draw.choice((1, 2))
    ranks = draw.choice([n for n in (2, 3, 4, 6, 8) if n * stages <= most_ranks and (n % 3 or sizes.batch % 3 == 0)])
    micro_batches = draw.choice([n for n in (1, 2, 3, 4) if sizes.batch % n == 0])
    border = draw.randrange(1, len(units))
    mesh = primes_of(ranks)
    draw.shuffle(mesh)
    planned = []
    for number, unit in enumerate(units):
        is_block = 0 < number < len(units) - 1
        names = values.get(unit["layer_type"], [])
        # States of a tied table are shared alike.
        zero = planned[0]["strategy"]["zero"] if sizes.tied and number == len(units) - 1 else None
        while True:
            strategy = draw_strategy(draw, ranks, names)
            if is_legal(sizes, strategy, micro_batches, is_block) and zero in (None, strategy["zero"]):
                break
        planned.append({"path": unit["path"], "stage": int(number >= border) * (stages - 1), "strategy": strategy})
    return {
        "ranks": ranks * stages,
        "global_batch": sizes.batch,
        "micro_batches": micro_batches,
        "schedule": draw.choice(("gpipe", "1f1b")),
        "mesh": mesh,
        "units": planned,
    }
