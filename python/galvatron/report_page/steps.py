"""A step, predicted and measured, by cause: what the timeline draws and what its table adds up."""

from __future__ import annotations

from collections import defaultdict

from galvatron import timelines
from galvatron.report_page.timetables import is_number
from galvatron.timelines import Span, Trace

CAUSES = (
    "forward", "backward", "recompute", "redistribution", "other compute", "exposed communication", "update", "idle",
    timelines.OUTSIDE,
)  # fmt: skip
ALWAYS = ("forward", "backward", "recompute", "exposed communication", "update", "idle")
FOLLOWS = "what follows the entries"


def trace_of(table: dict) -> Trace | None:
    """The step that lowering predicted, of one rank a stage; None where entries have no times."""
    entries = [entry for stage in table["stages"] for entry in stage["entries"]]
    step_seconds = table.get("predicted_step_seconds", 0)
    if not entries or step_seconds <= 0 or not all("start" in entry and "seconds" in entry for entry in entries):
        return None
    devices = table["devices_per_stage"]
    types = {unit["path"]: unit.get("layer_type", "-") for unit in table["units"]}
    trace = Trace("timetable.json", "predicted", table.get("plan", ""), step_seconds, 0.0, types, {})
    ends = [0.0]
    spans: list[Span] = []
    for number, stage in enumerate(table["stages"]):
        rank, streams = number * devices, streams_of(stage)
        for index, entry in enumerate(stage["entries"]):
            stream = entry.get("stream", "compute")
            thread = streams[stream]
            category = entry.get("category", "compute")
            start, seconds = entry["start"], entry["seconds"]
            spans.append(
                Span(rank, thread, entry["name"], category, start, seconds, index, number, entry.get("unit", ""), 1)
            )
            ends.append(start + seconds)
        trace.threads |= {(rank, thread): stream for stream, thread in streams.items()}
    spans += after_entries(table, max(ends), step_seconds)
    trace.steps = {1: spans}
    return trace


def streams_of(stage: dict) -> dict[str, int]:
    """Numbers of a stage's streams by name; that of collectives, in which the sums over all ranks run, is always there."""
    streams = {"compute": 0, "collectives": 1}
    for entry in stage["entries"]:
        streams.setdefault(entry.get("stream", "compute"), len(streams))
    return streams


def after_entries(table: dict, end: float, step_seconds: float) -> list[Span]:
    """The sums over all ranks and the update of each stage, as `sums` and `update` of the timetable say, or as one."""
    spans = []
    for number, stage in enumerate(table["stages"]):
        rank, streams = number * table["devices_per_stage"], streams_of(stage)
        for key, name, category in (("sums", "loss and gradient norm", "collective"), ("update", "update", "update")):
            if isinstance(stage.get(key), dict):
                start, seconds = stage[key]["start"], stage[key]["seconds"]
                thread = streams["collectives"] if key == "sums" else 0
                spans.append(Span(rank, thread, name, category, start, seconds, -1, number, "", 1))
    if not spans:
        devices = table["devices_per_stage"]
        spans = [
            Span(number * devices, 0, FOLLOWS, "update", end, max(step_seconds - end, 0.0), -1, number, "", 1)
            for number in range(len(table["stages"]))
        ]
    return spans


def cause_of(phase: str) -> str:
    if phase.startswith("exposed "):
        return "exposed communication"
    return {"redistribute": "redistribution"}.get(phase, phase)


def recompute_shares(plan: dict) -> dict[str, float]:
    """Of a module's backward entries the share that recomputes its forward, by the search's prices (`reasons`)."""
    shares = {}
    units = plan.get("reasons", {}).get("units", [])
    for unit in units if isinstance(units, list) else []:
        seconds = unit.get("seconds", {}) if isinstance(unit, dict) else {}
        seconds = seconds if isinstance(seconds, dict) else {}
        again, back = seconds.get("recompute", 0), seconds.get("backward", 0)
        if is_number(again) and is_number(back) and again > 0 and isinstance(unit.get("path"), str):
            shares[unit["path"]] = again / (again + back)
    return shares


def middle_step(trace: Trace) -> int:
    return sorted(trace.steps)[len(trace.steps) // 2]


def causes_by_unit(trace: Trace, shares: dict[str, float]) -> dict[tuple[int, str, str], float]:
    """Seconds by (stage, module, cause): of each stage the mean over its ranks and the traced steps; they add up to the step."""
    seconds: dict[tuple[int, str, str], float] = defaultdict(float)
    for spans in trace.steps.values():
        by_rank: dict[int, list[Span]] = defaultdict(list)
        for span in spans:
            by_rank[span.rank].append(span)
        ranks = defaultdict(int)
        for own in by_rank.values():
            ranks[own[0].stage] += 1
        for own in by_rank.values():
            stage = own[0].stage
            weight = 1 / (len(trace.steps) * ranks[stage])
            covered = 0.0
            for index, length in timelines.cause_lengths(own).items():
                covered += length
                if index < 0:
                    seconds[stage, "", "idle"] += weight * length
                    continue
                span = own[index]
                unit = span.unit.partition(":")[0]
                cause = cause_of(timelines.phase_of(span))
                again = shares.get(unit, 0) if cause == "backward" else 0
                seconds[stage, unit, cause] += weight * length * (1 - again)
                if again:
                    seconds[stage, unit, "recompute"] += weight * length * again
            outside = trace.step_seconds - covered
            # A predicted step has nothing outside: a stage whose update ends early is idle.
            cause = timelines.OUTSIDE if trace.kind == "measured" else "idle"
            seconds[stage, "", cause] += weight * outside
    return dict(seconds)


def by_cause(seconds: dict[tuple[int, str, str], float], stages: int) -> dict[str, list[float]]:
    """Of each cause the seconds of each stage."""
    table = {cause: [0.0] * stages for cause in CAUSES}
    for (stage, _, cause), length in seconds.items():
        table[cause][stage] += length
    return table


def of_unit(seconds: dict[tuple[int, str, str], float], path: str) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for (_, unit, cause), length in seconds.items():
        if unit == path or unit.startswith(path + "."):
            found[cause] += length
    return dict(found)
