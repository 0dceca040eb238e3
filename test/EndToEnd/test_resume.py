"""A run that a signal or --max-seconds ends at any step goes on, under the same plan bit for bit: rows and files.

Llama, GPT-2 and one with dropout on a blend in Megatron's order; `--wide` tries each way to end under each plan and
each way to save. Each goes on under the same plan and another one.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import BATCH, ROOT, SEQ, Compiled, Layout, Model, call, environment, ranks_of, succeed
from plans import PLANS

from galvatron import compare

sys.path.insert(0, str(ROOT / "scripts"))
import write_megatron_orders as orders  # noqa: E402

STEPS, EVERY, ENDED = 24, 5, 75
# Far above what any run needs, also where many share the cores.
PATIENCE = 600
OPTIONS = ("--steps", STEPS, "--optimizer", "adamw", "--lr", "3e-3", "--lr-schedule", "cosine", "--warmup", 5)
OPTIONS += ("--weight-decay", "0.1", "--clip-grad", "0.5", "--seed", 5, "--keep", 2, "--quiet")
SAVING = {"sharded": ("--shard-size", "20KB"), "beside": (), "at once": ("--save-sync",)}
ENDS = {"SIGTERM": signal.SIGTERM, "SIGUSR1": signal.SIGUSR1, "SIGINT": signal.SIGINT, "max-seconds": None}
# Each goes on under the next one, too.
NAMES = ("dp2-tp2", "pp2-1f1b", "recompute-pp2", "zero3")
CHOSEN = (("llama", "SIGTERM", "dp2-tp2", "sharded"), ("gpt2_dropout", "max-seconds", "pp2-1f1b", "beside"))


def cases() -> list:
    return [
        pytest.param(*case, marks=[] if case in CHOSEN else pytest.mark.wide)
        for model in ("llama", "gpt2", "gpt2_dropout")
        for plan in NAMES
        for saving in SAVING
        for end in ENDS
        for case in [(model, end, plan, saving)]
    ]


def train(compiled: Compiled, folder: Path, *options):
    """To the last step."""
    folder.mkdir(exist_ok=True)
    words = (*options, "--log", folder / "log.csv", "--save", folder / "saved")
    done = call(compiled.folder / "launch", *words, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr


class Programs:
    """Models whose labels are the next tokens, compiled for plans, and their runs that nothing ends."""

    def __init__(self, models, folder: Path):
        self.models, self.folder = models, folder
        self.made: dict[tuple[str, str], Compiled] = {}
        self.wholes: dict[tuple, tuple[Path, float]] = {}
        for number, count in enumerate((200, 150)):
            case = {"datasets": [count], "seed": number}
            orders.write_indexed(folder / f"set{number}", orders.sequences(case)[0])
        blend = ("--data", 30, folder / "set0", 70, folder / "set1", "--data-seed", 11)
        self.options = (*OPTIONS, *blend, "--save-every", EVERY)

    def get(self, name: str, plan: str) -> Compiled:
        if (name, plan) not in self.made:
            model: Model = self.models(name)
            program, output = self.folder / f"{name}.mlir", self.folder / f"{name}-{plan}"
            sizes = ("--batch", BATCH, "--seq", SEQ)
            if not program.exists():
                succeed("galvatron-import", model.archive, "--labels", "next", *sizes, "-o", program)
            layout = PLANS.get(plan, Layout(ranks=2, micro_batches=2)).plan(model.units)
            for unit in layout["units"] if plan == "zero3" else []:
                unit["strategy"]["zero"] = 3
            file = self.folder / f"{name}-{plan}.json"
            file.write_text(json.dumps(layout))
            succeed("galvatron-opt", f"--plan={file}", "--lower", program, "-o", output)
            self.made[name, plan] = Compiled(output)
        return self.made[name, plan]

    def whole(self, name: str, plan: str, saving: str) -> tuple[Path, float]:
        """The folder of a run that nothing ends, and its seconds."""
        key = (name, plan, saving == "sharded")
        if key not in self.wholes:
            folder = self.folder / f"whole-{'-'.join(map(str, key))}"
            compiled = self.get(name, plan)
            begin = time.monotonic()
            train(compiled, folder, *self.options, *SAVING[saving])
            self.wholes[key] = folder, time.monotonic() - begin
        return self.wholes[key]


@pytest.fixture(scope="module")
def programs(models, tmp_path_factory):
    return Programs(models, tmp_path_factory.mktemp("resume"))


def num_rows(log: Path) -> int:
    return max(log.read_text().count("\n") - 1, 0) if log.exists() else 0


def send(number: int, run: subprocess.Popen, compiled: Compiled, draw: random.Random):
    """To `launch` or to any rank."""
    ranks = ranks_of(compiled.folder)
    target = draw.choice([run.pid, *(ranks[rank] for rank in sorted(ranks))])
    try:
        os.kill(target, number)
    except ProcessLookupError:
        pass  # its own run is over; the code tells


def end_early(compiled: Compiled, folder: Path, words: list, end: str, seconds: float, draw: random.Random) -> int:
    """Trains until it is ended somewhere; its code."""
    number, row = ENDS[end], draw.randint(1, STEPS * 3 // 4)
    if number is None:
        words = [*words, "--max-seconds", max(0.02, seconds * draw.uniform(0.3, 0.7))]
    log = folder / "log.csv"
    with (folder / "output").open("w") as output:
        run = subprocess.Popen(list(map(str, words)), env=environment(), stdout=output, stderr=output)
    try:
        while number is not None and run.poll() is None and num_rows(log) < row:
            time.sleep(0.002)
        if number is not None and run.poll() is None:
            send(number, run, compiled, draw)
        return run.wait(timeout=PATIENCE)
    finally:
        if run.poll() is None:
            run.kill()


def rows_of(folder: Path) -> list[list[str]]:
    """Step, loss, rate and norm, as written."""
    return [line.split(",")[:4] for line in (folder / "log.csv").read_text().splitlines()]


def files_of(folder: Path) -> dict[str, bytes]:
    last = folder / "saved" / f"step_{STEPS:06}"
    return {path.name: path.read_bytes() for path in last.iterdir()}


@pytest.mark.parametrize("model,end,plan,saving", cases())
def test_goes_on_where_it_ended(model, end, plan, saving, programs, tmp_path):
    draw = random.Random(f"{model} {end} {plan} {saving}")
    other = NAMES[(NAMES.index(plan) + 1) % len(NAMES)]
    compiled = programs.get(model, plan)
    whole, seconds = programs.whole(model, plan, saving)
    options = [*programs.options, *SAVING[saving]]
    for attempt in range(8):  # a fast machine may be through before the end comes
        ended = tmp_path / f"ended{attempt}"
        ended.mkdir()
        words = [compiled.folder / "launch", *options, "--log", ended / "log.csv", "--save", ended / "saved"]
        code = end_early(compiled, ended, words, end, seconds / 2**attempt, draw)
        if code != 0:
            break
    text = (ended / "output").read_text()
    assert code == ENDED, text
    step = num_rows(ended / "log.csv")
    assert 0 < step < STEPS and rows_of(ended) == rows_of(whole)[: step + 1]
    assert os.readlink(ended / "saved" / "latest") == f"step_{step:06}"
    for name in (plan, other):
        folder = tmp_path / name
        shutil.copytree(ended, folder, symlinks=True)
        train(programs.get(model, name), folder, *options, "--load", folder / "saved")
    assert rows_of(tmp_path / plan) == rows_of(whole)
    assert files_of(tmp_path / plan) == files_of(whole)
    log = compare.read_log(tmp_path / other / "log.csv")
    assert rows_of(tmp_path / other)[: step + 1] == rows_of(whole)[: step + 1]
    expected = compare.read_log(whole / "log.csv")
    differences = [d for c in ("loss", "grad_norm") for d in compare.compare_columns(log, expected, c, 5e-4)]
    assert not [d for d in differences if not d.passed]
    assert files_of(tmp_path / other).keys() == files_of(whole).keys()
