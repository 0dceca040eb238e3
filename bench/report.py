"""What the benchmarks share: the machine in words, medians, and tables in Markdown."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path


def hardware() -> str:
    """Such as `2 cores of AMD EPYC family 26 model 2, x86_64, virtual machine`."""
    fields: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    cores = Path("/proc/cpuinfo").read_text().count("processor\t")
    model = f"{fields.get('model name', 'unknown')} family {fields.get('cpu family')} model {fields.get('model')}"
    virtual = ", virtual machine" if "hypervisor" in fields.get("flags", "") else ""
    return f"{cores} cores of {model}, {platform.machine()}{virtual}"


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """`median (least to greatest)`."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "| --- |" + " ---: |" * (len(header) - 1)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def write(result: object, text: str, output: Path) -> None:
    """A benchmark's two files: what it measured, and that in words, which is printed too. `output` has no suffix."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    output.with_suffix(".md").write_text(text)
    print(text)
