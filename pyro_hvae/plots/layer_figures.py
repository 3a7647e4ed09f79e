"""Figures of the layers of a hierarchy: how x changes with the noise of one layer."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from pyro_hvae.inference import LayerShare
from pyro_hvae.plots.figure_base import new_figure, run_name
from pyro_hvae.plots.image_grid import draw_image_grid, strips_height
from pyro_hvae.plots.vector_scale import find_scale
from pyro_hvae.runs import OpenRun


def draw_image_panel(panel: SubFigure, run: OpenRun, x: Tensor, title: str) -> None:
    """Draws data of a run in rows of eight, vectors one below the other."""
    panel.suptitle(title, fontsize=9)
    images = run.images(x)
    draw_image_grid(panel.subplots(), images, min(8, len(x)) if images.dim() > 2 else 1, scale=find_scale(run, images))


def plot_layer_samples(
    run: OpenRun, images: Mapping[str, Tensor], shares: Mapping[str, LayerShare], about: str = "a draw of the others fixed"
) -> Figure:
    """Figure 3 of Zhao et al. 2017: a panel for each layer, from the bottom up, with samples of the noise of that layer.

    `shares` are averages over all draws of the other layers' noise, not of the one shown; none where they are not estimable.
    """
    sites = sorted(images)
    shown = run.images(images[sites[0]])
    height = 1.2 + strips_height(len(shown), find_scale(run, shown)) if shown.dim() == 2 else 5.2
    figure = new_figure(4.4 * len(sites), height, f"Noise of one layer sampled, {about}\n{run_name(run)}")
    panels = np.atleast_1d(np.asarray(figure.subfigures(1, len(sites))))
    for panel, site in zip(panels, sites, strict=True):
        share = f"{shares[site].share:.3f} $\\pm$ {shares[site].stderr:.3f}" if shares else "not estimable"
        title = f"noise of {site}\nshare of the variance of E[x|z] on average: {share}"
        draw_image_panel(panel, run, images[site], title)
    return figure


def plot_layer_grids(run: OpenRun, images: Mapping[str, Tensor], reach: float, about: str) -> Figure:
    """Figure 5 of Zhao et al. 2017: a panel for each layer, with the two dimensions of its noise on a grid.

    Arguments:
        images: site -> (cells * cells, *event), as `layer_grid` gives them, in the order of the panels.
        reach: the largest value of the noise. about: what the other layers do.
    """
    figure = new_figure(5.6 * len(images), 6.3, f"Noise of one layer on a grid, {about}\n{run_name(run)}")
    labels = [f"{value:.3g}" for value in np.linspace(-reach, reach, 5)]
    for axis, (site, x) in zip(figure.subplots(1, len(images), squeeze=False)[0], images.items(), strict=True):
        cells = math.isqrt(len(x))
        shown = run.images(x)
        across, down = draw_image_grid(axis, shown, cells, scale=find_scale(run, shown))
        ticks = np.linspace(0, cells - 1, 5)
        axis.set_xticks(ticks * across + (across - 1) / 2, labels)
        axis.set_yticks(ticks[::-1] * down + (down - 1) / 2, labels)
        axis.tick_params(length=3, labelsize=8, labeltop=False, labelbottom=True)
        axis.set(title=site, xlabel=f"noise of {site}[0]", ylabel=f"noise of {site}[1]")
    return figure
