"""Pictures of the hierarchies: chain samples beside ancestral ones, and what the noise of each layer does."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from pyro_hvae.evaluation.gibbs_evaluation import GibbsReport, proposition_note
from pyro_hvae.inference.layer_effects import LayerShare
from pyro_hvae.plots.figures import figure_titled, run_name
from pyro_hvae.plots.image_grid import tiles
from pyro_hvae.runs.run_loading import OpenRun

__all__ = ["chain_trails", "gibbs_beside_ancestral", "grid_panels", "layer_panels"]

SIDE = 8


def _grid(run: OpenRun, place: SubFigure, x: Tensor, title: str) -> None:
    """Data in rows of eight."""
    place.suptitle(title, fontsize=9)
    tiles(place.subplots(), run.images(x), min(SIDE, len(x)))


def gibbs_beside_ancestral(run: OpenRun, report: GibbsReport) -> Figure:
    """Figure 2 of Zhao et al. 2017: E[x | z] of 64 chains' last states beside 64 ancestral samples."""
    values, kept = report.values, ", ".join(report.chains.sites)
    figure = figure_titled(11, 6.1, f"Samples of {run_name(run)}")
    left, right = np.asarray(figure.subfigures(1, 2))

    def distance(name: str) -> str:
        d = values["distance"][name]["means"]
        return f"energy distance of E[x|z], as shown, to test data {d['value']:.3f} $\\pm$ {d['stderr']:.3f}"

    count = SIDE * SIDE
    corrected = f", guide resampled among {values['particles']}" if values["particles"] > 1 else ""
    title = f"Gibbs chains on {kept}{proposition_note(values)}, step {values['steps']}{corrected}"
    _grid(run, left, report.chains.mean[-1][:count].cpu(), f"{title}\n{distance('gibbs')}")
    _grid(run, right, report.ancestral[:count], f"Ancestral sampling of all layers\n{distance('ancestral')}")
    return figure


def chain_trails(run: OpenRun, report: GibbsReport) -> Figure:
    """E[x | z] of the first chains as they go: one row a chain, one column a step."""
    trail, steps = report.chains.trail.cpu(), report.chains.trail_steps
    title = f"E[x|z] along Gibbs chains on {', '.join(report.chains.sites)}\n{run_name(run)}"
    figure = figure_titled(0.75 * len(steps) + 0.6, 0.75 * trail.shape[1] + 1.1, title)
    above, beside = [f"step {s}" if s else "start" for s in steps], [f"chain {i + 1}" for i in range(trail.shape[1])]
    tiles(figure.subplots(), run.images(trail.transpose(0, 1).flatten(0, 1)), len(steps), above, beside)
    return figure


def layer_panels(
    run: OpenRun, images: Mapping[str, Tensor], shares: Mapping[str, LayerShare], about: str = "a draw of the others fixed"
) -> Figure:
    """Figure 3 of Zhao et al. 2017: a panel a layer, from the bottom up, as that layer's noise is sampled.

    `shares` are averages over all draws of the other layers' noise, not of the one shown.
    """
    sites = sorted(images)
    figure = figure_titled(4.4 * len(sites), 5.2, f"Noise of one layer sampled, {about}\n{run_name(run)}")
    places = np.atleast_1d(np.asarray(figure.subfigures(1, len(sites))))
    for place, site in zip(places, sites, strict=True):
        share = f"{shares[site].share:.3f} $\\pm$ {shares[site].stderr:.3f}"
        _grid(run, place, images[site], f"noise of {site}\nshare of the variance of E[x|z] on average: {share}")
    return figure


def grid_panels(run: OpenRun, images: Mapping[str, Tensor], reach: float, about: str) -> Figure:
    """Figure 5 of Zhao et al. 2017: a panel a layer, as its two dimensions go over a grid.

    Arguments:
        images: site -> (cells * cells, *event), as `layer_grid` gives them, in the order to show them.
        reach: the largest value of the noise. about: what the other layers do.
    """
    figure = figure_titled(5.6 * len(images), 6.3, f"Noise of one layer on a grid, {about}\n{run_name(run)}")
    marks = np.linspace(-reach, reach, 5)
    for axis, (site, x) in zip(figure.subplots(1, len(images), squeeze=False)[0], images.items(), strict=True):
        cells = math.isqrt(len(x))
        across, down = tiles(axis, run.images(x), cells)
        steps, labels = np.linspace(0, cells - 1, 5), [f"{mark:.3g}" for mark in marks]
        axis.set_xticks(steps * across + (across - 1) / 2, labels)
        axis.set_yticks(steps[::-1] * down + (down - 1) / 2, labels)
        axis.tick_params(length=3, labelsize=8, labeltop=False, labelbottom=True)
        axis.set(title=site, xlabel=f"noise of {site}[0]", ylabel=f"noise of {site}[1]")
    return figure
