"""Logs of runs as curves: thinned so that every minimum and maximum stays, with gaps where a row is not finite."""

from __future__ import annotations

import math

from galvatron.report_page.inputs import Log

BUCKETS = 400


def points(log: Log, metric: str) -> list[tuple[float, float | None]]:
    """(step, value); None is a gap: a value that is not finite. Empty cells are no points."""
    return [
        (step, value if math.isfinite(value) else None)
        for step, value in zip(log.steps, log.columns[metric])
        if value is not None
    ]


def thin(whole: list[tuple[float, float | None]], buckets: int = BUCKETS) -> list[tuple[float, float | None]]:
    """At most four points a bucket: its first, least, greatest and last; the first gap of a bucket stays one."""
    if len(whole) <= 4 * buckets:
        return whole
    kept = []
    for number in range(buckets):
        part = whole[number * len(whole) // buckets : (number + 1) * len(whole) // buckets]
        finite = [index for index, (_, value) in enumerate(part) if value is not None]
        chosen = set()
        if finite:
            chosen = {finite[0], finite[-1], *(pick(finite, key=lambda i: part[i][1]) for pick in (min, max))}
        gap = next((index for index, (_, value) in enumerate(part) if value is None), None)
        if gap is not None:
            chosen.add(gap)
        kept += [part[index] for index in sorted(chosen)]
    return kept


def metrics_of(logs: list[Log]) -> list[str]:
    """Columns other than the step, those of the tool's own logs first."""
    names: list[str] = []
    for log in logs:
        names += [column for column in log.columns if column != "step" and column not in names]
    return names


def last_finite(log: Log, metric: str) -> float | None:
    return next((v for v in reversed(log.columns.get(metric, [])) if v is not None and math.isfinite(v)), None)


def mean_rate(log: Log) -> float:
    """Tokens a second; the first step pays for first-touch work, so it does not count where there are others."""
    rates = [rate for rate in log.columns["tokens_per_second"] if rate is not None and math.isfinite(rate)]
    rates = rates[1:] or rates
    return sum(rates) / len(rates) if rates else 0.0


def run_of(log: Log) -> dict:
    """What the page's data hold of a run."""
    curves = {}
    for metric in log.columns:
        if metric == "step":
            continue
        kept = thin(points(log, metric))
        curves[metric] = {"step": [step for step, _ in kept], "value": [value for _, value in kept]}
    return {
        "name": log.name,
        "steps": len(log),
        "first_step": log.steps[0],
        "last_step": log.steps[-1],
        "tokens_per_second": mean_rate(log),
        "final": {metric: last_finite(log, metric) for metric in curves},
        "curves": curves,
    }
