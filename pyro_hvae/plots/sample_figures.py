"""Figures of samples of a model, and contact sheets of images."""

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from pyro_hvae.inference import generate
from pyro_hvae.plots.figure_base import new_figure, run_name
from pyro_hvae.plots.image_grid import draw_image_grid
from pyro_hvae.runs import OpenRun
from pyro_hvae.runtime import fixed_seed


def plot_samples(run: OpenRun, count: int = 64, seed: int = 0) -> Figure:
    """E[x | z] of ancestral samples of the whole prior, in a grid."""
    with fixed_seed(seed):
        images = generate(run.model, count)["x"].cpu()
    return plot_image_sheet(run.images(images), f"Samples E[x|z] of {run_name(run)}")


def plot_image_sheet(images: Tensor, title: str) -> Figure:
    """Images (n, channels, height, width), or vectors (n, d), in a grid that is nearly square."""
    columns = int(np.ceil(np.sqrt(len(images))))
    side = max(4.5, columns * 0.7)
    figure = new_figure(side, side * np.ceil(len(images) / columns) / columns + 0.6, title)
    draw_image_grid(figure.subplots(), images, columns)
    return figure
