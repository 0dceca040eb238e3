"""A predicted step beside a measured one: traces of `--simulate` and `--trace` (docs/timetable.md), and where they differ.

Of every rank each moment of a step has one cause: what its compute stream does, else the transfer or collective that it
waits for, else nothing. So the causes of a rank add up to the step, the mean over all ranks does, and the differences of
two traces add up to the difference of their steps.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field

# What is named instead of a file that is none of them.
OF_A_RUN = "a log of launch --log, or a trace of launch --trace or galvatron-opt --simulate"

COMPUTES = ("compute", "redistribute", "update")
COMMUNICATES = ("collective", "send", "receive")
# Microseconds: eleven days of an event, and as many centuries as a clock may have gone; more is damage.
MOST_MICROSECONDS, MOST_TIME = 1e12, 1e18
OUTSIDE = "outside of entries"  # reading data, until all ranks are through, what the host does between


@dataclass
class Span:
    """An X event: seconds from the step's first one."""

    rank: int
    thread: int
    name: str
    category: str
    start: float
    seconds: float
    entry: int
    stage: int
    unit: str
    step: int

    @property
    def end(self) -> float:
        return self.start + self.seconds


@dataclass
class Trace:
    path: str
    kind: str
    plan: str
    step_seconds: float
    clock_error_us: float
    layer_types: dict[str, str]
    threads: dict[tuple[int, int], str]  # names, by rank and number
    steps: dict[int, list[Span]] = field(default_factory=dict)

    @property
    def stages(self) -> int:
        return 1 + max(span.stage for spans in self.steps.values() for span in spans)


def number(value, where: str, least: float = 0, most: float = MOST_TIME) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < least:
        raise ValueError(f"{where} expects a number of at least {least:g}, but got {json.dumps(value)[:40]}")
    if value > most:
        raise ValueError(f"{where} expects a number of at most {most:g}, but got {json.dumps(value)[:40]}")
    return value


def whole(value, where: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{where} expects a whole number of at least {least}, but got {json.dumps(value)[:40]}")
    return value


def read_span(event: dict, where: str) -> Span:
    arguments = event.get("args")
    if not isinstance(arguments, dict):
        raise ValueError(f"{where} lacks its args; --trace and --simulate write them")
    for key, of in (("name", event), ("cat", event), ("unit", arguments)):
        if not isinstance(of.get(key), str):
            raise ValueError(f"{where} expects text as {key}, but got {json.dumps(of.get(key))[:40]}")
    if event["cat"] not in COMPUTES + COMMUNICATES:
        raise ValueError(f"{where} expects cat to be one of {', '.join(COMPUTES + COMMUNICATES)}, but got {event['cat']!r}")
    return Span(
        rank=whole(event.get("pid"), f"{where} pid", 0),
        thread=whole(event.get("tid"), f"{where} tid", 0),
        name=event["name"],
        category=event["cat"],
        start=number(event.get("ts"), f"{where} ts", -MOST_TIME) / 1e6,
        seconds=number(event.get("dur"), f"{where} dur", most=MOST_MICROSECONDS) / 1e6,
        entry=whole(arguments.get("entry"), f"{where} entry", -1),
        stage=whole(arguments.get("stage"), f"{where} stage", 0),
        unit=arguments["unit"],
        step=whole(arguments.get("step"), f"{where} step", 0),
    )


def read_thread(event: dict, where: str, threads: dict) -> None:
    ids, arguments = (event.get("pid"), event.get("tid")), event.get("args")
    if not all(isinstance(each, int) for each in ids) or not isinstance(arguments, dict):
        raise ValueError(f"{where} expects a thread's pid, tid and args; take the trace again")
    threads[ids] = str(arguments.get("name"))


def read_trace(path: str) -> Trace:
    """The trace of a file; ValueError with file, event and key where it is none."""
    with open(path, encoding="utf-8") as file:
        try:
            data = json.load(file)
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"{path}: expects a trace of --trace or --simulate, but it is no JSON ({error}); name {OF_A_RUN}") from None
    head = data.get("galvatron") if isinstance(data, dict) else None
    if not isinstance(head, dict) or not isinstance(data.get("traceEvents"), list):
        raise ValueError(
            f"{path}: expects a trace of --trace or --simulate, but it has no galvatron and traceEvents; name {OF_A_RUN}"
        )
    if head.get("kind") not in ("predicted", "measured"):
        raise ValueError(f"{path}: key 'kind' expects predicted or measured, but got {json.dumps(head.get('kind'))[:40]}")
    if not isinstance(head.get("plan"), str):
        raise ValueError(f"{path}: key 'plan' expects the plan's hash, but got {json.dumps(head.get('plan'))[:40]}")
    types = head.get("layer_types", {})
    if not isinstance(types, dict) or not all(isinstance(value, str) for value in types.values()):
        raise ValueError(f"{path}: key 'layer_types' expects layer types by module path")
    trace = Trace(
        path,
        head["kind"],
        head["plan"],
        number(head.get("step_seconds"), f"{path}: key 'step_seconds'", 1e-12, MOST_MICROSECONDS / 1e6),
        number(head.get("clock_error_us"), f"{path}: key 'clock_error_us'"),
        types,
        {},
    )
    for index, event in enumerate(data["traceEvents"]):
        where = f"{path}: event {index}"
        if not isinstance(event, dict):
            raise ValueError(f"{where} expects an object, but got {json.dumps(event)[:40]}")
        if event.get("ph") == "M" and event.get("name") == "thread_name":
            read_thread(event, where, trace.threads)
        if event.get("ph") == "X":
            span = read_span(event, where)
            trace.steps.setdefault(span.step, []).append(span)
    if not trace.steps:
        raise ValueError(f"{path}: has no entries; name steps that the run trains with --trace-steps")
    for spans in trace.steps.values():
        begin = min(span.start for span in spans)
        for span in spans:
            span.start -= begin
    return trace


def phase_of(span: Span) -> str:
    if span.category in COMMUNICATES:
        return f"exposed {span.category}"
    if span.category != "compute":
        return span.category
    word = span.name.partition(" ")[0]
    return word if word in ("forward", "backward") else "other compute"


def cause_lengths(spans: list[Span]) -> dict[Span | None, float]:
    """Of one rank's step: seconds of which each span is the cause, by its number in the list; -1: none is."""
    edges = sorted({edge for span in spans for edge in (span.start, span.end)})
    by_start = sorted(range(len(spans)), key=lambda index: spans[index].start)
    lengths: dict[int, float] = defaultdict(float)
    active: list[int] = []
    position = 0
    for low, high in zip(edges, edges[1:]):
        while position < len(by_start) and spans[by_start[position]].start <= low:
            active.append(by_start[position])
            position += 1
        active = [index for index in active if spans[index].end > low]
        # Compute before what it overlaps with, and of the rest what began last: a wait within what it waits for.
        cause = max(active, key=lambda index: (spans[index].category in COMPUTES, spans[index].start), default=-1)
        lengths[cause] += high - low
    return lengths


@dataclass
class Causes:
    """Seconds of a step by (phase, layer type, stage), as a mean over stages and each stage's ranks; they add up to it."""

    seconds: dict[tuple[str, str, int], float]
    compute_seconds: dict[int, float]  # by rank
    longest_wait: tuple[float, Span] | None


def find_causes(trace: Trace, layer_types: dict[str, str]) -> Causes:
    seconds: dict[tuple[str, str, int], float] = defaultdict(float)
    compute: dict[int, float] = defaultdict(float)
    longest = None
    stages = trace.stages
    for spans in trace.steps.values():
        by_rank: dict[int, list[Span]] = defaultdict(list)
        for span in spans:
            by_rank[span.rank].append(span)
        ranks_of = defaultdict(int)
        for own in by_rank.values():
            ranks_of[own[0].stage] += 1
        if sorted(ranks_of) != list(range(stages)):
            raise ValueError(f"{trace.path}: expects entries of stages 0 to {stages - 1} in each step; trace it again")
        for rank, own in by_rank.items():
            stage = own[0].stage
            weight = 1 / (len(trace.steps) * stages * ranks_of[stage])
            covered = 0.0
            for index, length in cause_lengths(own).items():
                covered += length
                if index < 0:
                    seconds["idle", "-", stage] += weight * length
                    continue
                span = own[index]
                kind = layer_types.get(span.unit.partition(":")[0], "-")
                seconds[phase_of(span), kind, stage] += weight * length
                if span.category in COMPUTES:
                    compute[rank] += length / len(trace.steps)
                elif longest is None or length > longest[0]:
                    longest = (length, span)
            seconds[OUTSIDE, "-", stage] += weight * (trace.step_seconds - covered)
    return Causes(dict(seconds), dict(compute), longest)


def check_complete(trace: Trace, names: dict[tuple[int, int], str]) -> None:
    """Every rank has each entry of its stage once in each step, and at most one span of each name that is none."""
    of_stage: dict[int, set[int]] = defaultdict(set)
    for stage, entry in names:
        of_stage[stage].add(entry)
    seen: dict[tuple[int, int], list[Span]] = defaultdict(list)
    for step, spans in trace.steps.items():
        for span in spans:
            seen[step, span.rank].append(span)
    ranks = {rank for _, rank in seen}
    for step in sorted(trace.steps):
        for rank in sorted(ranks):
            own = seen.get((step, rank))
            where = f"{trace.path}: rank {rank}, step {step}"
            if not own:
                raise ValueError(f"{where} has no entries, but other steps have some; trace it again")
            if len({span.stage for span in own}) > 1:
                raise ValueError(f"{where} has entries of several stages; trace it again")
            found = Counter((span.entry, span.name if span.entry < 0 else "") for span in own)
            for (entry, name), times in found.items():
                if times > 1:
                    what = repr(name) if entry < 0 else f"entry {entry}"
                    raise ValueError(f"{where} has {what} {times} times; trace it again")
            missing = sorted(of_stage[own[0].stage] - {entry for entry, _ in found})
            if missing:
                name = names[own[0].stage, missing[0]]
                raise ValueError(f"{where} lacks entry {missing[0]}, {name!r}; trace it again")


def check_pair(predicted: Trace, measured: Trace) -> None:
    for trace, kind in ((predicted, "predicted"), (measured, "measured")):
        if trace.kind != kind:
            raise ValueError(
                f"{trace.path}: expects a {kind} trace, but it is {trace.kind}; "
                "the predicted one stands first, the measured one second"
            )
    if predicted.plan != measured.plan:
        raise ValueError(
            f"expects traces of one plan, but {predicted.path} is of {predicted.plan or '?'} and {measured.path} of "
            f"{measured.plan or '?'}; simulate the program that was trained"
        )

    def names(trace: Trace) -> dict[tuple[int, int], str]:
        return {(s.stage, s.entry): s.name for spans in trace.steps.values() for s in spans if s.entry >= 0}

    one, other = names(predicted), names(measured)
    check_complete(predicted, one)
    check_complete(measured, other)
    for key in sorted(one.keys() | other.keys()):
        if one.get(key) != other.get(key):
            raise ValueError(
                f"expects the same entries in both traces, but entry {key[1]} of stage {key[0]} is "
                f"{one.get(key)!r} in {predicted.path} and {other.get(key)!r} in {measured.path}; trace it again"
            )


def compare(predicted: Trace, measured: Trace) -> dict:
    """What --json holds: rows by error, largest first, which add up to the step's."""
    check_pair(predicted, measured)
    types = predicted.layer_types or measured.layer_types
    one, other = find_causes(predicted, types), find_causes(measured, types)
    rows = []
    for phase, kind, stage in sorted(one.seconds.keys() | other.seconds.keys()):
        before = one.seconds.get((phase, kind, stage), 0.0)
        after = other.seconds.get((phase, kind, stage), 0.0)
        rows.append(
            {
                "phase": phase,
                "layer_type": kind,
                "stage": stage,
                "predicted_seconds": before,
                "measured_seconds": after,
                "error_seconds": before - after,
                "share_of_step": (before - after) / measured.step_seconds,
            }
        )
    rows.sort(key=lambda row: -abs(row["error_seconds"]))
    slowest = max(other.compute_seconds, key=lambda rank: other.compute_seconds[rank], default=None)
    wait = other.longest_wait
    return {
        "plan": predicted.plan,
        "predicted_step_seconds": predicted.step_seconds,
        "measured_step_seconds": measured.step_seconds,
        "error_seconds": predicted.step_seconds - measured.step_seconds,
        "error_share": predicted.step_seconds / measured.step_seconds - 1,
        "clock_error_us": measured.clock_error_us,
        "steps": sorted(measured.steps),
        "rows": rows,
        "slowest_rank": None if slowest is None else {"rank": slowest, "compute_seconds": other.compute_seconds[slowest]},
        "longest_wait": None
        if wait is None
        else {"rank": wait[1].rank, "stage": wait[1].stage, "step": wait[1].step, "name": wait[1].name, "seconds": wait[0]},
    }


def shown_rows(result: dict, top: int) -> list[dict]:
    """The first `top` rows, and one of all others: they add up, too."""
    rows = result["rows"]
    if len(rows) <= top:
        return rows
    rest = rows[top:]
    others = {key: sum(row[key] for row in rest) for key in rows[0] if key.endswith(("seconds", "share_of_step"))}
    return rows[:top] + [{"phase": f"{len(rest)} others", "layer_type": "-", "stage": "-"} | others]


def describe(result: dict, top: int) -> list[str]:
    """For a terminal."""
    table = [("phase", "layer type", "stage", "predicted ms", "measured ms", "error ms", "of the step")]
    for row in shown_rows(result, top):
        table.append(
            (
                row["phase"],
                row["layer_type"],
                str(row["stage"]),
                *(f"{row[key] * 1e3:.3f}" for key in ("predicted_seconds", "measured_seconds", "error_seconds")),
                f"{row['share_of_step']:+.1%}",
            )
        )
    table.append(
        (
            "step",
            "",
            "",
            *(f"{result[key] * 1e3:.3f}" for key in ("predicted_step_seconds", "measured_step_seconds", "error_seconds")),
            f"{result['error_share']:+.1%}",
        )
    )
    widths = [max(len(row[column]) for row in table) for column in range(7)]
    lines = [
        "  ".join(cell.ljust(w) if column < 2 else cell.rjust(w) for column, (cell, w) in enumerate(zip(row, widths))).rstrip()
        for row in table
    ]
    if result["slowest_rank"]:
        rank = result["slowest_rank"]
        lines.append(f"slowest rank: {rank['rank']}, which computes for {rank['compute_seconds'] * 1e3:.3f} ms a step")
    if result["longest_wait"]:
        wait = result["longest_wait"]
        lines.append(
            f"longest wait: {wait['seconds'] * 1e3:.3f} ms of rank {wait['rank']} in step {wait['step']}, {wait['name']!r}"
        )
    return lines
