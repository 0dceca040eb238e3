"""A page of two timelines, one above the other, and the table of `timelines.compare`: one HTML file that asks nobody.

Elements have the attributes of a report's timeline: data-source, data-stage, data-start, data-duration, in seconds from the
step's begin.
"""

from __future__ import annotations

import html

from galvatron.report_page import markup, page
from galvatron.report_page.timeline import CATEGORIES, category_of
from galvatron.timelines import Span, Trace, shown_rows

WIDTH, LABEL, LANE, GAP = 1200, 150, 16, 4  # pixels
# Spans narrower than that are drawn as one with their neighbours.
NARROWEST = 0.5


def merged(spans: list[Span], scale: float) -> list[tuple[Span, float, float]]:
    """(first span, start, end) of what is drawn: runs of narrow ones are one."""
    drawn: list[list] = []
    for span in sorted(spans, key=lambda span: span.start):
        narrow = span.seconds * scale < NARROWEST
        if narrow and drawn and drawn[-1][3] and (span.start - drawn[-1][2]) * scale < NARROWEST:
            drawn[-1][2] = max(drawn[-1][2], span.end)
        else:
            drawn.append([span, span.start, span.end, narrow])
    return [(span, start, end) for span, start, end, _ in drawn]


def ranks_to_show(trace: Trace, spans: list[Span], also: int | None) -> list[int]:
    """The first of each stage, as the others do the same, and the slowest."""
    first: dict[int, int] = {}
    for span in spans:
        first[span.stage] = min(first.get(span.stage, span.rank), span.rank)
    there = {span.rank for span in spans}
    return sorted(set(first.values()) | ({also} & there if also is not None else set()))


def draw(trace: Trace, spans: list[Span], ranks: list[int], longest: float) -> str:
    scale = (WIDTH - LABEL) / longest
    lanes = sorted({(span.rank, span.thread) for span in spans if span.rank in ranks})
    parts = []
    for lane, (rank, thread) in enumerate(lanes):
        top = lane * (LANE + GAP)
        name = f"rank {rank} {trace.threads.get((rank, thread), thread)}"
        parts.append(f'<text x="0" y="{top + LANE - 4}">{html.escape(name)}</text>')
        own = [span for span in spans if (span.rank, span.thread) == (rank, thread)]
        for span, start, end in merged(own, scale):
            parts.append(
                f'<rect x="{LABEL + start * scale:.2f}" y="{top}" width="{max((end - start) * scale, NARROWEST):.2f}" '
                f'height="{LANE}" class="c-{category_of(span)}" data-source="{trace.kind}" data-stage="{span.stage}" '
                f'data-start="{start:.9f}" data-duration="{end - start:.9f}"><title>{html.escape(span.name)}, '
                f"{(end - start) * 1e3:.3f} ms from {start * 1e3:.3f} ms</title></rect>"
            )
    height = len(lanes) * (LANE + GAP)
    label = f"{trace.kind} step of {trace.step_seconds * 1e3:.3f} ms, by rank and stream"
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{html.escape(label)}"><svg role="img" aria-label="{html.escape(label)}" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}">{"".join(parts)}</svg></div>'
    )


def table(result: dict, top: int) -> str:
    rows = [
        [
            row["phase"],
            row["layer_type"],
            row["stage"],
            *(f"{row[key] * 1e3:.3f}" for key in ("predicted_seconds", "measured_seconds")),
            f"{row['error_seconds'] * 1e3:+.3f}",
            f"{row['share_of_step']:+.1%}",
        ]
        for row in shown_rows(result, top)
    ]
    whole = [f"{result[key] * 1e3:.3f}" for key in ("predicted_step_seconds", "measured_step_seconds")]
    rows.append(["step", "", "", *whole, f"{result['error_seconds'] * 1e3:+.3f}", f"{result['error_share']:+.1%}"])
    head = ["phase", "layer type", "stage", "predicted ms", "measured ms", "error ms", "of the step"]
    return markup.table(head, rows, words=2)


def write_page(predicted: Trace, measured: Trace, result: dict, top: int) -> str:
    """The page as text: of the measured steps the middle one is drawn."""
    step = sorted(measured.steps)[len(measured.steps) // 2]
    below = measured.steps[step]
    (above,) = list(predicted.steps.values())[:1]
    slowest = result["slowest_rank"]["rank"] if result["slowest_rank"] else None
    longest = max(span.end for span in above + below)
    style = (page.HERE / "page.css").read_text(encoding="utf-8")
    notes = []
    if result["slowest_rank"]:
        notes.append(
            f"Slowest rank: {slowest}, {result['slowest_rank']['compute_seconds'] * 1e3:.3f} ms of compute a step."
        )
    if wait := result["longest_wait"]:
        notes.append(
            f"Longest wait: {wait['seconds'] * 1e3:.3f} ms of rank {wait['rank']}, {wait['name']}, step {wait['step']}."
        )
    notes.append(f"Clocks of ranks agree within {result['clock_error_us']:.3f} µs.")
    ranks = ranks_to_show(measured, below, slowest)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src {page.fingerprint(style)}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>Predicted and measured</title><style>{style}</style>'
        f"</head><body><main><h1>A step, predicted and measured</h1><p>Plan {html.escape(result['plan'])}. "
        f"{html.escape(' '.join(notes))}</p>"
        f"{markup.key([(f'c-{name}', '', name) for name in CATEGORIES])}<section id=\"predicted\"><h2>Predicted: "
        f"{predicted.step_seconds * 1e3:.3f} ms</h2>{draw(predicted, above, ranks, longest)}</section>"
        f'<section id="measured"><h2>Measured: step {step} of {measured.step_seconds * 1e3:.3f} ms in the mean</h2>'
        f"{draw(measured, below, ranks, longest)}</section>"
        f'<section id="errors"><h2>Where they differ</h2>{table(result, top)}</section></main></body></html>\n'
    )
