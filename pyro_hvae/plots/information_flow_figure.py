"""The information flow of a training run: what every layer knew about x at which step, and when layers entered."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyro_hvae.errors import DataError
from pyro_hvae.plots.figures import COLOURS, GREY, changes, figure_titled, in_order

__all__ = ["has_information", "information_flow"]

PREFIX = "information."
LIMIT, TOTAL, OVER = (PREFIX + name for name in ("limit", "total", "over"))

Rows = Sequence[Mapping[str, Any]]


def has_information(rows: Rows) -> bool:
    """Whether the information flow was measured in some of a run's metric rows."""
    return any(LIMIT in row for row in rows)


def information_flow(rows: Rows, title: str) -> Figure:
    """Figure 5 of pro-VLAE over all steps instead of at the end of each progressive one; nats.

    Above, a line for each layer, for their total, for what they know twice (I_over), and log N, which neither a layer nor the
    total can exceed. Below, the layers stacked, so that the stack rises above the total by I_over. Dotted: where a layer enters
    or another stage begins.

    Arguments:
        rows: metric rows of a run with step, stage, at times `InformationFlow`'s, and `layers` where they enter one by one.

    Raises:
        DataError: when no row holds information.
    """
    measured = [row for row in rows if LIMIT in row]
    if not measured:
        raise DataError("these metric rows hold no information flow: it was not measured during this training.")
    keys = {key for row in measured for key in row if key.startswith(PREFIX)} - {LIMIT, TOTAL, OVER}
    sites = in_order(key.removeprefix(PREFIX) for key in keys)
    colours = {site: COLOURS[i % len(COLOURS)] for i, site in enumerate(sites)}
    figure = figure_titled(9, 6.4, title)
    upper, lower = figure.subplots(2, 1, sharex=True)
    _lines(upper, measured, sites, colours)
    _stack(lower, measured, sites, colours)
    events = changes(rows, sites)
    for axis in (upper, lower):
        axis.set(ylabel="nats", ylim=(min(0.0, axis.get_ylim()[0]), None))
        axis.margins(x=0.02)
        for step, _ in events:
            axis.axvline(step, color=GREY, linestyle=":", linewidth=1)
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    above = upper.secondary_xaxis("top")
    above.set_xticks([step for step, _ in events], [name for _, name in events], fontsize=8)
    lower.set_xlabel("step")
    return figure


def _series(rows: Rows, key: str) -> tuple[list[int], list[float]]:
    """Steps and values of the rows that have it."""
    having = [row for row in rows if key in row]
    return [row["step"] for row in having], [row[key] for row in having]


def _lines(axis: Axes, rows: Rows, sites: Sequence[str], colours: Mapping[str, str]) -> None:
    style = {"marker": ".", "markersize": 3, "linewidth": 1.2}
    for site in reversed(sites):
        axis.plot(*_series(rows, PREFIX + site), color=colours[site], label=f"I(x; {site})", **style)
    if has_total := any(TOTAL in row for row in rows):
        axis.plot(*_series(rows, TOTAL), color="black", label="I(x; z), the total", **style)
        axis.plot(*_series(rows, OVER), color=GREY, linestyle="--", label=r"$I_\mathrm{over}$", **style)
    limit = rows[-1][LIMIT]
    axis.axhline(limit, color="black", linestyle=":", linewidth=1, label=f"log N = {limit:.2f}, the most\nthat N data can show")
    what = "layer and of all together" if has_total else "layer (an upper bound where it depends on other layers)"
    axis.set_title(f"information about x of each {what}", fontsize=10)


def _stack(axis: Axes, rows: Rows, sites: Sequence[str], colours: Mapping[str, str]) -> None:
    """The layers on top of each other, the top one lowest, since it is first to know; a stage at a time."""
    order = [*reversed(sites)]
    for number, (_, group) in enumerate(groupby(rows, lambda row: row["stage"])):
        stage = list(group)
        values = [[row.get(PREFIX + site, 0.0) for row in stage] for site in order]
        labels = [f"I(x; {site})" for site in order] if number == 0 else ()
        axis.stackplot(
            [row["step"] for row in stage], values, colors=[colours[site] for site in order], alpha=0.6, labels=labels
        )
    title = "the layers stacked"
    if any(TOTAL in row for row in rows):
        axis.plot(*_series(rows, TOTAL), color="black", linewidth=1.2, label="I(x; z), the total")
        title += r"; what rises above the total is $I_\mathrm{over}$"
    axis.set_title(title, fontsize=10)
