"""Where a step's time goes on the GPU, from what libgalvatron_trace.so recorded (runtime/cuda/trace), ours or PyTorch's.

    CUDA_INJECTION64_PATH=$PWD/lib/libgalvatron_trace.so GALVATRON_TRACE_FILE=trace.%r PROGRAM
    python3 bench/gpu/breakdown.py trace.0 trace.1 --steps 3

One file a rank. A step ends with the last kernel of the optimizer before the next product; of the last steps with as many
launches as the last one, --steps are taken. Every instant belongs to one class, so that a rank's table adds up to its step:
to the class of the compute that began first, of those that run; else to copies; else to communication, which is then exposed;
else it is idle. Launches are a step's. A kernel's own table counts its whole duration, covered or not. Standard library only.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import heapq
import json
import re
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import report  # noqa: E402

LIBRARY = "libgalvatron_trace.so"
HEADER = "galvatron-trace 1"

# The first that matches a kernel's name. cuBLASLt's kernels for Hopper are called nvjet; Triton's names list what was fused,
# so a product's name in one of them means the product's surroundings, unless it is a template (tem).
CLASSES = [
    ("communication", r"nccl|symm_mem|multimem"),
    (
        "copies",
        r"^memcpy|^memset|CopyFunctor|CatArray|chunk_cat|split_with_sizes|direct_copy|copyUnits|copyAny|\btranspose<",
    ),
    ("attention", r"sdpa|fmha|flash|compute_dot_do_o|convert_dq|attend<|differentiate(Queries|Keys)<"),
    ("loss", r"nll_loss|log_softmax|cross_?[eE]ntropy|\bsumExp<|targetLogit"),
    ("gradient norm and clipping", r"LpNorm|lpnorm|\bsquares\(|\bownSums\(|\bdecide\(|BinaryOpScalar"),
    ("AdamW", r"[Aa]dam|updateAll<"),
    ("gradient norm and clipping", r"multi_tensor_apply|linalg_vector_norm"),
    ("norm", r"rsqrt|rms_?norm|layer_?norm|native_layer_norm|norm(Backward)?<|WeightGradient|^kernel_\d+ \(rows\)"),
    ("GEMM", r"^(?!.*triton_(poi|red|per)).*(gemm|nvjet|xmma|wgmma|cutlass|splitK|plainMatmul|triton_tem)"),
    ("elementwise", r""),
]
MARKER = r"[Aa]dam|updateAll<"
# In the order of the table.
ORDER = [
    "GEMM",
    "attention",
    "norm",
    "elementwise",
    "loss",
    "gradient norm and clipping",
    "AdamW",
    "copies",
    "communication",
]
FROM_LIBRARIES = ("GEMM", "attention")
IDLE = "idle"


@dataclasses.dataclass(frozen=True)
class Run:
    """One kernel, copy or fill; nanoseconds."""

    name: str
    stream: int
    start: int
    end: int
    bytes: int = 0


class Unreadable(Exception):
    pass


def read(path: Path) -> list[Run]:
    """In the order of their start."""
    with path.open(errors="replace") as file:
        if file.readline().rstrip("\n") != HEADER:
            raise Unreadable(f"{path} is no trace: expects {HEADER!r} in its first line")
        names, runs = {}, []
        for line in file:
            kind, _, rest = line.rstrip("\n").partition("\t")
            if kind == "name":
                number, _, text = rest.partition("\t")
                names[int(number)] = text
            elif kind == "shared":
                # The compiler's kernels have numbers only; those that add up rows, as norms do, share memory for it.
                number = int(rest.partition("\t")[0])
                if re.fullmatch(r"kernel_\d+", names[number]):
                    names[number] += " (rows)"
            elif kind == "run":
                # Without timestamps where CUPTI had no memory for them.
                number, stream, start, end, size = map(int, rest.split("\t"))
                if end >= start > 0:
                    runs.append(Run(names[number], stream, start, end, size))
            elif kind == "dropped" and rest != "0":
                print(f"{path.name}: {rest} records were dropped", file=sys.stderr)
    return sorted(runs, key=lambda run: (run.start, run.end))


def classify(name: str) -> str:
    return next(label for label, pattern in CLASSES if re.search(pattern, name))


class Classes(dict):
    """By name, found once."""

    def __missing__(self, name: str) -> str:
        self[name] = classify(name)
        return self[name]


def cut(runs: Sequence[Run], classes: Classes, marker: str = MARKER) -> list[tuple[int, int, list[Run]]]:
    """(start, end, runs) of whole steps. The first is left out: what came before it is no step."""
    matches, ends, last = {}, [], None
    for run in runs:
        if run.name not in matches:
            matches[run.name] = re.search(marker, run.name) is not None
        if matches[run.name]:
            last = run.end if last is None else max(last, run.end)
        elif last is not None and classes[run.name] in FROM_LIBRARIES:
            ends.append(last)
            last = None
    if last is not None:
        ends.append(last)
    steps, at = [], 0
    while at < len(runs) and ends and runs[at].start < ends[0]:
        at += 1
    for start, end in zip(ends, ends[1:]):
        own = []
        while at < len(runs) and runs[at].start < end:
            own.append(runs[at])
            at += 1
        steps.append((start, end, own))
    return steps


def alike(steps: list[tuple[int, int, list[Run]]], most: int) -> list[tuple[int, int, list[Run]]]:
    """The last ones with as many launches as the last."""
    chosen = []
    for step in reversed(steps):
        if len(step[2]) != len(steps[-1][2]) or len(chosen) == most:
            break
        chosen.append(step)
    return chosen[::-1]


def attribute(start: int, end: int, runs: Sequence[Run], classes: Classes) -> dict[str, int]:
    """Nanoseconds of every class, idle included; together end - start."""
    order = {"copies": 1, "communication": 2}
    bounds = sorted({start, end, *(max(start, min(end, at)) for run in runs for at in (run.start, run.end))})
    waiting = collections.deque(sorted(runs, key=lambda run: run.start))
    active: list[tuple[int, int, int, str]] = []  # (order of the class, start, end, class)
    shares: dict[str, int] = collections.Counter()
    for left, right in zip(bounds, bounds[1:]):
        while waiting and waiting[0].start <= left:
            run = waiting.popleft()
            label = classes[run.name]
            heapq.heappush(active, (order.get(label, 0), run.start, run.end, label))
        while active and active[0][2] <= left:
            heapq.heappop(active)
        # What has ended may lie below the top; it leaves when it comes up.
        shares[active[0][3] if active else IDLE] += right - left
    return dict(shares)


def milliseconds(nanoseconds: float) -> float:
    return round(nanoseconds / 1e6, 4)


def analyse(runs: Sequence[Run], steps: int = 3, marker: str = MARKER, top: int = 25) -> dict:
    """Means over the steps, in ms: {"steps", "step_ms", "least_ms", "most_ms", "library_ms", "classes": {class: {"ms",
    "covered_ms", "launches"}}, "kernels": […]}. `covered_ms`: overlapped with something else; `library_ms`: products and attention.
    """
    classes = Classes()
    chosen = alike(cut(runs, classes, marker), steps)
    if not chosen:
        raise Unreadable("no whole step: expects at least two runs of the optimizer")
    count = len(chosen)
    shares, whole, launches = collections.Counter(), collections.Counter(), collections.Counter()
    by_name: dict[str, list[Run]] = collections.defaultdict(list)
    for start, end, own in chosen:
        shares.update(attribute(start, end, own, classes))
        for run in own:
            by_name[run.name].append(run)
            whole[classes[run.name]] += run.end - run.start
            launches[classes[run.name]] += 1
    durations = [end - start for start, end, _ in chosen]
    table = {
        label: {
            "ms": milliseconds(shares[label] / count),
            "covered_ms": milliseconds(max(0, whole[label] - shares[label]) / count),
            "launches": round(launches[label] / count, 2),
        }
        for label in [*ORDER, IDLE]
    }
    kernels = []
    for name, own in by_name.items():
        total, size = sum(run.end - run.start for run in own), sum(run.bytes for run in own)
        entry = {"name": name, "class": classes[name], "ms": milliseconds(total / count), "launches": len(own) / count}
        entry["mean_us"] = round(total / len(own) / 1e3, 2)
        if size:
            entry["gb_s"] = round(size / total, 1)
        kernels.append(entry)
    kernels.sort(key=lambda entry: -entry["ms"])
    result = {"steps": count, "step_ms": milliseconds(statistics.mean(durations))}
    result |= {"least_ms": milliseconds(min(durations)), "most_ms": milliseconds(max(durations))}
    result["library_ms"] = milliseconds(sum(whole[label] for label in FROM_LIBRARIES) / count)
    return result | {"classes": table, "kernels": kernels[:top]}


def short(name: str, most: int = 90) -> str:
    """A name without its namespaces and parameters, for a table."""
    name = re.sub(r"\(anonymous namespace\)::|galvatron::cuda::|at::native::|void ", "", name)
    name = name.replace("|", "/")
    return name if len(name) <= most else name[: most - 1] + "…"


def table_of(columns: dict[str, dict]) -> str:
    """Classes down, what analyse() gave across, by their titles."""
    header = ["ms of a step"]
    for title in columns:
        header += [title, "launches"]
    rows = []
    for label in [*ORDER, IDLE]:
        if any(column["classes"][label]["ms"] or column["classes"][label]["launches"] for column in columns.values()):
            exposed = ", exposed" if label == "communication" else ""
            row = [label + exposed]
            for column in columns.values():
                of_class = column["classes"][label]
                row += [f"{of_class['ms']:.2f}", f"{of_class['launches']:.0f}" if label != IDLE else ""]
            rows.append(row)
    sums = [("step, traced", "step_ms"), ("GEMM and attention by themselves", "library_ms")]
    rows += [
        [title, *(cell for column in columns.values() for cell in (f"{column[key]:.2f}", ""))] for title, key in sums
    ]
    return report.table(header, rows)


def kernels_of(column: dict) -> str:
    rows = []
    for kernel in column["kernels"]:
        speed = f"{kernel['gb_s']:.0f}" if "gb_s" in kernel else ""
        cells = [f"{kernel['ms']:.3f}", f"{kernel['launches']:.0f}", f"{kernel['mean_us']:.1f}", speed, kernel["class"]]
        rows.append([f"`{short(kernel['name'])}`", *cells])
    return report.table(["kernel", "ms", "launches", "mean µs", "GB/s", "class"], rows)


def analyse_files(paths: Sequence[Path], **options) -> dict[str, dict]:
    """By file name, those without a step left out and told."""
    columns = {}
    for path in paths:
        try:
            columns[path.name] = analyse(read(path), **options)
        except Unreadable as error:
            print(f"{path.name}: {error}", file=sys.stderr)
    return columns


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("files", type=Path, nargs="+", help="one of each rank")
    add("--steps", type=int, default=3, help="how many of the last steps (default: 3)")
    add("--top", type=int, default=25, help="kernels to list (default: 25)")
    add("--marker", default=MARKER, help="regular expression of the kernels that end a step")
    add("--json", type=Path, help="write everything here as well")
    arguments = parser.parse_args()
    columns = analyse_files(arguments.files, steps=arguments.steps, marker=arguments.marker, top=arguments.top)
    if not columns:
        return 1
    print(table_of(columns))
    for title, column in columns.items():
        print(f"{title}, mean of {column['steps']} steps, {column['least_ms']:.2f} to {column['most_ms']:.2f} ms\n")
        print(kernels_of(column))
    if arguments.json:
        arguments.json.write_text(json.dumps(columns, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
