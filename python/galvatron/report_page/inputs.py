"""What a report is made of: a plan with its timetable, logs and traces, each known by its content.

Every error is a ValueError that names file and line or key, and what to give instead.
"""

from __future__ import annotations

import csv
import json
import math
import os
from dataclasses import dataclass, field

from galvatron import timelines
from galvatron.report_page.timetables import check_timetable, is_number, is_whole, read_json, read_timetable

EXPECTED_PLAN = "expects the plan.json of an output folder"
EXPECTED_LOG = "expects what --log of a run wrote (step,loss,... and a line a step)"
FOREIGN = f"; name {timelines.OF_A_RUN}"


@dataclass
class Log:
    name: str
    path: str
    columns: dict[str, list[float | None]]  # None: an empty cell

    @property
    def steps(self) -> list[float]:
        return self.columns["step"]

    def __len__(self) -> int:
        return len(self.steps)


@dataclass
class Program:
    """A plan, and where it was lowered its timetable."""

    path: str
    plan: dict
    timetable: dict | None = None

    @property
    def stages(self) -> int:
        return 1 + max((unit.get("stage", 0) for unit in self.plan["units"]), default=0)

    @property
    def devices(self) -> int:
        return max(self.plan["ranks"] // self.stages, 1)


@dataclass
class Inputs:
    logs: list[Log] = field(default_factory=list)
    predicted: timelines.Trace | None = None
    measured: timelines.Trace | None = None


def check_unit(unit, where: str, stages_before: int) -> None:
    if not isinstance(unit, dict) or not isinstance(unit.get("path"), str):
        raise ValueError(f"{where} expects a module with its path; galvatron-opt and galvatron-search write them")
    if not is_whole(unit.get("stage", 0), 0) or unit.get("stage", 0) > stages_before:
        raise ValueError(
            f"{where} key 'stage' expects the number of a stage, but got {json.dumps(unit.get('stage'))[:40]}"
        )
    if not isinstance(unit.get("strategy", {}), dict):
        raise ValueError(f"{where} key 'strategy' expects an object, but got {json.dumps(unit['strategy'])[:40]}")
    for key in ("layer_type", "role"):
        if not isinstance(unit.get(key, ""), str):
            raise ValueError(f"{where} key {key!r} expects text, but got {json.dumps(unit[key])[:40]}")


def read_plan(path: str) -> dict:
    """The plan of a file; ValueError where it is none."""
    plan = read_json(path, EXPECTED_PLAN)
    needed = ("ranks", "global_batch", "micro_batches", "units")
    missing = [key for key in needed if key not in plan] if isinstance(plan, dict) else needed
    if missing:
        raise ValueError(f"{path}: {EXPECTED_PLAN}, but it has no {', '.join(missing)}")
    for key in needed[:3]:
        if not is_whole(plan[key], 1):
            raise ValueError(
                f"{path}: key {key!r} expects a whole number of at least 1, but got {json.dumps(plan[key])[:40]}"
            )
    if not isinstance(plan["units"], list):
        raise ValueError(f"{path}: key 'units' expects a list, but got {json.dumps(plan['units'])[:40]}")
    stages = 0
    for index, unit in enumerate(plan["units"]):
        check_unit(unit, f"{path}: unit {index}", stages)
        stages = max(stages, unit.get("stage", 0) + 1)
    if stages and plan["ranks"] % stages:
        raise ValueError(f"{path}: key 'ranks' expects a multiple of the {stages} stages, but got {plan['ranks']}")
    peaks = plan.get("peak_bytes_per_rank", [])
    if (
        not isinstance(peaks, list)
        or not all(is_whole(peak, 0) for peak in peaks)
        or len(peaks) not in (0, plan["ranks"])
    ):
        raise ValueError(f"{path}: key 'peak_bytes_per_rank' expects bytes of each of {plan['ranks']} ranks")
    for key in ("predicted_step_seconds", "estimated_step_seconds", "model_flops_per_step", "peak_flops_per_second"):
        if key in plan and not is_number(plan[key]):
            raise ValueError(
                f"{path}: key {key!r} expects a number of at least 0, but got {json.dumps(plan[key])[:40]}"
            )
    if not isinstance(plan.get("reasons", {}), dict):
        raise ValueError(f"{path}: key 'reasons' expects an object, but got {json.dumps(plan['reasons'])[:40]}")
    return plan


def read_program(path: str) -> Program:
    """A plan.json or an output folder, with the timetable that stands beside the plan."""
    if os.path.isdir(path):
        folder, path = path, os.path.join(path, "plan.json")
        if not os.path.exists(path):
            raise ValueError(f"{folder}: expects an output folder of galvatron-opt --lower, but it has no plan.json")
    program = Program(path, read_plan(path))
    beside = os.path.join(os.path.dirname(path), "timetable.json")
    if os.path.basename(path) == "plan.json" and os.path.exists(beside):
        program.timetable = read_timetable(beside)
        check_timetable(program.timetable, beside, program.plan, path)
    return program


def read_cell(cell: str, path: str, line: int, column: str) -> float | None:
    if not cell.strip():
        return None
    try:
        return float(cell)
    except ValueError:
        raise ValueError(
            f"{path}: {EXPECTED_LOG}, but line {line} has {cell[:40]!r} as {column}; leave the cell empty, or take the column out"
        ) from None


def read_log(path: str, name: str = "") -> Log:
    """Columns of numbers by name; ValueError names the line and the column of what is none."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            missing = [key for key in ("step", "loss", "tokens_per_second") if key not in header]
            if missing:
                raise ValueError(f"{path}: {EXPECTED_LOG}, but it has no column {', '.join(missing)}{FOREIGN}")
            twice = [key for key in header if header.count(key) > 1]
            if twice:
                raise ValueError(f"{path}: {EXPECTED_LOG}, but it has the column {twice[0]!r} twice")
            columns: dict[str, list[float | None]] = {key: [] for key in header}
            values = list(columns.values())
            for row in rows:
                if not row:
                    continue
                if len(row) != len(header):
                    raise ValueError(
                        f"{path}: {EXPECTED_LOG}, but line {rows.line_num} has {len(row)} cells, not {len(header)}; take the line out"
                    )
                for key, cell, column in zip(header, row, values):
                    column.append(read_cell(cell, path, rows.line_num, key))
                step = columns["step"][-1]
                if step is None or not math.isfinite(step):
                    raise ValueError(f"{path}: {EXPECTED_LOG}, but line {rows.line_num} has no step; take the line out")
                # A run that goes back cuts its log first.
                if len(columns["step"]) > 1 and step <= columns["step"][-2]:
                    raise ValueError(
                        f"{path}: line {rows.line_num} has step {step:g} after step {columns['step'][-2]:g}; give the log of one run"
                    )
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: {EXPECTED_LOG}, but it is no text ({error})") from None
    if not columns["step"]:
        raise ValueError(f"{path} has no steps yet; give the log of a run that has trained")
    return Log(name, path, columns)


def split_name(argument: str) -> tuple[str, str]:
    """(name, file) of NAME=FILE, or of a file alone. A name may hold = itself: what follows it is a file then."""
    if os.path.exists(argument) or "=" not in argument.lstrip("="):
        return "", argument
    cuts = [index for index, letter in enumerate(argument) if letter == "=" and index]
    cut = next((index for index in cuts if os.path.exists(argument[index + 1 :])), cuts[0])
    return argument[:cut], argument[cut + 1 :]


def begins_as_json(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"["))


def read_inputs(arguments: list[str]) -> Inputs:
    """Logs and traces in any order, each known by its content."""
    inputs = Inputs()
    for argument in arguments:
        name, path = split_name(argument)
        if not begins_as_json(path):
            inputs.logs.append(read_log(path, name))
            continue
        trace = timelines.read_trace(path)
        if getattr(inputs, trace.kind) is not None:
            raise ValueError(
                f"{path}: expects one {trace.kind} trace, but {getattr(inputs, trace.kind).path} is one, too; leave one out"
            )
        setattr(inputs, trace.kind, trace)
    name_logs(inputs.logs)
    return inputs


def name_logs(logs: list[Log]) -> None:
    """A run is called as NAME= says, else as its file without ending; with its folder where two would be called so."""

    def short(log: Log) -> str:
        return os.path.splitext(os.path.basename(log.path))[0]

    shorts = [log.name or short(log) for log in logs]
    for log, name in zip(logs, shorts):
        if not log.name:
            log.name = name if shorts.count(name) == 1 else os.path.splitext(log.path)[0]
    names = [log.name for log in logs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two runs are called {name!r}; name them with NAME=FILE")


def check_traces(inputs: Inputs, program: Program) -> None:
    """Traces of another program than the plan's are refused."""
    if inputs.predicted and inputs.measured:
        timelines.check_pair(inputs.predicted, inputs.measured)
    for trace in (inputs.predicted, inputs.measured):
        if not trace:
            continue
        if program.timetable and trace.plan != program.timetable.get("plan"):
            raise ValueError(
                f"{trace.path}: expects a trace of the program of {program.path}, which is {program.timetable.get('plan')}, "
                f"but it is of {trace.plan or '?'}; trace that program, or give the folder that was traced"
            )
        for spans in trace.steps.values():
            for span in spans:
                if span.stage >= program.stages or span.rank >= program.plan["ranks"]:
                    raise ValueError(
                        f"{trace.path}: expects {program.plan['ranks']} ranks in {program.stages} stages, as {program.path} has, "
                        f"but it has rank {span.rank} of stage {span.stage}; give the folder that was traced"
                    )


def check_against(program: Program, other: Program) -> None:
    """Two plans of one model have the same modules in the same order; the first that differs is named."""
    ours = [unit["path"] for unit in program.plan["units"]]
    theirs = [unit["path"] for unit in other.plan["units"]]
    for index in range(max(len(ours), len(theirs))):
        one = ours[index] if index < len(ours) else None
        two = theirs[index] if index < len(theirs) else None
        if one != two:
            raise ValueError(
                f"{other.path}: expects a plan of the model of {program.path}, but module {index} is {two!r} there and {one!r} "
                "here; give a plan of the same model"
            )
