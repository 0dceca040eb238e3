"""The timeline: predicted above measured, a lane a stream, on one axis; and the table by cause."""

from __future__ import annotations

import re

from galvatron import timelines
from galvatron.report_page import steps
from galvatron.report_page.markup import details, drawing, item, key, label, note, seconds, table, text
from galvatron.timelines import Span, Trace

WIDTH, LABEL, LANE, GAP, TOP = 1100, 210, 13, 3, 22  # pixels
MOST_ITEMS = 3500
MOST_SPANS = 80_000  # in the page's data; beyond, short ones are one with their neighbours
CATEGORIES = ("forward", "backward", "redistribute", "collective", "send", "receive", "update", "other")


def category_of(span: Span) -> str:
    if span.category != "compute":
        return span.category
    word = span.name.partition(" ")[0]
    return word if word in ("forward", "backward") else "other"


def ranks_of(trace: Trace, spans: list[Span]) -> list[int]:
    """The first of each stage; of a measured step also the one that computes longest."""
    first: dict[int, int] = {}
    busy: dict[int, float] = {}
    for span in spans:
        first[span.stage] = min(first.get(span.stage, span.rank), span.rank)
        if span.category in timelines.COMPUTES:
            busy[span.rank] = busy.get(span.rank, 0.0) + span.seconds
    slowest = {max(sorted(busy), key=lambda rank: busy[rank])} if trace.kind == "measured" and busy else set()
    return sorted(set(first.values()) | slowest)


MICRO_BATCH = re.compile(r"(.*) micro-batch ([0-9]{1,9})", re.DOTALL)


class Names:
    """Texts by number, each once; a micro-batch stands beside, as each entry has many."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def of(self, name: str) -> tuple[int, int]:
        match = MICRO_BATCH.fullmatch(name)
        own, batch = (match[1], int(match[2])) if match else (name, -1)
        return self.numbers.setdefault(own, len(self.numbers)), batch


def name_of(names: list[str], span: list) -> str:
    return names[span[2]] + (f" micro-batch {span[4]}" if span[4] >= 0 else "")


def lanes_of(trace: Trace, step: int, names: Names) -> list[dict]:
    """What is drawn of a step, and what the page's data hold: of each span [start, duration, name, category, micro-batch]."""
    spans = trace.steps[step]
    shown = ranks_of(trace, spans)
    lanes: dict[tuple[int, int, int], dict] = {}
    for span in sorted(spans, key=lambda span: (span.start, span.thread)):
        if span.rank not in shown:
            continue
        where = (span.stage, span.rank, span.thread)
        stream = trace.threads.get((span.rank, span.thread), "compute" if span.thread == 0 else str(span.thread))
        lane = lanes.setdefault(where, {"stage": span.stage, "rank": span.rank, "stream": stream, "spans": []})
        name, batch = names.of(span.name)
        place = [round(length, 9 if span.entry >= 0 else 12) for length in (span.start, span.seconds)]
        lane["spans"].append([*place, name, CATEGORIES.index(category_of(span)), batch])
    return [lanes[where] for where in sorted(lanes)]


def figures(predicted: Trace | None, measured: Trace | None) -> dict:
    """`timeline` of the page's data: every span, from which zooming draws anew."""
    names = Names()
    sources = []
    for trace in (predicted, measured):
        if trace:
            drawn = {str(step): lanes_of(trace, step, names) for step in sorted(trace.steps)}
            sources.append({"source": trace.kind, "step_seconds": trace.step_seconds, "steps": drawn})
    shorten(sources)
    return {"categories": list(CATEGORIES), "sources": sources, "names": list(names.numbers)}


def count(sources: list[dict]) -> int:
    return sum(len(lane["spans"]) for source in sources for lanes in source["steps"].values() for lane in lanes)


def shorten(sources: list[dict]) -> None:
    """Of very large programs one measured step stays, and what is too short to be seen even when zoomed in is joined."""
    for source in sources:
        if count(sources) > MOST_SPANS and len(source["steps"]) > 1:
            middle = sorted(source["steps"], key=int)[len(source["steps"]) // 2]
            source["steps"] = {middle: source["steps"][middle]}
    narrowest = 1e-5 * max((source["step_seconds"] for source in sources), default=0.0)
    while count(sources) > MOST_SPANS:
        for source in sources:
            for lane in (lane for lanes in source["steps"].values() for lane in lanes):
                joined = merged(lane["spans"], narrowest)
                lane["spans"] = [[start, round(end - start, 12), *span[2:]] for span, start, end, _ in joined]
        narrowest *= 2


def merged(spans: list[list], narrowest: float) -> list[tuple[list, float, float, int]]:
    """(first span, start, end, how many) of what is drawn: runs of short ones, close to each other, are one."""
    drawn: list[list] = []
    for span in spans:
        start, end = span[0], span[0] + span[1]
        short = span[1] < narrowest
        if short and drawn and drawn[-1][4] and start - drawn[-1][2] < narrowest:
            drawn[-1][2] = max(drawn[-1][2], end)
            drawn[-1][3] += 1
        else:
            drawn.append([span, start, end, 1, short])
    return [tuple(part[:4]) for part in drawn]


def placed(sources: list[dict], chosen: dict[str, str]) -> list[tuple[dict, dict]]:
    """Lanes from top to bottom: of each stage the predicted ones, then the measured ones."""
    lanes = [(source, lane) for source in sources for lane in source["steps"][chosen[source["source"]]]]
    return sorted(lanes, key=lambda pair: (pair[1]["stage"], pair[0]["source"] == "measured", pair[1]["rank"]))


def draw(data: dict, chosen: dict[str, str]) -> str:
    lanes = placed(data["sources"], chosen)
    longest = max((span[0] + span[1] for _, lane in lanes for span in lane["spans"]), default=0.0) or 1e-9
    scale = (WIDTH - LABEL) / longest
    narrowest = 1.0
    while sum(len(merged(lane["spans"], narrowest / scale)) for _, lane in lanes) > MOST_ITEMS and narrowest < WIDTH:
        narrowest *= 1.5
    parts = axis(longest, TOP + len(lanes) * (LANE + GAP))
    first = True
    for number, (source, lane) in enumerate(lanes):
        top = TOP + number * (LANE + GAP)
        words = f"{source['source']}, rank {lane['rank']}: {lane['stream']}"
        parts.append(label(0, top + LANE - 3, words if len(words) <= 36 else words[:35] + "…"))
        for span, start, end, many in merged(lane["spans"], narrowest / scale):
            name = name_of(data["names"], span) + (f" and {many - 1} more" if many > 1 else "")
            told = f"{name}\n{source['source']}, stage {lane['stage']}, {seconds(end - start)} from {seconds(start)}"
            parts.append(
                item(
                    LABEL + start * scale, top, max((end - start) * scale, 0.5), LANE, told, first,
                    f"c-{CATEGORIES[span[3]]}", data_source=source["source"], data_stage=lane["stage"],
                    data_start=repr(start), data_duration=repr(end - start),
                )
            )  # fmt: skip
            first = False
    told = "the step by rank and stream: " + " and ".join(
        f"{s['source']} {seconds(s['step_seconds'])}" for s in data["sources"]
    )
    return drawing(told, WIDTH, TOP + len(lanes) * (LANE + GAP), "".join(parts), id="timeline-drawing")


def axis(longest: float, bottom: float) -> list[str]:
    parts = []
    for number in range(6):
        x = LABEL + (WIDTH - LABEL) * number / 5
        parts.append(f'<path class="axis" d="M{x:.1f},14L{x:.1f},{bottom:.1f}"/>')
        anchor = "end" if number == 5 else "middle" if number else "start"
        parts.append(label(x, 11, seconds(longest * number / 5), "soft", anchor))
    return parts


def cause_rows(predicted: dict[str, list[float]] | None, measured: dict[str, list[float]] | None) -> list[list[str]]:
    """Means over the stages; the last row is the step, which the others add up to."""

    def mean(causes: dict[str, list[float]], cause: str) -> float:
        return sum(causes[cause]) / len(causes[cause])

    rows, totals = [], [0.0, 0.0]
    for cause in steps.CAUSES:
        values = [mean(causes, cause) if causes else None for causes in (predicted, measured)]
        if cause not in steps.ALWAYS and not any(values):
            continue
        totals = [total + (value or 0.0) for total, value in zip(totals, values)]
        rows.append([cause, *columns(*values)])
    last = [total if causes else None for total, causes in zip(totals, (predicted, measured))]
    return rows + [["step", *columns(*last)]]


def columns(predicted: float | None, measured: float | None) -> list[str]:
    both = predicted is not None and measured is not None
    return [
        "–" if predicted is None else seconds(predicted),
        "–" if measured is None else seconds(measured),
        seconds(predicted - measured) if both else "–",
    ]


def write(data: dict, chosen: dict[str, str], causes: dict[str, dict[str, list[float]] | None], shares: bool) -> str:
    if not data["sources"]:
        return note(
            "No step is known: the plan has no timetable.json beside it, and no trace was given. "
            "galvatron-opt --lower writes the one, --trace of a run the other."
        )
    meanings = [(f"c-{name}", "", name) for name in CATEGORIES]
    measured = next((s for s in data["sources"] if s["source"] == "measured"), None)
    controls = ""
    if measured and len(measured["steps"]) > 1:
        options = "".join(
            f'<option value="{text(step)}"{" selected" if step == chosen["measured"] else ""}>{text(step)}</option>'
            for step in measured["steps"]
        )
        controls = f'<label>traced step <select id="traced-step">{options}</select></label>'
    controls += (
        '<button class="plain" data-zoom="0.5">zoom in</button><button class="plain" data-zoom="2">zoom out</button>'
        '<button class="plain" data-pan="-0.5">earlier</button><button class="plain" data-pan="0.5">later</button>'
        '<button class="plain" data-zoom="0">whole step</button>'
    )
    head = ["cause", "predicted", "measured", "predicted − measured"]
    content = f'<div class="controls">{controls}</div>{key(meanings)}{draw(data, chosen)}'
    content += "<h3>By cause, mean over stages</h3>" + table(head, cause_rows(causes["predicted"], causes["measured"]))
    content += note(
        "Recomputing is told from backward by the search's prices of both (reasons)." if shares else
        "What backward recomputes is counted as backward: nothing here says how the two divide."
    )  # fmt: skip
    for kind, own in causes.items():
        if own:
            rows = [[f"stage {s}", *(seconds(own[c][s]) for c in steps.CAUSES)] for s in range(len(own["idle"]))]
            content += details(f"{kind}, by stage", table(["stage", *steps.CAUSES], rows))
    return content
