"""Many small images as one picture: a single array to draw, whatever their number."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

__all__ = ["mosaic", "tiles"]

STRIP = 12  # a vector is drawn as a strip of this height


def mosaic(images: Tensor, columns: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Images (n, channels, h, w) row by row in one array with gaps of NaN, and the distance from tile to tile (down, across).

    Vectors (n, d) become strips. The result has shape (height, width), or (height, width, 3) for colour.

    >>> import torch
    >>> mosaic(torch.ones(5, 1, 8, 8), columns=3)[0].shape
    (17, 26)
    """
    pixels = images.detach().float().cpu().numpy()
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, None, None], STRIP, 2)
    count, channels, height, width = pixels.shape
    gap, rows = max(1, height // 14), -(-count // columns)
    down, across = height + gap, width + gap
    canvas = np.full((rows * down - gap, columns * across - gap, channels), np.nan, dtype=np.float32)
    for i, image in enumerate(pixels):
        top, left = i // columns * down, i % columns * across
        canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return (canvas if channels == 3 else canvas[..., 0]), (down, across)


def tiles(
    axis: Axes, images: Tensor, columns: int, above: Sequence[str] | None = None, beside: Sequence[str] | None = None
) -> tuple[int, int]:
    """Draws a mosaic: images in [0, 1] from black to white (or in colour), vectors in [-1, 1] from blue to red.

    Arguments:
        above, beside: labels of the columns and of the rows.

    Returns:
        The distance from tile to tile across and down, in units of the axes.
    """
    canvas, (down, across) = mosaic(images, columns)
    look: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 1}
    if images.dim() == 2:
        look = {"cmap": "coolwarm", "vmin": -1, "vmax": 1, "aspect": "auto"}
    canvas = np.nan_to_num(canvas.clip(0, 1), nan=1.0) if canvas.ndim == 3 else canvas
    axis.imshow(canvas, **look, interpolation="nearest")
    axis.set_frame_on(False)
    axis.tick_params(length=0, labelsize=7, labeltop=True, labelbottom=False)
    rows = -(-len(images) // columns)
    axis.set_xticks([i * across + (across - 1) / 2 for i in range(columns)] if above else [], above or [])
    axis.set_yticks([i * down + (down - 1) / 2 for i in range(rows)] if beside else [], beside or [])
    return across, down
