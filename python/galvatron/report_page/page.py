"""One HTML file of all figures: nothing is fetched, and a Content-Security-Policy refuses what would be."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

from galvatron.report_page import curves, memory, sections, steps, strategies, timeline, traffic, training
from galvatron.report_page.inputs import Inputs, Program
from galvatron.report_page.markup import seconds, section, size, text
from galvatron.timelines import Trace

HERE = Path(__file__).parent
MOST_TIMETABLE = 1_000_000  # characters of a timetable that the page holds as it is in its file
SECTIONS = (
    ("summary", "Summary"), ("strategies", "Strategies"), ("memory", "Memory"), ("timeline", "Timeline"),
    ("communication", "Communication"), ("training", "Training"), ("what-if", "What if"), ("comparison", "Comparison"),
)  # fmt: skip


class Report:
    """Everything that page and --json show, of one program, what was measured of it, and perhaps another plan."""

    def __init__(
        self, program: Program, inputs: Inputs, against: Program | None, letters: dict[str, int] | None = None
    ) -> None:
        self.program, self.inputs, self.against = program, inputs, against
        self.letters = {} if letters is None else letters
        self.predicted = inputs.predicted or (steps.trace_of(program.timetable) if program.timetable else None)
        self.measured = inputs.measured
        self.shares = steps.recompute_shares(program.plan)
        self.seconds_of = {
            trace.kind: steps.causes_by_unit(trace, self.shares) for trace in (self.predicted, self.measured) if trace
        }
        self.records = memory.figures(program)
        best = self.seconds_of.get("predicted") or self.seconds_of.get("measured") or {}
        paths = [unit["path"] for unit in program.plan["units"]]
        causes = {path: steps.of_unit(best, path) for path in paths} if best else {}
        self.units = sections.units_of(program, causes, self.records, self.letters)
        self.runs = [curves.run_of(log) for log in inputs.logs]
        self.metrics = curves.metrics_of(inputs.logs)
        self.timeline = timeline.figures(self.predicted, self.measured)
        self.chosen = {trace.kind: str(steps.middle_step(trace)) for trace in (self.predicted, self.measured) if trace}
        self.causes = {
            kind: steps.by_cause(self.seconds_of[kind], program.stages) if kind in self.seconds_of else None
            for kind in ("predicted", "measured")
        }
        self.communication = traffic.figures(program, self.predicted)
        self.tokens_per_step = self.count_tokens()
        self.summary = self.summarize()
        self.comparison = compare(self, Report(against, Inputs(), None, self.letters)) if against else None

    def count_tokens(self) -> int | None:
        sequence = (self.program.timetable or {}).get("sequence")
        return sequence * self.program.plan["global_batch"] if isinstance(sequence, int) and sequence > 0 else None

    def measured_seconds(self) -> tuple[float, str] | None:
        if self.measured:
            return self.measured.step_seconds, f"mean of {len(self.measured.steps)} traced steps"
        rates = [run["tokens_per_second"] for run in self.runs if run["tokens_per_second"] > 0]
        return (self.tokens_per_step / rates[-1], "of the last log") if rates and self.tokens_per_step else None

    def summarize(self) -> dict:
        plan, table = self.program.plan, self.program.timetable or {}
        predicted = plan.get("predicted_step_seconds") or table.get("predicted_step_seconds") or 0
        measured = self.measured_seconds()
        rates = [run["tokens_per_second"] for run in self.runs if run["tokens_per_second"] > 0]
        flops, peak = plan.get("model_flops_per_step", 0), plan.get("peak_flops_per_second", 0)
        peaks = plan.get("peak_bytes_per_rank") or []
        budget = memory.budget_of(self.program, self.records[0]["stage"]) if self.records else None
        cluster = table.get("cluster") if isinstance(table.get("cluster"), dict) else {}
        layers = [f"{count} {name}" for name, count in count_types(plan).items()]
        words = [table.get("model", ""), ", ".join(layers)] + (
            [f"sequence {table['sequence']}"] if isinstance(table.get("sequence"), int) and table["sequence"] else []
        )
        missing = []
        if not table:
            missing.append(
                "There is no timetable.json beside the plan: what the bytes hold, the predicted step entry by entry and what is "
                "exchanged are not known. galvatron-opt --lower writes it into the output folder."
            )
        parameters = table.get("parameters")
        return {
            "model": "; ".join(str(word) for word in words if word),
            "parameters": f"{parameters:,}" if isinstance(parameters, int) else "",
            "precision": table.get("precision", ""),
            "cluster": ", ".join(
                f"{key.replace('_', ' ')} {value if key != 'memory_bytes_per_device' else size(value)}"
                for key, value in cluster.items()
                if isinstance(value, (int, float, str))
            ),
            "plan": strategies.sentence(plan, self.program.stages, self.program.devices),
            "predicted_step": seconds(predicted) if predicted else "",
            "measured_step": f"{seconds(measured[0])} ({measured[1]})" if measured else "",
            "ratio": f"{predicted / measured[0]:.3f}" if measured and predicted else "",
            "tokens_per_second": f"{rates[-1]:,.0f}" if rates else "",
            "mfu": f"{flops / (measured[0] * plan['ranks'] * peak):.1%}" if measured and flops and peak else "",
            "peaks": ", ".join(f"{sizes} ({who})" for who, sizes in peaks_by_stage(peaks, self.program.devices)),
            "budget": size(budget) if budget is not None else "",
            "version": table.get("created_by", ""),
            "command": table.get("command", ""),
            "missing": missing,
        }

    def data(self) -> dict:
        """What --json writes, and the page holds: all figures shown."""
        return {
            "format": "galvatron-report",
            "version": 1,
            "plan": self.program.plan,
            "runs": self.runs,
            "timetable": kept_timetable(self.program.timetable),
            "trace": {
                trace.kind: {"plan": trace.plan, "step_seconds": trace.step_seconds, "clock_error_us": trace.clock_error_us,
                             "steps": sorted(trace.steps)}
                for trace in (self.inputs.predicted, self.measured) if trace
            } or None,
            "against": {"plan": self.against.plan, "timetable": kept_timetable(self.against.timetable)} if self.against else None,
            "summary": self.summary,
            "units": self.units,
            "groups": sections.groups_data(self.program),
            "devices": self.program.devices,
            "memory": self.records,
            "timeline": self.timeline,
            "causes": self.causes,
            "communication": self.communication,
            "tokens_per_step": self.tokens_per_step,
            "comparison": self.comparison,
        }  # fmt: skip


def count_types(plan: dict) -> dict[str, int]:
    counts: dict[str, int] = {}
    for unit in plan["units"]:
        name = unit.get("layer_type") or "module"
        counts[name] = counts.get(name, 0) + 1
    return counts


def peaks_by_stage(peaks: list[int], devices: int) -> list[tuple[str, str]]:
    """Runs of stages whose ranks have equal peaks are one."""
    runs: list[list[int]] = []
    for rank, peak in enumerate(peaks):
        if runs and runs[-1][2] == peak:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank, peak])
    return [(f"rank {a}" if a == b else f"ranks {a} to {b}", size(peak)) for a, b, peak in runs]


def kept_timetable(table: dict | None) -> dict | None:
    """As in its file, or of very large ones all but lists: what of these is shown stands in `memory` and `timeline`."""
    if table is None or len(json.dumps(table, separators=(",", ":"))) <= MOST_TIMETABLE:
        return table
    shortened = {key: value for key, value in table.items() if key not in ("bodies", "stages")}
    shortened["stages"] = [
        {key: value for key, value in stage.items() if key not in ("buffers", "entries")}
        | {"buffer_count": len(stage["buffers"]), "entry_count": len(stage["entries"])}
        for stage in table["stages"]
    ]
    return shortened | {"shortened": True}


def compare(one: Report, other: Report) -> dict:
    """Both plans side by side: what differs, and time and bytes by cause, module and rank."""
    pairs = list(zip(one.units, other.units))
    differs = [
        a["path"]
        for a, b, of_a, of_b in zip(one.units, other.units, one.program.plan["units"], other.program.plan["units"])
        if a["stage"] != b["stage"] or settings(of_a, one.program.devices) != settings(of_b, other.program.devices)
    ]
    causes = []
    if one.causes["predicted"] and other.causes["predicted"]:
        for cause in steps.CAUSES:
            ours, theirs = (sum(report.causes["predicted"][cause]) / report.program.stages for report in (one, other))
            if ours or theirs or cause in steps.ALWAYS:
                causes.append([cause, seconds(ours), seconds(theirs), seconds(ours - theirs)])
        ours, theirs = one.predicted.step_seconds, other.predicted.step_seconds
        causes.append(["step", seconds(ours), seconds(theirs), seconds(ours - theirs)])
    kinds = []
    if one.records and other.records:
        fullest = [max(report.records, key=lambda record: record["peak_bytes"]) for report in (one, other)]
        sums = [by_kind(record) for record in fullest]
        for kind in sorted(sums[0].keys() | sums[1].keys()):
            ours, theirs = (each.get(kind, 0) for each in sums)
            kinds.append([kind.replace("_", " "), size(ours), size(theirs), size(ours - theirs)])
    modules = [
        [a["path"], f"stage {a['stage']}: {a['strategy']}", f"stage {b['stage']}: {b['strategy']}",
         seconds(sum(a["seconds"].values())), seconds(sum(b["seconds"].values())), size(sum(a["bytes"].values())),
         size(sum(b["bytes"].values()))]
        for a, b in pairs
    ]  # fmt: skip
    return {
        "sentence": one.summary["plan"],
        "other_sentence": other.summary["plan"],
        "other_path": other.program.path,
        "other_units": other.units,
        "differs": differs,
        "causes": causes,
        "kinds": kinds,
        "ranks": compare_ranks(one.program.plan, other.program.plan),
        "modules": modules,
    }


def settings(unit: dict, devices: int) -> dict:
    """A strategy without what its defaults say, so that a plan by hand equals the one written from it."""
    strategy = unit.get("strategy", {})
    kept = {
        key: value for key, value in strategy.items() if value not in (None, False, [], 0) and (key, value) != ("ep", 1)
    }
    return kept | strategies.degrees_of(strategy, devices)


def by_kind(record: dict) -> dict[str, int]:
    sums: dict[str, int] = {}
    for leaf in record["leaves"]:
        sums[leaf["kind"]] = sums.get(leaf["kind"], 0) + leaf["bytes"]
    return sums


def compare_ranks(one: dict, other: dict) -> list[list[str]]:
    """Runs of ranks with equal bytes in both."""
    ours, theirs = (plan.get("peak_bytes_per_rank") or [] for plan in (one, other))
    if not ours or not theirs:
        return []
    runs: list[list] = []
    for rank in range(max(len(ours), len(theirs))):
        pair = tuple(peaks[rank] if rank < len(peaks) else None for peaks in (ours, theirs))
        if runs and runs[-1][2] == pair:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank, pair])

    def show(peak: int | None) -> str:
        return "–" if peak is None else size(peak)

    return [
        [f"{a}" if a == b else f"{a} to {b}", show(x), show(y), "–" if x is None or y is None else size(x - y)]
        for a, b, (x, y) in runs
    ]


def as_script(data: dict) -> str:
    """JSON that no text in it can end."""
    dumped = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return dumped.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def fingerprint(content: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() + "'"


def write(report: Report) -> str:
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    program = report.program
    contents = {
        "summary": sections.write_summary(report.summary),
        "strategies": sections.write_strategies(program, report.units),
        "memory": memory.write(program, report.records),
        "timeline": timeline.write(report.timeline, report.chosen, report.causes, bool(report.shares)),
        "communication": traffic.write(report.communication),
        "training": training.write(report.runs, report.metrics, report.tokens_per_step),
        "what-if": sections.write_what_if(program.plan, program.stages),
        "comparison": sections.write_comparison(report.units, report.comparison),
    }
    title = f"Plan of {(program.timetable or {}).get('model') or 'a model'}"
    links = "".join(f'<a href="#{name}">{text(words)}</a>' for name, words in SECTIONS)
    policy = f"default-src 'none'; script-src {fingerprint(script)}; style-src {fingerprint(style)}; base-uri 'none'; form-action 'none'"
    body = "".join(section(name, words, contents[name]) for name, words in SECTIONS)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{text(policy)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{text(title)}</title><style>{style}</style></head>\n<body><header><h1>{text(title)}</h1>"
        f'<nav aria-label="sections">{links}</nav></header>\n<main>{body}</main>\n<div id="tooltip" role="tooltip" hidden></div>\n'
        f'<script type="application/json" id="galvatron-data">{as_script(report.data())}</script>\n'
        f"<script>{script}</script></body></html>\n"
    )
