"""Grids of many images, each drawn as one array: samples of a model, and contact sheets."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional

from pyro_hvae.inference import generate
from pyro_hvae.plots.figure_base import new_figure, run_name
from pyro_hvae.plots.vector_scale import VectorScale, find_scale
from pyro_hvae.runs import OpenRun, describe_given, draw_given
from pyro_hvae.runtime import fixed_seed

MISSING = (0.90, 0.62, 0.0)  # colour of missing entries of images: orange
STRIP, WIDTH = 12, 48  # height and least width in pixels of the strip that shows a vector
LABELLED = 300  # rows with a number each on a sheet, whose height has a limit


def plot_samples(run: OpenRun, count: int = 64, seed: int = 0, given: Mapping[str, Tensor] | None = None) -> Figure:
    """E[x | z] of ancestral samples of the whole prior, in a grid.

    Arguments:
        given: encoded conditions, one row each; others are those of random training data.
    """
    with fixed_seed(seed):
        images = generate(run.model, count, given=draw_given(run, count, given))["x"].cpu()
    images, about = run.images(images), describe_given(run, given)
    title = f"Samples E[x|z] of {run_name(run)}" + (f"\n{about}" if about else "")
    return plot_image_sheet(images, title, find_scale(run, images))


def plot_image_sheet(
    images: Tensor, title: str, scale: VectorScale | None = None, numbers: Sequence[int] | None = None, of: str = ""
) -> Figure:
    """Images (n, channels, height, width) in a grid that is nearly square, or vectors (n, d) one below the other.

    Arguments:
        numbers, of: of vectors: the number of each row, and what it counts; default their places on the sheet.
    """
    images, missing = mark_missing(images)
    title += f"\n{missing}" if missing else ""
    if images.dim() == 2:
        figure = new_figure(min(14, max(6.0, 0.3 * images.shape[1] + 3)), strips_height(len(images), scale), title)
        axis, step = figure.subplots(), -(-len(images) // LABELLED)
        beside = [str(number) if i % step == 0 else "" for i, number in enumerate(numbers)] if numbers else None
        draw_image_grid(axis, images, 1, beside=beside, scale=scale)
        axis.set_ylabel(of, fontsize=8)
        return figure
    columns = math.ceil(math.sqrt(len(images)))
    side = max(4.5, columns * 0.7)
    figure = new_figure(side, side * math.ceil(len(images) / columns) / columns + 0.6, title)
    draw_image_grid(figure.subplots(), images, columns)
    return figure


def mark_missing(images: Tensor) -> tuple[Tensor, str]:
    """Images with their missing entries, NaN, in the colour that they are drawn in, and a line that says which; "" for none."""
    if not images.isnan().any():
        return images, ""
    if images.dim() == 4 and images.shape[1] in (1, 3):
        return colour_missing(images), "orange: missing"
    return images, "white: missing"


def strips_height(count: int, scale: VectorScale | None) -> float:
    """Inches for vectors one below the other: thinner strips would lose some of the white lines between them."""
    names = max(map(len, scale.labels)) if scale else 0  # turned, below the strips
    return min(40, max(4.0, 0.11 * count + 1.5) + 0.07 * names)


def add_blanks(images: Tensor, count: int) -> Tensor:
    """Appends images of NaN, which are drawn white, up to a number of images."""
    return torch.cat([images, images.new_full((count - len(images), *images.shape[1:]), torch.nan)])


def colour_missing(images: Tensor) -> Tensor:
    """Images of one or three channels in colour, with orange in the place of NaN.

    >>> colour_missing(torch.tensor([0.5, torch.nan]).reshape(1, 1, 1, 2))[0, 0].tolist()
    [[0.5, 0.8999999761581421]]
    """
    missing = images.isnan().any(1, keepdim=True)
    colour = images.new_tensor(MISSING).reshape(1, 3, 1, 1)
    return images.expand(-1, 3, -1, -1).where(~missing, colour)


def tile_images(images: Tensor, columns: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Puts images (n, channels, h, w) row by row into one array, with gaps of NaN between them.

    Vectors (n, d) become strips, whose columns are so many pixels wide that a strip has at least 48; gaps between strips in a
    row grow by a fiftieth of their width, as a line of one pixel is lost among many columns. Channels that are neither grey nor
    colours lie side by side.

    Returns:
        The array (height, width), or (height, width, 3) for colour; and the distance from image to image (down, across).

    >>> tile_images(torch.ones(5, 1, 8, 8), columns=3)[0].shape
    (17, 26)
    """
    from torchvision.utils import make_grid  # takes a second

    pixels, wider = images.detach().float().cpu(), 0
    if pixels.dim() == 2:
        pixels = pixels.repeat_interleave(_column_width(pixels), 1)[:, None, None].expand(-1, 1, STRIP, -1)
        wider = pixels.shape[-1] // 50 if columns > 1 else 0
        pixels = functional.pad(pixels, (0, wider), value=torch.nan)
    elif pixels.shape[1] not in (1, 3):
        pixels = pixels.movedim(1, 2).flatten(2)[:, None]
    rows, (channels, height, width) = -(-len(pixels) // columns), pixels.shape[1:]
    gap = max(1, height // 14)
    down, across = height + gap, width + gap
    # One more row, since make_grid draws no frame around a single image. Grey images get three equal channels.
    grid = make_grid(add_blanks(pixels, (rows + 1) * columns), columns, gap, pad_value=torch.nan)
    grid = grid[:, gap : rows * down, gap : columns * across - wider].numpy()
    return (grid.transpose(1, 2, 0) if channels == 3 else grid[0]), (down, across)


def _column_width(vectors: Tensor) -> int:
    return -(-WIDTH // vectors.shape[1])


def draw_image_grid(
    axis: Axes,
    images: Tensor,
    columns: int,
    above: Sequence[str] | None = None,
    beside: Sequence[str] | None = None,
    scale: VectorScale | None = None,
) -> tuple[int, int]:
    """Draws images in [0, 1] from black to white (or in colour), vectors in the colours of their scale, with a colour bar.

    Arguments:
        columns: of the grid; vectors in a single one have an axis of the columns' names.
        above, beside: labels of the columns and of the rows.
        scale: of vectors; default their own.

    Returns:
        The distance from image to image across and down, in units of the axes.
    """
    vectors = images.dim() == 2
    if vectors:
        scale = scale or VectorScale.measure(images[~images.isnan().any(1)])
        images = scale.values(images)
    grid, (down, across) = tile_images(images, columns)
    style: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 1}
    if scale and vectors:
        (low, high), cmap = scale.limits, scale.colours
        style = {"cmap": cmap, "vmin": low, "vmax": high, "aspect": "auto"}
    grid = np.nan_to_num(grid.clip(0, 1), nan=1.0) if grid.ndim == 3 else grid
    image = axis.imshow(grid, **style, interpolation="nearest")
    axis.set_frame_on(False)
    axis.tick_params(length=0, labelsize=7, labeltop=True, labelbottom=False)
    rows = -(-len(images) // columns)
    if vectors and beside is None and columns == 1:
        beside = [str(i) if i % max(1, rows // 20) == 0 else "" for i in range(rows)]
    axis.set_xticks([i * across + (across - 1) / 2 for i in range(columns)] if above else [], above or [])
    axis.set_yticks([i * down + (down - 1) / 2 for i in range(rows)] if beside else [], beside or [])
    if scale and vectors:
        scale.draw_bar(axis, image, strips=columns > 1)
        if columns == 1:
            scale.label_columns(axis, _column_width(images))
    return across, down
