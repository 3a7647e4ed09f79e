"""Pictures of the stacked hierarchies: chain samples beside ancestral ones, and what the noise of each layer does."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from pyro_hvae.experiments import OpenRun
from pyro_hvae.figures import figure_titled, run_name, show
from pyro_hvae.layers import LayerShare
from pyro_hvae.sampling import GibbsReport, of_proposition

__all__ = ["chain_trails", "gibbs_beside_ancestral", "layer_panels"]

SIDE = 8


def _grid(place: SubFigure, images: Tensor, title: str) -> None:
    """Up to 8 x 8 images."""
    place.suptitle(title, fontsize=9)
    rows = max(1, int(np.ceil(len(images) / SIDE)))
    for i, axis in enumerate(place.subplots(rows, SIDE, squeeze=False).ravel()):
        if i < len(images):
            show(axis, images[i])
        else:
            axis.axis("off")


def gibbs_beside_ancestral(run: OpenRun, report: GibbsReport) -> Figure:
    """Figure 2 of Zhao et al. 2017: E[x | z] of 64 chains' last states beside 64 ancestral samples."""
    values, kept = report.values, ", ".join(report.chains.sites)
    figure = figure_titled(11, 6.1, f"Samples of {run_name(run)}")
    left, right = np.asarray(figure.subfigures(1, 2))

    def distance(name: str) -> str:
        d = values["distance"][name]["means"]
        return f"energy distance to test data {d['value']:.3f} $\\pm$ {d['stderr']:.3f}"

    count = SIDE * SIDE
    corrected = f", guide resampled among {values['particles']}" if values["particles"] > 1 else ""
    title = f"Gibbs chains on {kept}{of_proposition(values)}, step {values['steps']}{corrected}"
    _grid(left, report.chains.mean[-1][:count].cpu(), f"{title}\n{distance('gibbs')}")
    _grid(right, report.ancestral[:count], f"Ancestral sampling of all layers\n{distance('ancestral')}")
    return figure


def chain_trails(run: OpenRun, report: GibbsReport) -> Figure:
    """E[x | z] of the first chains as they go: one row a chain, one column a step."""
    trail, steps = report.chains.trail.cpu(), report.chains.trail_steps
    title = f"Gibbs chains on {', '.join(report.chains.sites)}: {run_name(run)}"
    figure = figure_titled(0.75 * len(steps) + 0.6, 0.75 * trail.shape[1] + 0.9, title)
    axes = figure.subplots(trail.shape[1], len(steps), squeeze=False)
    for chain in range(trail.shape[1]):
        for column, step in enumerate(steps):
            show(axes[chain, column], trail[column, chain])
            if chain == 0:
                axes[chain, column].set_title(f"step {step}" if step else "start", fontsize=7)
        axes[chain, 0].set_ylabel(f"chain {chain + 1}", fontsize=7)
    return figure


def layer_panels(
    run: OpenRun, images: Mapping[str, Tensor], shares: Mapping[str, LayerShare], about: str = "a draw of the others fixed"
) -> Figure:
    """Figure 3 of Zhao et al. 2017: a panel a layer, from the bottom up, as that layer's noise is sampled."""
    sites = sorted(images)
    figure = figure_titled(4.4 * len(sites), 5.2, f"Noise of one layer sampled, {about}: {run_name(run)}")
    places = np.atleast_1d(np.asarray(figure.subfigures(1, len(sites))))
    for place, site in zip(places, sites, strict=True):
        share = f"{shares[site].share:.3f} $\\pm$ {shares[site].stderr:.3f}"
        _grid(place, images[site], f"noise of {site}\nshare of the variance of E[x|z]: {share}")
    return figure
