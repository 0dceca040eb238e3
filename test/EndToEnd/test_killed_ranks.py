"""A rank that is killed at any moment ends all within 30 s, whatever the others wait for it in."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time

import pytest
from harness import Layout, environment, ranks_of
from zero_plans import compile_zero

# What ranks of a plan wait in for one another: gathers of values, rounds of a ring, all-to-alls, gathers of parameters.
LAYOUTS = {
    "sequence parallel": (Layout(ranks=2, tp=2, sequence_parallel=True, micro_batches=2), 0),
    "ring": (Layout(ranks=4, cp=4, cp_kind="ring"), 0),
    "ulysses": (Layout(ranks=2, ulysses=2, micro_batches=2), 0),
    "ZeRO-3": (Layout(ranks=2, micro_batches=2), 3),
    # Activations and gradients of several parts, both ways, and sums of a stage's ranks beside them.
    "interleaved": (
        Layout(ranks=2, stages=[0, 0, 1, 0, 1], schedule="interleaved", virtual_stages=2, micro_batches=4),
        0,
    ),
    "interleaved, two ranks a stage": (
        Layout(ranks=4, stages=[0, 1, 0, 1, 1], schedule="interleaved", virtual_stages=2, micro_batches=2),
        1,
    ),
    "1f1b": (Layout(ranks=2, stages=[0, 0, 1, 1, 1], micro_batches=4), 0),
    "gpipe": (Layout(ranks=2, stages=[0, 0, 1, 1, 1], schedule="gpipe", micro_batches=4), 0),
}
IN_CI = ("ring", "interleaved")
SECONDS = 30


@pytest.mark.parametrize(
    "name",
    [*IN_CI, *(pytest.param(name, marks=pytest.mark.wide) for name in LAYOUTS if name not in IN_CI)],
)
def test_a_rank_killed_at_a_random_moment(name, models, tokens, tmp_path):
    layout, level = LAYOUTS[name]
    compiled = compile_zero(models, "llama", name, level, layout)
    draw, log = random.Random(name), tmp_path / "log.csv"
    words = [compiled.folder / "launch", "--steps", "1000000", "--data", tokens, "--log", log]
    with (tmp_path / "output").open("w") as output:
        run = subprocess.Popen([str(word) for word in words], env=environment(), stdout=output, stderr=output)
    try:
        # A few steps, so that all ranks are in the middle of their timetables.
        while not log.exists() or log.read_text().count("\n") < 4:
            assert run.poll() is None, (tmp_path / "output").read_text()
            time.sleep(0.05)
        time.sleep(draw.uniform(0, 0.3))
        ranks = ranks_of(compiled.folder)
        assert sorted(ranks) == list(range(layout.ranks))
        victim = draw.randrange(layout.ranks)
        os.kill(ranks[victim], signal.SIGKILL)
        assert run.wait(timeout=SECONDS) != 0
        left = ranks_of(compiled.folder)
    finally:
        run.kill()
        for process in ranks_of(compiled.folder).values():
            os.kill(process, signal.SIGKILL)
    # Of the first rank `launch` itself says it, which does not know its number.
    died = rf"error: rank {victim} \(stage \d\) on host \S+,( process \d+,)? died"
    assert re.search(died, (tmp_path / "output").read_text())
    assert not left
