"""Curves of training as plain numbers in the coordinates of a drawing, which a page draws as vector graphics."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 380, 220  # of a panel: readable at the width of a phone
LEFT, RIGHT, TOP, BOTTOM = 52, 372, 10, 192  # of the area of the curves
POINTS = 400  # of a curve
FEW = 10  # points that are all shown
SETTLED = 0.1  # of the steps: what is before them may lie far outside

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Curve:
    """A named curve: steps and values, and its colour's number."""

    name: str
    points: list[tuple[float, float]]
    colour: int


@dataclass(frozen=True)
class Line:
    """A curve in a panel. Attributes: `path` are its points "x,y x,y ...". `last` is its last value as text."""

    name: str
    path: str
    colour: int
    last: str


@dataclass(frozen=True)
class Panel:
    """A drawing of curves over the steps. Attributes: ticks are places and labels; `cut`: a start is outside."""

    title: str
    unit: str
    lines: list[Line]
    across: list[tuple[float, str]]
    up: list[tuple[float, str]]
    cut: bool


def curve_panels(rows: Mapping[str, Rows], data: Mapping[str, str]) -> list[Panel]:
    """Panels of the metric rows of runs: bounds, weight of the rate and constraint of all, and the rates of each.

    Arguments:
        rows: of each run by name. data: run -> its data. Bounds on different data are not comparable, and have panels each.
    """

    def of_runs(key: str, where: str | None = None) -> list[Curve]:
        curves = (Curve(run, _points(mine, key), number) for number, (run, mine) in enumerate(rows.items()))
        return [curve for curve in curves if where in (None, data[curve.name])]

    panels = list[Panel | None]()
    for title, key in (("Bound on validation data", "validation_elbo"), ("Bound of batches", "elbo")):
        for where in (every := dict.fromkeys(data.values())):
            panels.append(_panel(f"{title}{f' of {where}' * (len(every) > 1)}", "nats per datum", of_runs(key, where)))
    panels.append(_panel("Weight of the rate, beta", "", of_runs("beta"), whole=True))
    panels.append(_panel("Constraint, moving average", "", of_runs("constraint"), logarithmic=True))
    for run, mine in rows.items():
        rates = sorted({key for row in mine for key in row if key.startswith("rate.")}, key=lambda key: (len(key), key))
        if len(rates) > 1:
            curves = [Curve(key.removeprefix("rate."), _points(mine, key), number) for number, key in enumerate(rates)]
            panels.append(_panel(f"Rate of each latent{f' of {run}' if len(rows) > 1 else ''}", "nats per datum", curves))
    return [panel for panel in panels if panel]


def _points(rows: Rows, key: str) -> list[tuple[float, float]]:
    values = ((row["step"], row.get(key)) for row in rows)
    points = [(float(step), float(value)) for step, value in values if value is not None and math.isfinite(value)]
    every = -(-len(points) // POINTS) or 1
    return points[::-1][::every][::-1]  # with the last one


def _panel(title: str, unit: str, curves: Iterable[Curve], logarithmic: bool = False, whole: bool = False) -> Panel | None:
    curves = [curve for curve in curves if curve.points]
    if logarithmic:
        positive = ((c, [(step, math.log10(value)) for step, value in c.points if value > 0]) for c in curves)
        curves = [Curve(curve.name, points, curve.colour) for curve, points in positive if points]
    if not curves:
        return None
    first, last = (bound(step for curve in curves for step, _ in curve.points) for bound in (min, max))
    every = [value for curve in curves for _, value in curve.points]
    late = [value for curve in curves for step, value in curve.points if step >= first + SETTLED * (last - first)]
    low, high = min(late), max(late)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    whole = whole or max(len(curve.points) for curve in curves) < FEW
    far = not whole and (min(every) < low - (high - low) or max(every) > high + (high - low))
    if not far:
        low, high = min(every), max(every)
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - margin, high + margin

    def across(step: float) -> float:
        return round(LEFT + (RIGHT - LEFT) * (step - first) / ((last - first) or 1), 1)

    def up(value: float) -> float:
        return round(BOTTOM - (BOTTOM - TOP) * (value - low) / (high - low), 1)

    def text(value: float) -> str:
        return f"{10**value if logarithmic else value:.4g}"

    lines = [
        Line(c.name, " ".join(f"{across(step)},{up(value)}" for step, value in c.points), c.colour, text(c.points[-1][1]))
        for c in curves
    ]
    steps = [(across(tick), f"{tick:,.0f}") for tick in ticks(first, last, 4)]
    heights = _log_ticks(low, high) if logarithmic else ticks(low, high, 5)
    return Panel(title, unit, lines, steps, [(up(tick), text(tick)) for tick in heights], far)


def _log_ticks(low: float, high: float) -> list[float]:
    """Logarithms of 1, 2 and 5 times powers of ten, or of the powers alone where these are many."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    factors = (1, 2, 5) if high - low < 2 else (1,)
    return [tick for power in powers for factor in factors if low <= (tick := power + math.log10(factor)) <= high]


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers between two values, at most about `count`.

    >>> ticks(0.0, 1000.0, 4), ticks(-1.3, 0.9, 5)
    ([0.0, 500.0, 1000.0], [-1.0, -0.5, 0.0, 0.5])
    """
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= rough * (1 - 1e-9))
    digits = max(0, -math.floor(math.log10(step)) + 1)
    first = math.ceil(low / step - 1e-9)
    return [round(step * number, digits) + 0.0 for number in range(first, math.floor(high / step + 1e-9) + 1)]
