"""What galvatron-profile makes of full disks, folders that cannot be written, hanging and killed ranks, and busy machines.

    unshare --mount python faults.py <folder> <fault>...

Mounts are of this process's own namespace. Each fault ends with its name and what was seen.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from interrupted import PATIENCE, entries, ranks_of, wait_for

# Seconds: 20 until a rank is said to hang, and what it takes to end.
HANG = 60


def command(folder, *more, limit=3, ranks=2):
    words = ["galvatron-profile", "hardware", "-o", folder, "--ranks", ranks, "--sizes", "4KiB:1MiB"]
    words += ["--kinds", "send,exchange,all_reduce,all_gather,copy", "--time-limit", limit, *more]
    return [str(word) for word in words]


def run(folder, *more, busy="--allow-busy", **options):
    full = command(folder, *([busy] if busy else []), *more, **options)
    return subprocess.run(full, capture_output=True, text=True, timeout=PATIENCE)


def start(folder, **options):
    full = command(folder, "--allow-busy", **options)
    return subprocess.Popen(full, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def check_journal(folder):
    """All lines but a torn last one can be read."""
    lines = (folder / "profile.journal").read_text().splitlines() if (folder / "profile.journal").exists() else []
    for line in lines[:-1]:
        json.loads(line)


def mount(folder, options):
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=True)


def goes_on(folder):
    again = run(folder)
    assert again.returncode == 0, again
    profile = json.loads((folder / "profile.json").read_text())
    assert profile["collectives"] or profile["left_out"]  # where others keep the machine busy, less is measured
    assert not (folder / "profile.journal").exists()
    return again.stdout


def full_at_start(folder):
    mount(folder, "size=4k")
    (folder / "others").write_text("x" * 4096)
    first = run(folder)
    assert first.returncode == 1 and "No space left" in first.stderr, first
    assert "start the same command again" in first.stderr, first.stderr  # it ends there, not after measuring
    (folder / "others").unlink()
    subprocess.run(["mount", "-o", "remount,size=4m", folder], check=True)
    goes_on(folder)


def full_midway(folder):
    """A disk with room for a few measurements more: the first lines of an interrupted journal, and copies of the last of
    these, as a crash may leave a line twice."""
    mount(folder, "size=4k")
    journal = folder / "profile.journal"
    interrupted = start(folder, limit=1000)
    wait_for("two measurements", lambda: len(entries(journal)) >= 2)
    interrupted.send_signal(signal.SIGINT)
    interrupted.communicate(timeout=PATIENCE)
    lines = journal.read_text().splitlines(keepends=True)[:3]  # one says of what machine it is
    last, size = lines[-1], len("".join(lines))
    journal.write_text("".join(lines) + last * ((4096 - 500 - size) // len(last)))
    before = len(entries(journal))
    full = run(folder, limit=1000)
    assert full.returncode == 1 and full.stderr.count("error:") == 1, full
    assert "No space left" in full.stderr and "start the same command again" in full.stderr, full.stderr
    assert not (folder / "profile.json").exists()
    check_journal(folder)
    assert len(entries(journal)) > before
    subprocess.run(["mount", "-o", "remount,size=4m", folder], check=True)
    assert "resumed: " in goes_on(folder)


def read_only(folder):
    mount(folder, "ro")
    ended = run(folder)
    assert ended.returncode == 1 and "error: cannot write '" in ended.stderr, ended
    assert "Read-only file system" in ended.stderr, ended.stderr
    assert not list(folder.iterdir())


def hang(folder):
    """One rank stops; the others say which, and end."""
    ended = start(folder, limit=1000)
    wait_for("two measurements", lambda: len(entries(folder / "profile.journal")) >= 2)
    rank = next(pid for pid in ranks_of(folder) if b"OMPI_COMM_WORLD_RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes())
    os.kill(rank, signal.SIGSTOP)
    begin = time.monotonic()
    output = ended.communicate(timeout=PATIENCE)[0]
    assert time.monotonic() - begin < HANG and ended.returncode == 1, (ended.returncode, output)
    assert "rank 1" in output and "error: " in output, output
    wait_for("end of the ranks", lambda: not ranks_of(folder))
    check_journal(folder)
    goes_on(folder)


def all_killed(folder):
    """The tool, mpirun and all ranks at once, at moments that a seed draws: starting, measuring, ending."""
    draw = random.Random(15)
    for _ in range(3):
        ended = start(folder, limit=4)
        time.sleep(draw.uniform(0.2, 6))
        for pid in [ended.pid, *ranks_of(folder)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        ended.communicate(timeout=PATIENCE)
        wait_for("end of the ranks", lambda: not ranks_of(folder))
        check_journal(folder)
        if (folder / "profile.json").exists():
            json.loads((folder / "profile.json").read_text())
    goes_on(folder)


def oversubscribed(folder):
    ended = run(folder, "--quiet", limit=2, ranks=os.cpu_count() + 2 - os.cpu_count() % 2)
    assert ended.returncode == 0, ended
    assert f"on {os.cpu_count()} cores; what is predicted from such a profile is not promised" in ended.stderr, ended


def busy(folder):
    """Refused, or measured and marked; plans from it say so."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count())]
    try:
        time.sleep(1)
        refused, marked = run(folder, busy=None), run(folder)
    finally:
        for other in others:
            other.kill()
    assert refused.returncode == 1 and "cores work for others; wait until they are through" in refused.stderr, refused
    assert marked.returncode == 0 and json.loads((folder / "profile.json").read_text())["busy"], marked
    config = folder / "config.json"
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config.write_text(json.dumps(sizes | {"model_type": "llama", "vocab_size": 256, "num_key_value_heads": 4}))
    words = ["galvatron-search", "--model", config, "--profile", folder / "profile.json", "--global-batch", "4"]
    plan = subprocess.run([str(w) for w in [*words, "--seq", "64", "--explain"]], capture_output=True, text=True)
    assert plan.returncode == 0 and "others used the machine" in plan.stdout + plan.stderr, plan


def main():
    for name in sys.argv[2:]:
        folder = Path(sys.argv[1]).resolve() / name
        shutil.rmtree(folder, ignore_errors=True)
        globals()[name](folder)
        print(name, "as it is to be", flush=True)


main()
