"""Runs programs so that none can outlast its time or leave processes behind, several at once where devices allow, and reads
from NVML what a device says of its memory, clocks and power. Standard library only.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import dataclasses
import importlib.util
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

# Every process of a run carries this variable, so that what is left of it can be found.
MARK = "GALVATRON_BENCH_RUN"
POLL_SECONDS = 0.02


def read_log(path: Path) -> list[dict[str, str]]:
    """Rows of a --log file; as much as there is of one that a failure cut off."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def library_path(libraries: Path) -> str:
    """The programs' libraries, then those of CUDA that came with PyTorch, then what was set."""
    folders = [libraries.resolve()]
    for package, pattern in (("nvidia", "*/lib"), ("torch", "lib")):
        found = importlib.util.find_spec(package)
        for root in found.submodule_search_locations or [] if found else []:
            folders += sorted(Path(root).glob(pattern))
    folders += [
        Path(folder) for folder in ("/usr/local/nvidia/lib64", "/usr/local/cuda/lib64") if Path(folder).is_dir()
    ]
    set_already = os.environ.get("LD_LIBRARY_PATH")
    return ":".join([*map(str, folders), *([set_already] if set_already else [])])


def environment(libraries: Path) -> dict[str, str]:
    """For compiled programs under mpirun as root; the cache of chosen algorithms lies where runs share it."""
    result = dict(os.environ)
    result["LD_LIBRARY_PATH"] = library_path(libraries)
    result |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    # Ranks of several runs share this host: neither counts the cores as its own.
    result |= {"OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_mpi_yield_when_idle": "1"}
    result.setdefault("NCCL_NVLS_ENABLE", "0")
    result["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # so that numbers are NVML's
    return result


class Devices:
    """NVML, through ctypes; `count` 0 where there is none. Of CUDA_VISIBLE_DEVICES, where it is set, only those, and from 0."""

    class _Memory(ctypes.Structure):
        _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]

    def __init__(self):
        self.count, self.handles, self.numbers = 0, [], []
        try:
            self.library = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return
        number = ctypes.c_uint()
        if self.library.nvmlInit_v2() != 0 or self.library.nvmlDeviceGetCount_v2(ctypes.byref(number)) != 0:
            return
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(number.value))))
        self.numbers = [int(word) for word in seen.split(",") if word]
        for index in self.numbers:
            handle = ctypes.c_void_p()
            self.library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle))
            self.handles.append(handle)
        self.count = len(self.numbers)

    def _number(self, function: str, index: int, *arguments) -> int:
        value = ctypes.c_uint()
        failed = getattr(self.library, function)(self.handles[index], *arguments, ctypes.byref(value))
        return -1 if failed else value.value

    def memory(self, index: int) -> tuple[int, int]:
        """Bytes in use, as nvidia-smi counts them, and in all."""
        memory = Devices._Memory()
        self.library.nvmlDeviceGetMemoryInfo(self.handles[index], ctypes.byref(memory))
        return memory.used, memory.total

    def name(self, index: int) -> str:
        text = ctypes.create_string_buffer(96)
        self.library.nvmlDeviceGetName(self.handles[index], text, 96)
        return text.value.decode()

    def state(self, index: int) -> dict[str, int]:
        """Clocks in MHz, power in W, temperature in degrees Celsius."""
        return {
            "sm_mhz": self._number("nvmlDeviceGetClockInfo", index, 1),
            "memory_mhz": self._number("nvmlDeviceGetClockInfo", index, 2),
            "watts": self._number("nvmlDeviceGetPowerUsage", index) // 1000,
            "celsius": self._number("nvmlDeviceGetTemperature", index, 0),
        }

    def describe(self) -> dict:
        """Name, driver, memory and limits, as they are found; nothing is set."""
        if not self.count:
            return {"count": 0}
        version = ctypes.create_string_buffer(96)
        self.library.nvmlSystemGetDriverVersion(version, 96)
        return {
            "count": self.count,
            "name": self.name(0),
            "driver": version.value.decode(),
            "memory_bytes": self.memory(0)[1],
            "power_limit_watts": self._number("nvmlDeviceGetEnforcedPowerLimit", 0) // 1000,
            "idle": self.state(0),
        }


@dataclasses.dataclass
class Result:
    """How a run ended: `code` None after its time was up. `used` is the most that each of its devices had in use at once
    beyond what was in use before, in bytes."""

    code: int | None
    seconds: float
    output: str
    used: list[int]
    states: list[dict[str, int]]

    @property
    def passed(self) -> bool:
        return self.code == 0

    @property
    def why(self) -> str:
        """The line that says what went wrong, if one does."""
        if self.code is None:
            return f"no end within {self.seconds:.0f} s"
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        telling = [line for line in lines if re.search(r"error|fail|abort|signal|exception", line, re.IGNORECASE)]
        return f"exit code {self.code}: {(telling or lines or ['no output'])[0][:300]}"

    def state(self, key: str) -> float:
        """The median over the busier half of the readings, by power."""
        readings = sorted(self.states, key=lambda state: state["watts"])[len(self.states) // 2 :]
        return statistics.median(state[key] for state in readings) if readings else -1


def _processes_marked(mark: str) -> list[int]:
    wanted, found = f"{MARK}={mark}".encode(), []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                pass
    return found


def _signal_a_rank(mark: str, number: int) -> None:
    for process in _processes_marked(mark):
        if Path(f"/proc/{process}/comm").read_text().startswith("stage"):
            os.kill(process, number)
            return


def _end(process: subprocess.Popen, mark: str) -> None:
    """The launcher first, which ends its ranks; then what is left, told by the mark it inherited."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for _ in range(3):
        left = _processes_marked(mark)
        for number in left:
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if not left:
            break
        time.sleep(0.1)


class Runner:
    """Hands out devices (`gpus` of them, or as many places on a machine without or with fewer) and runs programs on them.
    `at_once`: so many programs share a device, where neither memory nor time is measured."""

    def __init__(self, gpus: int, folder: Path, devices: Devices, at_once: int = 1):
        self.at_once, self.free = at_once, [at_once] * gpus
        self.folder, self.devices = folder, devices
        self.changed = threading.Condition()
        folder.mkdir(parents=True, exist_ok=True)

    def run(
        self,
        name: str,
        command: list,
        ranks: int,
        timeout: float,
        env: dict[str, str],
        signal_at: float = 0,
        number: int = signal.SIGKILL,
        see: int = -1,
        alone: bool = False,
    ) -> Result:
        """Waits for `ranks` devices, then runs; output goes to a file as it comes. `signal_at`: sends one rank signal
        `number` after so many seconds; `see`: shows the program only so many of its devices; `alone`: shares them with no other program."""
        places = self.at_once if alone else 1
        with self.changed:
            self.changed.wait_for(lambda: len(self._with_room(places)) >= ranks)
            held = sorted(self._with_room(places)[:ranks])
            self._take(held, places)
        try:
            return self._run(name, [str(word) for word in command], held, timeout, env, signal_at, number, see)
        finally:
            with self.changed:
                self._take(held, -places)
                self.changed.notify_all()

    def _with_room(self, places: int) -> list[int]:
        """Devices for so many programs more, the emptiest first."""
        return sorted((i for i, free in enumerate(self.free) if free >= places), key=lambda i: -self.free[i])

    def _take(self, held: list[int], places: int) -> None:
        for device in held:
            self.free[device] -= places

    def _run(self, name, command, held: list[int], timeout: float, env, signal_at: float, number: int, see: int) -> Result:
        mark = f"{os.getpid()}-{name}"
        env = env | {MARK: mark}
        count = self.devices.count
        seen = sorted({place % count for place in held}) if count else []
        if seen:
            numbers = [self.devices.numbers[index] for index in (seen if see < 0 else seen[:see])]
            env["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, numbers))
        before = [self.devices.memory(index)[0] for index in seen]
        most, states, turn = list(before), [], 0
        log, start = self.folder / f"{name}.log", time.monotonic()
        with log.open("wb") as file:
            process = subprocess.Popen(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=env,
                start_new_session=True,
            )
            try:
                while process.poll() is None and time.monotonic() - start < timeout:
                    most = [max(old, self.devices.memory(index)[0]) for old, index in zip(most, seen)]
                    if seen and turn % 10 == 0:
                        states.append(self.devices.state(seen[0]))
                    turn += 1
                    if signal_at and time.monotonic() - start > signal_at:
                        signal_at = 0
                        _signal_a_rank(mark, number)
                    time.sleep(POLL_SECONDS)
            finally:
                code = process.poll()
                _end(process, mark)
        used = [after - old for after, old in zip(most, before)]
        return Result(code, time.monotonic() - start, log.read_text(errors="replace"), used, states)


def in_parallel(tasks: list[Callable[[], None]], threads: int) -> None:
    """In order, on so many threads; an exception in one is printed and the others go on."""
    waiting, lock = list(tasks), threading.Lock()

    def work():
        while True:
            with lock:
                if not waiting:
                    return
                task = waiting.pop(0)
            try:
                task()
            except Exception as error:  # one judgement must not end the others
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)

    crowd = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()


def prepare_or_judge(parser: argparse.ArgumentParser, parts: Sequence[str], prepare: Callable, judge: Callable) -> int:
    """What a script with the actions prepare and run, whose --parts are some of `parts`, does with its arguments; its exit code."""
    arguments = parser.parse_args()
    if arguments.action == "prepare":
        arguments.output = arguments.output.resolve()
        return prepare(arguments)
    arguments.parts = arguments.parts.split(",")
    if unknown := sorted(set(arguments.parts) - set(parts)):
        parser.error(f"no part {unknown[0]}; there are {', '.join(parts)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    return 0 if judge(arguments).all() else 1


def make_executable(folder: Path) -> None:
    """What copies of the folder may have lost."""
    for pattern in ("stage*", "launch"):
        for file in folder.rglob(pattern):
            file.chmod(0o755)
