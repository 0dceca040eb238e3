"""A page of two timelines, one above the other, and the table of `timelines.compare`: one HTML file that asks nobody.

Elements have the attributes of a report's timeline: data-source, data-stage, data-start, data-duration, in seconds from the
step's begin.
"""

from __future__ import annotations

import html

from galvatron.timelines import Span, Trace, shown_rows

WIDTH, LABEL, LANE, GAP = 1200, 150, 16, 4  # pixels
# Spans narrower than that are drawn as one with their neighbours.
NARROWEST = 0.5
COLOURS = {
    "forward": "#4878a8",
    "backward": "#3a8a5a",
    "redistribute": "#a0522d",
    "collective": "#b8860b",
    "send": "#8a5aa8",
    "receive": "#a8487a",
    "update": "#5f6a72",
    "other": "#7a8a99",
}

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f23; --paper: #ffffff; --line: #d0d7de; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0d1117; --line: #30363d; } }
body { background: var(--paper); color: var(--ink); font: 14px sans-serif; margin: 1.5em; }
table { border-collapse: collapse; } td, th { padding: .2em .8em; border-bottom: 1px solid var(--line); text-align: right; }
td:nth-child(-n+2), th:nth-child(-n+2) { text-align: left; }
.scroll { overflow-x: auto; } svg text { fill: var(--ink); font-size: 11px; }
.key span { display: inline-block; width: 1em; height: 1em; vertical-align: -.15em; margin: 0 .3em 0 1em; }
"""


def colour_of(span: Span) -> str:
    word = span.name.partition(" ")[0]
    if span.category == "compute":
        return word if word in COLOURS else "other"
    return span.category


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
                f'height="{LANE}" fill="{COLOURS[colour_of(span)]}" data-source="{trace.kind}" data-stage="{span.stage}" '
                f'data-start="{start:.9f}" data-duration="{end - start:.9f}"><title>{html.escape(span.name)}, '
                f"{(end - start) * 1e3:.3f} ms from {start * 1e3:.3f} ms</title></rect>"
            )
    height = len(lanes) * (LANE + GAP)
    label = f"{trace.kind} step of {trace.step_seconds * 1e3:.3f} ms, by rank and stream"
    return (
        f'<div class="scroll"><svg role="img" aria-label="{html.escape(label)}" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}">{"".join(parts)}</svg></div>'
    )


def table(result: dict, top: int) -> str:
    cells = [
        f"<tr><td>{html.escape(str(row['phase']))}</td><td>{html.escape(str(row['layer_type']))}</td><td>{row['stage']}</td>"
        f"<td>{row['predicted_seconds'] * 1e3:.3f}</td><td>{row['measured_seconds'] * 1e3:.3f}</td>"
        f"<td>{row['error_seconds'] * 1e3:+.3f}</td><td>{row['share_of_step']:+.1%}</td></tr>"
        for row in shown_rows(result, top)
    ]
    cells.append(
        f"<tr><th>step</th><th></th><th></th><th>{result['predicted_step_seconds'] * 1e3:.3f}</th>"
        f"<th>{result['measured_step_seconds'] * 1e3:.3f}</th><th>{result['error_seconds'] * 1e3:+.3f}</th>"
        f"<th>{result['error_share']:+.1%}</th></tr>"
    )
    head = "".join(
        f"<th>{name}</th>"
        for name in ("phase", "layer type", "stage", "predicted ms", "measured ms", "error ms", "of the step")
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(cells)}</tbody></table>"


def write_page(predicted: Trace, measured: Trace, result: dict, top: int) -> str:
    """The page as text: of the measured steps the middle one is drawn."""
    step = sorted(measured.steps)[len(measured.steps) // 2]
    below = measured.steps[step]
    (above,) = list(predicted.steps.values())[:1]
    slowest = result["slowest_rank"]["rank"] if result["slowest_rank"] else None
    longest = max(span.end for span in above + below)
    key = "".join(f'<span style="background:{colour}"></span>{name}' for name, colour in COLOURS.items())
    notes = []
    if result["slowest_rank"]:
        notes.append(f"Slowest rank: {slowest}, {result['slowest_rank']['compute_seconds'] * 1e3:.3f} ms of compute a step.")
    if wait := result["longest_wait"]:
        notes.append(f"Longest wait: {wait['seconds'] * 1e3:.3f} ms of rank {wait['rank']}, {wait['name']}, step {wait['step']}.")
    notes.append(f"Clocks of ranks agree within {result['clock_error_us']:.3f} µs.")
    ranks = ranks_to_show(measured, below, slowest)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f'<meta name="viewport" content="width=device-width"><title>Predicted and measured</title><style>{STYLE}</style>'
        f"</head><body><h1>A step, predicted and measured</h1><p>Plan {html.escape(result['plan'])}. "
        f"{html.escape(' '.join(notes))}</p>"
        f"<p class=\"key\">{key}</p><section id=\"predicted\"><h2>Predicted: "
        f"{predicted.step_seconds * 1e3:.3f} ms</h2>{draw(predicted, above, ranks, longest)}</section>"
        f'<section id="measured"><h2>Measured: step {step} of {measured.step_seconds * 1e3:.3f} ms in the mean</h2>'
        f"{draw(measured, below, ranks, longest)}</section>"
        f'<section id="errors"><h2>Where they differ</h2>{table(result, top)}</section></body></html>\n'
    )
