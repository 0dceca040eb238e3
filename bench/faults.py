"""Runs that meet faults go on, bit for bit: kills, stops, full disks and damaged checkpoints at random moments.

    . scripts/env.sh
    python bench/faults.py --count 200 --seed 1 -o bench/results/faults

Each of `--count` runs of a small GPT-2 with dropout (2 stages of 2 ranks, `--restarts`, `--save-every`) meets one fault, drawn
from `--seed`: what happens (kill -9 of a rank, of mpirun, or of `launch`, which is then called again with --load; SIGSTOP of
a rank; a disk that is full for a while; a truncated file of the newest checkpoint, and a killed rank) and when (while ranks
start, between steps, while a checkpoint is written, while they start again after an earlier kill). Its log and last
checkpoint must equal an undisturbed run's, byte for byte. Writes faults.md and faults.json, and fails where one does not,
hangs, or takes longer than the project promises. `--moments save --shard-size 20KB` tries saves alone, in several files.
`--program DIR` takes a compiled program instead, with `--steps`.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import report

ROOT = Path(__file__).resolve().parent.parent
FAULTS = ("kill a rank", "kill mpirun", "kill launch", "stop a rank", "full disk", "truncated file")
MOMENTS = ("start", "step", "save", "restart")
# What the project promises, in seconds: the end beyond the deadline, and training again.
END, AGAIN = 30, 60
# Trained, but the last checkpoint is not written.
NOT_SAVED = 73
# In which a run must be through, or it hangs.
PATIENCE = 180


@dataclass(frozen=True)
class Setting:
    """The same in every run of a call."""

    program: Path
    folder: Path
    steps: int
    every: int
    deadline: float
    start: float  # seconds that an undisturbed start takes
    bad_disk: Path | None = None  # a library that makes a disk full; without it a tmpfs is mounted
    moments: tuple[str, ...] = MOMENTS
    shard_size: str = "5GB"

    def options(self, run: Path) -> list[str]:
        data = ["--data", str(self.folder / "tokens.bin"), "--data-dtype", "u8", "--shuffle"]
        update = ["--lr", "0.001", "--steps", str(self.steps), "--clip-grad", "1", "--quiet"]
        return [*data, *update, "--log", str(run / "log.csv")]

    def saving(self, run: Path) -> list[str]:
        every = ["--save-every", str(self.every), "--keep", "3", "--shard-size", self.shard_size]
        return ["--save", str(run / "disk/run"), *every]


@dataclass
class Trial:
    """What a run met, and what came of it; times in seconds."""

    number: int
    fault: str
    moment: str
    ok: bool = False
    trouble: str = ""
    codes: list[int] = field(default_factory=list)
    restarts: int = 0
    end: float | None = None  # from the fault to the end of the ranks that met it
    again: float | None = None  # from there to the next row of the log


def state_of(pid: int) -> str:
    """R, S, T, Z ... of Linux; empty where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


def below(pid: int) -> list[int]:
    found, above = [], [pid]
    while above:
        try:
            children = [int(word) for word in Path(f"/proc/{above[-1]}/task/{above.pop()}/children").read_text().split()]
        except OSError:
            continue
        found += children
        above += children
    return found


def named(pids: list[int], name: str) -> list[int]:
    """Those whose command begins with this name, in the order of their ranks."""
    result = []
    for pid in pids:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0]
        except OSError:
            continue
        if os.path.basename(command).startswith(name):
            result.append(pid)
    return sorted(result)


def is_alive(pid: int) -> bool:
    return state_of(pid) not in ("", "Z")


class Run:
    """One run in a folder of its own, and what it does."""

    def __init__(self, setting: Setting, folder: Path):
        self.setting, self.folder = setting, folder
        self.checkpoints = folder / "disk/run"
        self.errors: list[tuple[float, str]] = []
        self.environment = dict(os.environ)
        if setting.bad_disk:
            self.environment |= {"LD_PRELOAD": str(setting.bad_disk), "DISK_IS_FULL": str(folder / "full")}
        (folder / "disk").mkdir(parents=True)

    def launch(self, *more: str) -> None:
        options = [*self.setting.options(self.folder), *self.setting.saving(self.folder), *more]
        deadline = ["--timeout", str(self.setting.deadline), "--restarts", "3"]
        self.process = subprocess.Popen(
            [self.setting.program / "launch", *options, *deadline],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self.read, args=(self.process.stderr,), daemon=True)
        self.reader.start()

    def read(self, stream) -> None:
        for line in stream:
            self.errors.append((time.monotonic(), line.rstrip("\n")))

    def mpiruns(self) -> list[int]:
        return [pid for pid in named(below(self.process.pid), "mpirun") if is_alive(pid)]

    def ranks(self) -> list[int]:
        return named(below(self.process.pid), "stage")

    def step(self) -> int:
        """The last in the log."""
        try:
            lines = (self.folder / "log.csv").read_text().splitlines()[1:]
            return int(lines[-1].split(",")[0]) if lines else 0
        except (OSError, ValueError):
            return 0

    def newest(self) -> Path | None:
        whole = sorted(path.parent for path in self.checkpoints.glob("step_*/checksums.xxh128"))
        return next((path for path in reversed(whole) if path.name[5:].isdigit()), None)

    def wait(self, condition, seconds: float = PATIENCE) -> bool:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(0.002)
        return True

    def is_over(self) -> bool:
        return self.process.poll() is not None


class Fault:
    """One trial: waits for the moment, does it, sees the run through, compares."""

    def __init__(self, setting: Setting, number: int, seed: int):
        self.setting = setting
        self.random = random.Random(f"{seed} {number}")
        # Every pair comes up equally often.
        fault, moment = number % len(FAULTS), number // len(FAULTS) % len(setting.moments)
        self.trial = Trial(number, FAULTS[fault], setting.moments[moment])
        self.run = Run(setting, setting.folder / f"run{number}")

    def go(self) -> Trial:
        try:
            if self.trial.fault == "full disk" and not self.setting.bad_disk:
                mount(self.run.folder / "disk")
            self.run.launch()
            self.await_moment()
            self.strike()
            self.see_through()
            self.compare()
            self.trial.ok = not self.trial.trouble
        except Exception as error:  # a trial that breaks is a finding, not the end of all others
            self.trial.trouble = f"{type(error).__name__}: {error}"
        finally:
            self.clean()
        return self.trial

    def await_moment(self) -> None:
        run, moment = self.run, self.trial.moment
        middle = self.random.randint(1, self.setting.steps * 3 // 4)
        if moment == "start":
            return time.sleep(self.random.uniform(0, self.setting.start))
        run.wait(lambda: run.step() >= middle or run.is_over())
        if moment == "save":
            # Some part of the next one.
            partial = lambda: any(run.checkpoints.glob("*.partial")) or run.is_over()  # noqa: E731
            run.wait(partial)
            time.sleep(self.random.uniform(0, 0.01))
        if moment == "restart":
            ranks = run.ranks()
            if ranks:
                os.kill(self.random.choice(ranks), signal.SIGKILL)
            run.wait(lambda: run.is_over() or (run.ranks() and not set(run.ranks()) & set(ranks)))
            time.sleep(self.random.uniform(0, self.setting.start))

    def strike(self) -> None:
        run, fault = self.run, self.trial.fault
        self.struck = time.monotonic()
        self.step_then, self.victims = run.step(), run.ranks()
        launcher = run.mpiruns()
        if fault == "kill launch":
            run.process.kill()
            self.victims += launcher
        elif fault == "kill mpirun":
            self.kill(launcher)
        elif fault == "full disk":
            self.fill(True)
            time.sleep(self.random.uniform(0.1, 1))
            self.fill(False)
        else:
            if fault == "truncated file" and (newest := run.newest()):
                damaged = self.random.choice(sorted(path for path in newest.iterdir()))
                os.truncate(damaged, self.random.randint(0, max(damaged.stat().st_size - 1, 0)))
            stops = fault == "stop a rank"
            self.kill([self.random.choice(self.victims)] if self.victims else [], signal.SIGSTOP if stops else signal.SIGKILL)

    def kill(self, pids: list[int], number: int = signal.SIGKILL) -> None:
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass  # it ended meanwhile

    def fill(self, full: bool) -> None:
        if self.setting.bad_disk:
            sign = self.run.folder / "full"
            sign.touch() if full else sign.unlink()
            return
        rest = self.run.folder / "disk/rest"
        if full:
            with open(rest, "wb") as file:
                try:
                    while True:
                        file.write(bytes(1 << 16))
                        file.flush()
                except OSError:
                    pass
        else:
            rest.unlink()

    def see_through(self) -> None:
        run, trial = self.run, self.trial
        if trial.fault != "full disk" and self.victims:
            ended = run.wait(lambda: run.is_over() or not any(map(is_alive, self.victims)), self.setting.deadline + 2 * END)
            trial.end = time.monotonic() - self.struck
            if not ended:
                trial.trouble = "hangs: ranks stay"
        if trial.fault == "kill launch":
            run.process.wait(PATIENCE)
            trial.codes.append(run.process.returncode)
            load = ["--load", str(run.checkpoints)]
            run.wait(lambda: not any(map(is_alive, self.victims)))
            run.launch(*load)
        if trial.end is not None:
            since = time.monotonic()
            before = self.mark()
            if run.wait(lambda: run.is_over() or self.mark() > before):
                trial.again = time.monotonic() - since
        try:
            run.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            trial.trouble = "hangs: launch does not end"
            return
        run.reader.join(PATIENCE)
        trial.codes.append(run.process.returncode)
        if run.process.returncode == NOT_SAVED and trial.fault == "full disk":
            run.launch("--load", str(run.checkpoints))
            trial.codes.append(run.process.wait(PATIENCE))
        trial.restarts = sum(line.startswith("restart ") for _, line in run.errors)
        # Loaded where the last step was saved already.
        is_complete = any("nothing is left to train" in line for _, line in run.errors)
        if run.process.returncode != 0 and not is_complete:
            trial.trouble = f"code {run.process.returncode}: " + " | ".join(line for _, line in run.errors)[-600:]

    def mark(self) -> float:
        """When the log was written last."""
        try:
            return (self.run.folder / "log.csv").stat().st_mtime
        except OSError:
            return 0

    def compare(self) -> None:
        trial = self.trial
        if trial.trouble:
            return
        if trial.end is not None and trial.end > self.setting.deadline + END:
            trial.trouble = f"ended {trial.end:.1f} s after the fault"
        if trial.again is not None and trial.again > AGAIN:
            trial.trouble = f"trained again after {trial.again:.1f} s"
        whole = self.setting.folder / "whole"
        if columns(self.run.folder / "log.csv") != columns(whole / "log.csv"):
            trial.trouble = "other rows in the log"
        last = f"step_{self.setting.steps:06}"
        for path in sorted((whole / "disk/run" / last).iterdir()):
            own = self.run.checkpoints / "latest" / path.name
            if not own.exists() or own.read_bytes() != path.read_bytes():
                trial.trouble = f"other {path.name}"

    def clean(self) -> None:
        run = self.run
        leftovers = below(run.process.pid)
        if not run.is_over():
            run.process.kill()
            run.process.wait()
        self.kill(leftovers)
        if os.path.ismount(run.folder / "disk"):
            subprocess.run(["umount", "-l", run.folder / "disk"], check=False)
        if not self.trial.trouble:
            shutil.rmtree(run.folder, ignore_errors=True)


def columns(log: Path) -> list[list[str]]:
    """Without speed and memory."""
    return [line.split(",")[:4] for line in log.read_text().splitlines()]


def mount(folder: Path, megabytes: int = 48) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", folder], check=True)


def can_mount(folder: Path) -> bool:
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], capture_output=True)
    if mounted.returncode == 0:
        subprocess.run(["umount", folder], check=True)
    folder.rmdir()
    return mounted.returncode == 0


def compile_program(folder: Path) -> Path:
    """GPT-2 with dropout, two layers of width 64, as two stages of two ranks."""
    config = ROOT / "test/Inputs/models/gpt2_dropout.json"
    archive, model, plan = folder / "model.pt", folder / "model.mlir", folder / "plan.json"
    where = {"embedding": 0, "layers.0": 0, "layers.1": 1, "head": 1}
    units = [{"path": path, "stage": stage} for path, stage in where.items()]
    plan.write_text(
        json.dumps({"ranks": 4, "global_batch": 8, "micro_batches": 2, "schedule": "1f1b", "units": units})
    )
    for command in (
        [sys.executable, "-m", "galvatron.export", "--config", config, "-o", archive],
        ["galvatron-import", archive, "--batch", "8", "--seq", "16", "-o", model],
        ["galvatron-opt", f"--plan={plan}", "--lower", model, "-o", folder / "program"],
    ):
        subprocess.run(list(map(str, command)), check=True, capture_output=True, cwd=folder)
    return folder / "program"


def undisturbed(setting: Setting) -> tuple[float, float]:
    """Trains without faults; seconds of its start and in all."""
    run = Run(setting, setting.folder / "whole")
    begin = time.monotonic()
    run.launch()
    run.wait(lambda: run.step() > 0 or run.is_over())
    start = time.monotonic() - begin
    run.process.wait(PATIENCE)
    run.reader.join(PATIENCE)
    if run.process.returncode != 0:
        raise SystemExit(f"the undisturbed run ended with {run.process.returncode}: {run.errors}")
    return start, time.monotonic() - begin


def describe(trials: list[Trial], setting: Setting, seconds: float) -> str:
    groups = collections.defaultdict(list)
    for trial in trials:
        groups[trial.fault, trial.moment].append(trial)
    worst = lambda values: f"{max(values):.1f}" if values else ""  # noqa: E731
    rows = []
    for fault in FAULTS:
        for moment in MOMENTS:
            group = groups[fault, moment]
            if group:
                end, again = ([value for value in values if value is not None] for values in zip(*((t.end, t.again) for t in group)))
                rows.append([f"{fault}, {moment}", len(group), sum(t.ok for t in group), sum(t.restarts for t in group), worst(end), worst(again)])
    good = sum(trial.ok for trial in trials)
    text = f"# Faults\n\n{datetime.date.today()}, {report.hardware()}. {good} of {len(trials)} runs of {setting.steps} steps went on bit for bit"
    text += f", in {seconds / 60:.0f} minutes; deadline {setting.deadline:g} s. The end is the one of the ranks that met the fault, from"
    text += " the fault on, training again the next row of the log after it; seconds, the longest. docs/runtime.md, \"Recovery\".\n\n"
    text += report.table(["fault, moment", "runs", "bit for bit", "restarts", "end", "training again"], rows)
    for trial in trials:
        if trial.trouble:
            text += f"\n- run {trial.number}, {trial.fault}, {trial.moment}: {trial.trouble}"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first run")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--program", type=Path, help="a folder of stages, instead of one compiled here")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--every", type=int, default=15, help="steps from one checkpoint to the next")
    parser.add_argument("--deadline", type=float, default=4, help="--timeout, in seconds")
    parser.add_argument("--moments", nargs="+", choices=MOMENTS, default=MOMENTS, help="those alone")
    parser.add_argument("--shard-size", default="5GB", help="of checkpoints, as 20KB for some files each")
    parser.add_argument("--bad-disk", type=Path, help="the library bad-disk of the tests, where nothing may be mounted")
    parser.add_argument("-o", "--out", type=Path, help="without suffix")
    arguments = parser.parse_args()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        tokens = random.Random(1)
        (folder / "tokens.bin").write_bytes(bytes(tokens.randrange(16) for _ in range(5000)))
        program = arguments.program or compile_program(folder)
        bad_disk = arguments.bad_disk
        if not bad_disk and not can_mount(folder / "trial"):
            raise SystemExit("nothing can be mounted here; give --bad-disk build/lib/libbad-disk.so")
        setting = Setting(program.resolve(), folder, arguments.steps, arguments.every, arguments.deadline, 0, bad_disk)
        setting = replace(setting, moments=tuple(arguments.moments), shard_size=arguments.shard_size)
        start, whole = undisturbed(setting)
        print(f"undisturbed: {start:.1f} s until the first step, {whole:.1f} s in all", flush=True)
        setting = replace(setting, start=start)
        numbers = range(arguments.first, arguments.first + arguments.count)
        trials = []
        with ThreadPoolExecutor(arguments.jobs) as pool:
            for trial in pool.map(lambda number: Fault(setting, number, arguments.seed).go(), numbers):
                trials.append(trial)
                print(f"{trial.number:4} {trial.fault}, {trial.moment}: {trial.trouble or 'ok'}", flush=True)
        text = describe(trials, setting, time.monotonic() - begin)
        if arguments.out:
            report.write({"hardware": report.hardware(), "trials": [asdict(trial) for trial in trials]}, text, arguments.out)
        else:
            print(text)
    sys.exit(not all(trial.ok for trial in trials))


if __name__ == "__main__":
    main()
