"""The figure of the information flow: how much each layer knows about x during a training run."""

from itertools import groupby

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyro_hvae.errors import DataError
from pyro_hvae.plots.figure_base import COLOURS, GREY, new_figure, sort_sites
from pyro_hvae.plots.training_figures import Rows, mark_phases

PREFIX, BIAS = "information.", "information_bias."
LIMIT, TOTAL, OVER = (PREFIX + name for name in ("limit", "total", "over"))


def has_information(rows: Rows) -> bool:
    """Whether the information flow was measured in some of a run's metric rows."""
    return any(LIMIT in row for row in rows)


def plot_information_flow(rows: Rows, title: str) -> Figure:
    """Figure 5 of pro-VLAE over all steps instead of at the end of each progressive one; nats.

    The upper panel has a line for each layer, for their total, for what several layers know at once (I_over), and for log N,
    the limit of each layer and of the total. The shade above an information is as high as its bias. The lower panel stacks the
    layers, so that the stack rises above the total by I_over. Dotted lines mark where a layer enters or another stage begins.

    Arguments:
        rows: metric rows of a run with step, stage, at times `InformationFlow`'s, and `layers` where they enter one by one.

    Raises:
        DataError: when no row holds information.
    """
    measured = [row for row in rows if LIMIT in row]
    if not measured:
        raise DataError("these metric rows hold no information flow: it was not measured during this training.")
    keys = {key for row in measured for key in row if key.startswith(PREFIX)} - {LIMIT, TOTAL, OVER}
    sites = sort_sites(key.removeprefix(PREFIX) for key in keys)
    colours = {site: COLOURS[i % len(COLOURS)] for i, site in enumerate(sites)}
    figure = new_figure(9, 6.4, title)
    upper, lower = figure.subplots(2, 1, sharex=True)
    _draw_lines(upper, measured, colours)
    _draw_stack(lower, measured, colours)
    for axis in (upper, lower):
        axis.set(ylabel="nats", ylim=(min(0.0, axis.get_ylim()[0]), None))
        axis.margins(x=0.02)
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    mark_phases((upper, lower), rows, sites)
    lower.set_xlabel("step")
    return figure


def _series(rows: Rows, key: str) -> tuple[list[int], list[float]]:
    """Steps and values of the rows that have a key."""
    having = [row for row in rows if key in row]
    return [row["step"] for row in having], [row[key] for row in having]


def _draw_lines(axis: Axes, rows: Rows, colours: dict[str, str]) -> None:
    style = {"marker": ".", "markersize": 3, "linewidth": 1.2}
    for site, colour in reversed(colours.items()):
        axis.plot(*_series(rows, PREFIX + site), color=colour, label=f"I(x; {site})", **style)
        _shade_bias(axis, rows, site, colour)
    if has_total := any(TOTAL in row for row in rows):
        axis.plot(*_series(rows, TOTAL), color="black", label="I(x; z), the total", **style)
        _shade_bias(axis, rows, "total", "black")
    if any(OVER in row for row in rows):
        axis.plot(*_series(rows, OVER), color=GREY, linestyle="--", label=r"$I_\mathrm{over}$", **style)
    limit = rows[-1][LIMIT]
    axis.axhline(limit, color="black", linestyle=":", linewidth=1, label=f"log N = {limit:.2f}, the most\nthat N data can show")
    what = "layer and of all together" if has_total else "layer (an upper bound where it depends on other layers)"
    axis.set_title(f"information about x of each {what}", fontsize=10)


def _shade_bias(axis: Axes, rows: Rows, name: str, colour: str) -> None:
    having = [row for row in rows if BIAS + name in row]
    low = [row[PREFIX + name] for row in having]
    high = [row[PREFIX + name] + row[BIAS + name] for row in having]
    axis.fill_between([row["step"] for row in having], low, high, color=colour, alpha=0.15, linewidth=0)


def _draw_stack(axis: Axes, rows: Rows, colours: dict[str, str]) -> None:
    """The layers on top of each other, stage by stage. The top layer lies lowest, since it knows something first."""
    for number, (_, group) in enumerate(groupby(rows, lambda row: row["stage"])):
        stage = list(group)
        values = [[row.get(PREFIX + site, 0.0) for row in stage] for site in reversed(colours)]
        labels = [f"I(x; {site})" for site in reversed(colours)] if number == 0 else ()
        axis.stackplot([row["step"] for row in stage], values, colors=[*reversed(colours.values())], alpha=0.6, labels=labels)
    title = "the layers stacked"
    if any(TOTAL in row for row in rows):
        axis.plot(*_series(rows, TOTAL), color="black", linewidth=1.2, label="I(x; z), the total")
        title += r"; what rises above the total is $I_\mathrm{over}$"
        if any(TOTAL in row and OVER not in row for row in rows):
            title += ", and bias where the total is near log N"
    axis.set_title(title, fontsize=10)
