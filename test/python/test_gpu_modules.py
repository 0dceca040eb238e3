"""What bench/gpu/modules.py adds to the checks: programs that share a GPU, losses of zero, gradients made of rounding."""

from __future__ import annotations

import argparse
import json
import sys
import threading
from pathlib import Path

import numpy
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench/gpu"))

import gradients  # noqa: E402
import modules  # noqa: E402
import running  # noqa: E402


def runner_of(tmp_path: Path) -> running.Runner:
    devices = running.Devices()
    devices.count = 0
    return running.Runner(2, tmp_path / "logs", devices, at_once=2)


def test_programs_share_a_device_up_to_its_places(tmp_path: Path):
    """Four programs of one rank wait for each other: they run at once on two devices, or never end."""
    runner, passed = runner_of(tmp_path), []
    meet = "touch $0/$1; for i in $(seq 500); do [ $(ls $0 | wc -l) -ge 4 ] && exit 0; sleep 0.01; done; exit 1"
    (tmp_path / "met").mkdir()

    def one(number: int) -> None:
        command = ["sh", "-c", meet, tmp_path / "met", number]
        passed.append(runner.run(f"meet-{number}", command, 1, 10, {"PATH": "/usr/bin:/bin"}).passed)

    running.in_parallel([lambda n=n: one(n) for n in range(4)], 4)
    assert passed == [True] * 4
    assert runner.free == [2, 2]


def test_a_program_alone_waits_for_a_whole_device(tmp_path: Path):
    runner, order = runner_of(tmp_path), []
    runner._take([0, 1], 1)  # two programs that run

    def alone() -> None:
        runner.run("alone", ["true"], 1, 10, {"PATH": "/usr/bin:/bin"}, alone=True)
        order.append("alone")

    thread = threading.Thread(target=alone)
    thread.start()
    thread.join(0.2)
    order.append("first")
    with runner.changed:
        runner._take([1], -1)
        runner.changed.notify_all()
    thread.join(10)
    assert order == ["first", "alone"]


@pytest.mark.parametrize("error, passed", [(2e-5, True), (4e-5, False)])
def test_thirty_times_rounding_is_allowed(error: float, passed: bool):
    wanted = {"large": numpy.ones(4), "difference": numpy.full(1, 1e-4)}
    found = {"large": numpy.ones(4), "difference": numpy.full(1, 1e-4 + error)}
    assert gradients.compare(found, wanted, 1e-4)[0].ratio > 1
    worst, _ = gradients.compare(found, wanted, 1e-4, rounding={"difference": 1e-6})
    assert (worst.ratio <= 1) is passed and worst.where == "difference"


@pytest.mark.parametrize("loss, passed", [("0", True), ("1e-3", False), ("nan", False)])
def test_a_batch_without_labels_has_the_loss_zero(tmp_path: Path, loss: str, passed: bool):
    index = {"date": "", "device": "cpu", "size": "tiny", "models": {}, "programs": [], "tests": []}
    (tmp_path / modules.programs.INDEX).write_text(json.dumps(index))
    (tmp_path / "references").mkdir()
    numpy.savez(tmp_path / "references" / "toy.npz", losses=numpy.array([1.5, 0.0]))
    (tmp_path / "log.csv").write_text(f"step,loss\n1,1.5\n2,{loss}\n")
    arguments = argparse.Namespace(folder=tmp_path, out=tmp_path, gpus=1, at_once=1)
    checker = modules.Checker(arguments)
    checker.against_recorded("toy-one", {"model": "toy", "precision": "fp32"}, tmp_path, 0.0)
    assert checker.verdicts[-1].passed is passed
