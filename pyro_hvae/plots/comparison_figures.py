"""Pictures of a comparison of runs: two metrics against each other, or each metric in a panel by method."""

import re
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pyro_hvae.plots.figures import BLUE, GREEN, GREY, ORANGE, figure_titled

__all__ = ["comparison_figure"]

# Okabe-Ito without its yellow, which is hard to see on white; with eight markers no pair comes again before 56 methods.
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#E69F00", GREY)
MARKERS = "osD^vPX*"
WIDTH = 42  # characters of a line of a method's name


class _Group(NamedTuple):
    """The runs of one method on one data set, and how they are drawn."""

    name: str
    values: list[Mapping[str, float | None]]
    style: dict[str, Any]


def comparison_figure(values: Mapping[str, Any]) -> Figure:
    """What `compare` returns, drawn: two metrics against each other, the first across; any other number as a panel each.

    Every run is a point. Means with standard deviations are of the runs of a method that are drawn, from two on.
    """
    groups = _groups(values["runs"])
    labels = {name: _label(name, about) for name, about in values["metrics"].items()}
    data = list(dict.fromkeys(run["data"] for run in values["runs"]))
    on = f" on {data[0]}" if len(data) == 1 else ""
    return _scatter(groups, labels, on) if len(labels) == 2 else _strips(groups, labels, on)


def _groups(runs: Sequence[Mapping[str, Any]]) -> list[_Group]:
    several = len({run["data"] for run in runs}) > 1
    groups = []
    names = dict.fromkeys((run["data"], run["method"]) for run in runs)
    for (data, method), colour, marker in zip(names, cycle(COLOURS), cycle(MARKERS), strict=False):
        mine = [run["values"] for run in runs if (run["data"], run["method"]) == (data, method)]
        style = {"color": colour, "marker": marker, "linestyle": "none"}
        groups.append(_Group(_lines(f"{data}: {method}" if several else method, WIDTH), mine, style))
    return groups


def _scatter(groups: Sequence[_Group], labels: Mapping[str, str], on: str) -> Figure:
    x, y = labels
    found = [[(v[x], v[y]) for v in group.values if v[x] is not None and v[y] is not None] for group in groups]
    drawn = sum(map(len, found))
    height = max(4.5, 0.2 * sum(group.name.count("\n") + 1 for group in groups) + 1.5)
    figure = figure_titled(9.5, height, "")
    axis = figure.subplots()
    axis.set_title(_lines(f"{y} against {x}, {_count(drawn)}{on}", 64), fontsize=11)
    for group, points in zip(groups, found, strict=True):
        if points:
            across, up = zip(*points, strict=True)
            axis.plot(across, up, **group.style, markersize=5, alpha=0.6, label=f"{group.name} ({len(points)})")
        if len(points) > 1:
            (a, b), (da, db) = [statistics.fmean(v) for v in (across, up)], [statistics.stdev(v) for v in (across, up)]
            style: dict[str, Any] = group.style | {"markeredgecolor": "black"}
            axis.errorbar(a, b, xerr=da, yerr=db, **style, markersize=9, elinewidth=1, capsize=3, zorder=3)
    axis.set(xlabel=_lines(labels[x], 60), ylabel=_lines(labels[y], 50))
    if any(len(points) > 1 for points in found):
        axis.plot([], [], "o", color="white", markeredgecolor="black", markersize=9, label="mean and standard deviation")
    _finish(axis, drawn)
    if drawn:
        figure.legend(loc="outside right upper", fontsize=8, title="method (runs)", title_fontsize=8)
    return figure


def _strips(groups: Sequence[_Group], labels: Mapping[str, str], on: str) -> Figure:
    columns = min(3, len(labels))
    rows = -(-len(labels) // columns)
    lines = max(group.name.count("\n") + 1 for group in groups)
    runs = sum(len(group.values) for group in groups)
    width, height = 2.6 + 3.4 * columns, 1.2 + rows * (0.9 + len(groups) * max(0.45, 0.18 * lines))
    figure = figure_titled(width, height, _lines(f"{', '.join(labels)}, {_count(runs)}{on}", int(10 * width)))
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).flat
    for (name, label), axis in zip(labels.items(), axes, strict=False):
        drawn = 0
        for place, group in enumerate(groups):
            values = [value for v in group.values if (value := v[name]) is not None]
            drawn += len(values)
            # Beside each other, so that equal values are seen to be several.
            spread = [place + 0.3 * (i / (len(values) - 1) - 0.5) if len(values) > 1 else place for i in range(len(values))]
            axis.plot(values, spread, **group.style, markersize=5, alpha=0.8)
            if len(values) > 1:
                mean, deviation = statistics.fmean(values), statistics.stdev(values)
                axis.errorbar(mean, place, xerr=deviation, fmt="|", color="black", markersize=16, elinewidth=1, capsize=3)
        axis.set(xlabel=_lines(label, 40))
        axis.locator_params(axis="x", nbins=5)
        axis.set_yticks(range(len(groups)), [group.name for group in groups], fontsize=8)
        _finish(axis, drawn)
    axis.set_ylim(len(groups) - 0.5, -0.5)
    for unused in axes:
        unused.set_axis_off()
    handles = [
        Line2D([], [], color="grey", marker="o", linestyle="none", markersize=5, label="a run"),
        Line2D([], [], color="black", marker="|", markersize=12, linewidth=1, label="mean and standard deviation"),
    ]
    figure.legend(handles=handles, loc="outside lower right", ncols=2, fontsize=8)
    return figure


def _finish(axis: Axes, drawn: int) -> None:
    axis.grid(color="0.9")
    axis.set_axisbelow(True)
    if not drawn:
        axis.text(0.5, 0.5, "no values", transform=axis.transAxes, ha="center", va="center")


def _label(name: str, about: Mapping[str, str]) -> str:
    """Column, unit and which way is better; the arrow turns with a vertical axis."""
    unit = f" ({about['unit']})" if about["unit"] else ""
    better = {"higher": ", higher is better →", "lower": ", lower is better ←"}.get(about["better"], "")
    return f"{name}{unit}{better}"


def _lines(text: str, width: int) -> str:
    """Broken into lines after commas and colons; dollars stay as they are, and begin no formula."""
    kept = re.sub(r"(?<![,:]) ", "\N{NO-BREAK SPACE}", text)
    return "\n".join(textwrap.wrap(kept, width, break_on_hyphens=False)).replace("$", r"\$")


def _count(runs: int) -> str:
    return f"{runs} run{'s' * (runs != 1)}"
