"""Figures that compare runs: two metrics against each other, or a panel for each metric with its methods."""

import re
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pyro_hvae.plots.figure_base import COLOURS, GREY, new_figure

METHOD_COLOURS = (*COLOURS, GREY)
MARKERS = "osD^vPX*"  # with seven colours, 56 methods before a pair repeats
NAME_WIDTH = 42  # characters in a line of a method's name


class _Method(NamedTuple):
    """The runs of one method on one data set, measured alike, and the style of their markers."""

    name: str
    values: list[Mapping[str, float | None]]
    style: dict[str, Any]


def plot_comparison(values: Mapping[str, Any]) -> Figure:
    """Draws the result of `compare`: two metrics against each other, the first horizontally, or else a panel for each metric.

    Every run is a point. A method with two or more drawn runs also has their mean and standard deviation.
    """
    labels = {name: _label(name, about) for name, about in values["metrics"].items()}
    grouped: dict[tuple[str, str], list[Mapping[str, float | None]]] = {}
    for run in values["runs"]:
        protocol = "; ".join(dict.fromkeys(filter(None, run.get("protocol", {}).values())))  # never averaged
        method = f"{run['method']}, measured with {protocol}" if protocol else run["method"]
        grouped.setdefault((run["data"], method), []).append(run["values"])
    data_sets = {data for data, _ in grouped}
    methods = []
    for ((data, name), runs), colour, marker in zip(grouped.items(), cycle(METHOD_COLOURS), cycle(MARKERS), strict=False):
        style = {"color": colour, "marker": marker, "linestyle": "none"}
        methods.append(_Method(_wrap(name if len(data_sets) == 1 else f"{data}: {name}", NAME_WIDTH), runs, style))
    on = f" on {data_sets.pop()}" if len(data_sets) == 1 else ""
    return (_plot_pair if len(labels) == 2 else _plot_panels)(methods, labels, on)


def _plot_pair(methods: Sequence[_Method], labels: Mapping[str, str], on: str) -> Figure:
    x, y = labels
    pairs = [[(v[x], v[y]) for v in method.values if v[x] is not None and v[y] is not None] for method in methods]
    drawn = sum(map(len, pairs))
    height = max(4.5, 0.2 * sum(method.name.count("\n") + 1 for method in methods) + 1.5)
    figure = new_figure(9.5, height, "")
    axis = figure.subplots()
    axis.set_title(_wrap(f"{y} against {x}, {_count(drawn)}{on}", 64), fontsize=11)
    for method, points in zip(methods, pairs, strict=True):
        if points:
            across, up = zip(*points, strict=True)
            axis.plot(across, up, **method.style, markersize=5, alpha=0.6, label=f"{method.name} ({len(points)})")
        if len(points) > 1:
            (a, b), (da, db) = [statistics.fmean(v) for v in (across, up)], [statistics.stdev(v) for v in (across, up)]
            style: dict[str, Any] = method.style | {"markeredgecolor": "black"}
            axis.errorbar(a, b, xerr=da, yerr=db, **style, markersize=9, elinewidth=1, capsize=3, zorder=3)
    axis.set(xlabel=_wrap(labels[x], 60), ylabel=_wrap(labels[y], 50))
    if any(len(points) > 1 for points in pairs):
        axis.plot([], [], "o", color="white", markeredgecolor="black", markersize=9, label="mean and standard deviation")
    _finish_axis(axis, drawn)
    if drawn:
        figure.legend(loc="outside right upper", fontsize=8, title="method (runs)", title_fontsize=8)
    return figure


def _plot_panels(methods: Sequence[_Method], labels: Mapping[str, str], on: str) -> Figure:
    columns = min(3, len(labels))
    rows = -(-len(labels) // columns)
    lines = max(method.name.count("\n") + 1 for method in methods)
    runs = sum(len(method.values) for method in methods)
    width, height = 2.6 + 3.4 * columns, 1.2 + rows * (0.9 + len(methods) * max(0.45, 0.18 * lines))
    figure = new_figure(width, height, _wrap(f"{', '.join(labels)}, {_count(runs)}{on}", int(10 * width)))
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).flat
    for (name, label), axis in zip(labels.items(), axes, strict=False):
        drawn = 0
        for place, method in enumerate(methods):
            values = [value for v in method.values if (value := v[name]) is not None]
            drawn += len(values)
            # Equal values are drawn beside each other, so that each is seen.
            spread = [place + 0.3 * (i / (len(values) - 1) - 0.5) if len(values) > 1 else place for i in range(len(values))]
            axis.plot(values, spread, **method.style, markersize=5, alpha=0.8)
            if len(values) > 1:
                mean, deviation = statistics.fmean(values), statistics.stdev(values)
                axis.errorbar(mean, place, xerr=deviation, fmt="|", color="black", markersize=16, elinewidth=1, capsize=3)
        axis.set(xlabel=_wrap(label, 40))
        axis.locator_params(axis="x", nbins=5)
        axis.set_yticks(range(len(methods)), [method.name for method in methods], fontsize=8)
        _finish_axis(axis, drawn)
    axis.set_ylim(len(methods) - 0.5, -0.5)
    for unused in axes:
        unused.set_axis_off()
    handles = [
        Line2D([], [], color="grey", marker="o", linestyle="none", markersize=5, label="a run"),
        Line2D([], [], color="black", marker="|", markersize=12, linewidth=1, label="mean and standard deviation"),
    ]
    figure.legend(handles=handles, loc="outside lower right", ncols=2, fontsize=8)
    return figure


def _finish_axis(axis: Axes, drawn: int) -> None:
    axis.grid(color="0.9")
    axis.set_axisbelow(True)
    if not drawn:
        axis.text(0.5, 0.5, "no values", transform=axis.transAxes, ha="center", va="center")


def _label(name: str, about: Mapping[str, str]) -> str:
    """Metric, unit and the better direction; the arrow turns with a vertical axis."""
    unit = f" ({about['unit']})" if about["unit"] else ""
    better = {"higher": ", higher is better →", "lower": ", lower is better ←"}.get(about["better"], "")
    return f"{name}{unit}{better}"


def _wrap(text: str, width: int) -> str:
    """Breaks text into lines after commas and colons, and escapes dollar signs, which would begin a formula."""
    unbroken = re.sub(r"(?<![,:]) ", "\N{NO-BREAK SPACE}", text)
    return "\n".join(textwrap.wrap(unbroken, width, break_on_hyphens=False)).replace("$", r"\$")


def _count(runs: int) -> str:
    return f"{runs} run{'s' * (runs != 1)}"
