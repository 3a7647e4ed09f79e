"""A grid of many images, drawn as one array."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

STRIP = 12  # height in pixels of the strip that shows a vector


def tile_images(images: Tensor, columns: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Puts images (n, channels, h, w) row by row into one array, with gaps of NaN between them.

    Vectors (n, d) become strips.

    Returns:
        The array (height, width), or (height, width, 3) for colour; and the distance from image to image (down, across).

    >>> import torch
    >>> tile_images(torch.ones(5, 1, 8, 8), columns=3)[0].shape
    (17, 26)
    """
    pixels = images.detach().float().cpu().numpy()
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, None, None], STRIP, 2)
    count, channels, height, width = pixels.shape
    gap, rows = max(1, height // 14), -(-count // columns)
    down, across = height + gap, width + gap
    cells = np.full((rows * columns, down, across, channels), np.nan, dtype=np.float32)
    cells[:count, :height, :width] = pixels.transpose(0, 2, 3, 1)
    grid = cells.reshape(rows, columns, down, across, channels).swapaxes(1, 2).reshape(rows * down, -1, channels)
    grid = grid[:-gap, :-gap]
    return (grid if channels == 3 else grid[..., 0]), (down, across)


def draw_image_grid(
    axis: Axes, images: Tensor, columns: int, above: Sequence[str] | None = None, beside: Sequence[str] | None = None
) -> tuple[int, int]:
    """Draws images in [0, 1] from black to white (or in colour), vectors in [-1, 1] from blue to red.

    Arguments:
        above, beside: labels of the columns and of the rows.

    Returns:
        The distance from image to image across and down, in units of the axes.
    """
    grid, (down, across) = tile_images(images, columns)
    style: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 1}
    if images.dim() == 2:
        style = {"cmap": "coolwarm", "vmin": -1, "vmax": 1, "aspect": "auto"}
    grid = np.nan_to_num(grid.clip(0, 1), nan=1.0) if grid.ndim == 3 else grid
    axis.imshow(grid, **style, interpolation="nearest")
    axis.set_frame_on(False)
    axis.tick_params(length=0, labelsize=7, labeltop=True, labelbottom=False)
    rows = -(-len(images) // columns)
    axis.set_xticks([i * across + (across - 1) / 2 for i in range(columns)] if above else [], above or [])
    axis.set_yticks([i * down + (down - 1) / 2 for i in range(rows)] if beside else [], beside or [])
    return across, down
