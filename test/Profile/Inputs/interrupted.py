"""Interrupts a measurement once its journal has lines, by each signal, and starts the same command again.

    python interrupted.py <folder> <signal>...      signals of the whole command; RANK: kill -9 of one rank alone
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

PATIENCE = 120  # seconds, of a busy machine


def command(folder, limit):
    return (
        ["galvatron-profile", "hardware", "-o", str(folder), "--ranks", "2", "--allow-busy", "--sizes", "4KiB:16MiB"]
        + ["--kinds", "send,exchange,all_reduce,copy", "--time-limit", str(limit)]
    )


def wait_for(what, condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"no {what} in {PATIENCE} s"
        time.sleep(0.05)


def entries(journal):
    return journal.read_text().splitlines()[1:] if journal.exists() else []


def ranks_of(folder):
    """Processes that measure into this folder, under mpirun."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().split(b"\0")
            is_rank = b"OMPI_COMM_WORLD_RANK=" in (process / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in line and is_rank:
            found.append(int(process.name))
    return found


def interrupt(folder, name):
    shutil.rmtree(folder, ignore_errors=True)
    journal = folder / "profile.journal"
    run = subprocess.Popen(command(folder, 1000), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for("two measurements", lambda: len(entries(journal)) >= 2)
    if name == "RANK":
        os.kill(ranks_of(folder)[0], signal.SIGKILL)
    else:
        run.send_signal(getattr(signal, name))
    output = run.communicate(timeout=PATIENCE)[0]
    wait_for("end of the ranks", lambda: not ranks_of(folder))
    assert not (folder / "profile.json").exists(), "half a profile"
    code = {"SIGINT": 130, "SIGKILL": -9, "RANK": 1}[name]
    assert run.returncode == code, (name, run.returncode, output)
    for each in entries(journal)[:-1]:
        json.loads(each)
    return len(entries(journal))


def main():
    folder = Path(sys.argv[1]).resolve()
    for name in sys.argv[2:]:
        kept = interrupt(folder, name)
        again = subprocess.run(command(folder, 5), capture_output=True, text=True, timeout=PATIENCE)
        assert again.returncode == 0, again
        words = next(line for line in again.stdout.splitlines() if line.startswith("resumed: ")).split()
        assert kept - 1 <= int(words[1]) <= kept, (kept, words)  # the last line may have been torn
        print(name, "resumed")


if __name__ == "__main__":
    main()
