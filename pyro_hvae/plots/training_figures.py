"""Figures of a training run: its curves over the steps, with marks where stages and layers begin."""

from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter, SymmetricalLogLocator

from pyro_hvae.plots.figure_base import BLUE, COLOURS, GREEN, GREY, ORANGE, new_figure, run_name, sort_sites
from pyro_hvae.runs import OpenRun

Rows = Sequence[Mapping[str, Any]]


def plot_training(run: OpenRun, rows: Rows) -> dict[str, Figure]:
    """Curves by the name of their picture: one for the whole training, or one for each stage of a run on features.

    Nats per patch and nats per map of features have no common scale.
    """
    kappa, title = run.experiment.schedule_options.get("kappa"), f"Training of {run_name(run)}"
    kappa2 = kappa**2 if kappa else None
    if not run.stage.pixels:
        return {"training": plot_training_curves(rows, title, kappa2)}
    figures = {}
    for number, stage in enumerate(run.stages):
        stage_title = f"{title}\nstage {number + 1} of {len(run.stages)}: {stage.name}"
        name = "training" if stage is run.stage else f"training_{stage.name}"
        figures[name] = plot_training_curves([row for row in rows if row["stage"] == number], stage_title, kappa2)
    return figures


def plot_training_curves(rows: Rows, title: str, kappa2: float | None = None) -> Figure:
    """beta, the average of the constraint, the bound and the rates over the steps; the end of the initial phase is marked."""
    steps = [row["step"] for row in rows]
    rates = sort_sites({key for row in rows for key in row if key.startswith("rate.")})
    panels = ["beta", *(["constraint"] if "constraint" in rows[0] else []), "bound", *(["rates"] if len(rates) > 1 else [])]
    figure = new_figure(9.5, 2.2 * len(panels), title)
    axes = dict(zip(panels, figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0], strict=True))
    axes["beta"].plot(steps, [row["beta"] for row in rows], color=BLUE)
    axes["beta"].set(ylabel=r"$\beta$", title="weight of the rate")
    if axis := axes.get("constraint"):
        axis.plot(steps, [row["constraint"] for row in rows], color=BLUE, label=r"$\hat C_t$")
        if kappa2 is not None:
            axis.axhline(kappa2, color=GREEN, linestyle="--", label=rf"$\kappa^2$ = {kappa2:.3g}")
        axis.set(yscale="log", ylabel="average of C", title="reconstruction constraint")
    _draw_bound(axes["bound"], rows)
    if axis := axes.get("rates"):
        for key, colour in zip(rates, cycle(COLOURS), strict=False):
            values = [row.get(key, np.nan) for row in rows]
            axis.plot(steps, values, linewidth=0.8, color=colour, label=key.removeprefix("rate."))
        axis.set_yscale("symlog", linthresh=1)
        axis.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1, subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(ScalarFormatter())
        axis.set(ylabel="log q - log p (nats)", title="rate per site")
    axes[panels[-1]].set_xlabel("step")
    mark_phases([*axes.values()], rows, [key.removeprefix("rate.") for key in rates])
    end = next((row["step"] for row in rows if row.get("main")), None)
    for axis in axes.values():
        if end is not None and "main" in rows[0] and not rows[0]["main"]:
            axis.axvline(end, color=ORANGE, linestyle=":", label=f"initial phase ends (step {end})")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8)  # outside: it covers no curve
    if len(rows) == 1:  # a line of one point is invisible
        for line in (line for axis in axes.values() for line in axis.lines if len(np.atleast_1d(line.get_xdata())) == 1):
            line.set(marker="o", markersize=3)
    return figure


def _draw_bound(axis: Axes, rows: Rows) -> None:
    """The unweighted bound of batches and of the validation data, on the scale of its later steps."""
    axis.plot([row["step"] for row in rows], [row["elbo"] for row in rows], color=GREY, linewidth=0.8, label="batch")
    if held_out := [(row["step"], row["validation_elbo"]) for row in rows if "validation_elbo" in row]:
        axis.plot(*zip(*held_out, strict=True), color=ORANGE, marker="o", markersize=3, label="validation")
    late = [row["elbo"] for row in rows[len(rows) // 10 :]]
    late += [value for step, value in held_out if step >= rows[len(rows) // 2]["step"]]
    cut_off = min(row["elbo"] for row in rows) < min(late) - 1
    title = "unweighted bound" + (" (its start, far below, is cut off)" if cut_off else "")
    margin = max(1.0, 0.05 * (max(late) - min(late)))
    axis.set(ylabel="bound (nats)", title=title, ylim=(min(late) - margin, max(late) + margin))


def mark_phases(axes: Sequence[Axes], rows: Rows, sites: Sequence[str]) -> None:
    """Draws a dotted line in all panels where a stage begins or a layer enters, and names it above the first panel.

    Arguments:
        rows: metric rows with `step` and `stage`, and `layers` where the layers enter one by one. sites: from the bottom up.
    """
    marks = [(last["step"], f"stage {row['stage'] + 1}") for last, row in pairwise(rows) if row["stage"] != last["stage"]]
    top_down = [*reversed(sites)]
    for last, row in pairwise(row for row in rows if "layers" in row):
        entering = top_down[int(last["layers"]) : int(row["layers"])]
        if entering and row["stage"] == last["stage"]:
            marks.append((last["step"], f"{', '.join(entering)} {'enters' if len(entering) == 1 else 'enter'}"))
    marks.sort()
    axes[0].secondary_xaxis("top").set_xticks([step for step, _ in marks], [name for _, name in marks], fontsize=8)
    for axis in axes:
        for step, _ in marks:
            axis.axvline(step, color=GREY, linestyle=":", linewidth=1)
