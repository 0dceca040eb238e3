"""Training curves: a chart for each column of the logs, runs overlaid."""

from __future__ import annotations

import math

from galvatron.report_page.markup import details, key, label, note, table, tag, text

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 200, 70, 24, 12, 12  # pixels
STYLES = 6  # classes r-0 … r-5
TITLES = {
    "loss": "Loss", "lr": "Learning rate", "grad_norm": "Gradient norm", "tokens_per_second": "Tokens a second",
    "peak_bytes": "Peak bytes", "eval_loss": "Evaluation loss", "eval_perplexity": "Evaluation perplexity",
}  # fmt: skip


def short(value: float) -> str:
    return f"{value:.4g}"


def ranges(runs: list[dict], metric: str) -> tuple[float, float, float, float] | None:
    steps = [step for run in runs if metric in run["curves"] for step in run["curves"][metric]["step"]]
    values = [v for run in runs if metric in run["curves"] for v in run["curves"][metric]["value"] if v is not None]
    if not steps or not values:
        return None
    low, high = min(values), max(values)
    if low == high:
        low, high = low - (abs(low) or 1) * 0.05, high + (abs(high) or 1) * 0.05
    return min(steps), max(steps), low, high


def place(step: float, value: float, area: tuple[float, float, float, float]) -> tuple[float, float]:
    first, last, low, high = area
    x = LEFT + (WIDTH - LEFT - RIGHT) * ((step - first) / (last - first) if last > first else 0.5)
    return x, TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / (high - low))


def path_of(curve: dict, area: tuple[float, float, float, float]) -> str:
    """`M` begins after a gap, `L` goes on: absolute coordinates. A point alone is a line to itself."""
    words, pen, alone = [], False, False
    for step, value in zip(curve["step"], curve["value"]):
        if value is None:
            if alone:
                words.append(words[-1].replace("M", "L"))
            pen, alone = False, False
            continue
        x, y = place(step, value, area)
        words.append(f"{'L' if pen else 'M'}{x:.2f},{y:.2f}")
        pen, alone = True, not pen
    if alone:
        words.append(words[-1].replace("M", "L"))
    return "".join(words)


def gaps(curve: dict, area: tuple[float, float, float, float]) -> list[float]:
    return [place(step, area[2], area)[0] for step, value in zip(curve["step"], curve["value"]) if value is None]


def draw(runs: list[dict], metric: str) -> str:
    area = ranges(runs, metric)
    title = TITLES.get(metric, metric)
    if area is None:
        return f"<h3>{text(title)}</h3>" + note("No finite values.")
    first, last, low, high = area
    base = HEIGHT - BOTTOM
    parts = [
        f'<path class="axis" d="M{LEFT},{TOP}L{LEFT},{base}L{WIDTH - RIGHT},{base}"/>',
        label(LEFT - 5, TOP + 8, short(high), "soft high", "end"),
        label(LEFT - 5, base, short(low), "soft low", "end"),
        label(LEFT, HEIGHT - 8, short(first), "soft first", "start"),
        label(WIDTH - RIGHT, HEIGHT - 8, short(last), "soft last", "end"),
    ]
    seen = False
    for number, run in enumerate(runs):
        curve = run["curves"].get(metric)
        if curve is None or all(value is None for value in curve["value"]):
            continue
        final = run["final"][metric]
        bad = sum(value is None for value in curve["value"])
        told = f"{run['name']}: {title}, {run['steps']} steps, last {short(final)}" + (f", {bad} gaps" if bad else "")
        parts.append(
            tag(
                "path", class_=f"item curve r-{number % STYLES}", data_run=run["name"], data_metric=metric,
                d=path_of(curve, area), role="img", aria_label=told, tabindex=-1 if seen else 0,
            )
        )  # fmt: skip
        seen = True
        for x in gaps(curve, area):
            parts.append(
                tag(
                    "text", "×", class_="gap", data_gap=run["name"], x=f"{x:.1f}", y=f"{base - 2}", text_anchor="middle"
                )
            )
    told = f"{title} over steps of {', '.join(run['name'] for run in runs)}"
    svg = tag(
        "svg", "".join(parts), role="group", aria_label=told, width=WIDTH, height=HEIGHT, viewBox=f"0 0 {WIDTH} {HEIGHT}",
        data_drawing="", data_chart=metric,
    )  # fmt: skip
    return f'<h3>{text(title)}</h3><div class="scroll">{svg}</div>'


def write(runs: list[dict], metrics: list[str], tokens_per_step: int | None) -> str:
    if not runs:
        return note("No log was given: name what --log of a run wrote.")
    boxes = "".join(
        f'<label><input type="checkbox" checked data-toggle="{text(run["name"])}"> {text(run["name"])}</label>'
        for run in runs
    )
    tokens = '<option value="tokens">tokens</option>' if tokens_per_step else ""
    controls = (
        f'{boxes}<label>over <select id="training-axis"><option value="steps">steps</option>{tokens}</select></label>'
        '<label><input type="checkbox" id="training-log"> logarithmic</label>'
    )
    content = f'<div class="controls">{controls}</div>'
    lines = "".join(
        f'<li><svg width="40" height="12" aria-hidden="true"><path class="curve r-{number % STYLES}" d="M0,6L40,6"/></svg>'
        f"{text(run['name'])}</li>"
        for number, run in enumerate(runs)
    )
    content += f'<ul class="key">{lines}</ul><div class="charts">'
    content += "".join(f"<div>{draw(runs, metric)}</div>" for metric in metrics) + "</div>"
    rows = [[run["name"], str(run["steps"]), *(show(run["final"].get(metric)) for metric in metrics)] for run in runs]
    return content + "<h3>Last values</h3>" + table(["run", "steps", *(TITLES.get(m, m) for m in metrics)], rows)


def show(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.6g}"
