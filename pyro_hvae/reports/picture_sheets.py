"""Many small pictures in one image file, from which a page cuts them: images, or vectors as rows of grey levels."""

import base64
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from pyro_hvae.plots import mark_missing

SMALL = 32 * 32  # pixels of a picture in which the noise of JPEG would be seen
LONGEST = 256  # pixels in a line of a vector's picture; a longer vector takes several


@dataclass(frozen=True, eq=False)
class Tile:
    """How data become small pictures.

    Attributes:
        low, high: ranges of the columns of vectors (d,), which the levels 1 to 255 divide; level 0 is a missing entry. None for
            images, whose levels 0 to 255 are the values from 0 to 1.

    >>> import torch
    >>> x = torch.tensor([[0.0, 5.0], [2.0, torch.nan]])
    >>> Tile.measure([x]).pixels(x).tolist()
    [[[1, 1]], [[255, 0]]]
    """

    low: np.ndarray | None = None
    high: np.ndarray | None = None

    @classmethod
    def measure(cls, groups: Iterable[Tensor], shared: bool = False) -> "Tile":
        """The tile of images (n, channels, height, width), or of vectors (n, d) with the range of all of them.

        Arguments:
            shared: all columns have the range of all.
        """
        groups = [x.detach().cpu().double() for x in groups if len(x)]
        if groups[0].dim() != 2:
            return cls()
        values = np.concatenate([x.numpy() for x in groups])
        known = np.isfinite(values)
        low, high = np.where(known, values, np.inf).min(0), np.where(known, values, -np.inf).max(0)
        low, high = np.where(low <= high, low, 0.0), np.where(low <= high, high, 0.0)
        if shared:
            low, high = np.full_like(low, low.min()), np.full_like(high, high.max())
        return cls(low, high)

    def pixels(self, x: Tensor) -> np.ndarray:
        """Pictures of data, (n, height, width[, 3]), bytes. Channels that are no colours lie side by side."""
        if self.low is not None and self.high is not None:
            values = x.detach().cpu().double().numpy()
            span = np.where(self.high > self.low, self.high - self.low, 1.0)
            levels = np.where(np.isfinite(values), 1 + 254 * (values - self.low) / span, 0)
            width = min(values.shape[1], LONGEST)
            height = -(-values.shape[1] // width)
            levels = np.pad(levels, ((0, 0), (0, width * height - values.shape[1]))).reshape(len(values), height, width)
            return levels.round().astype(np.uint8)
        images = mark_missing(x.detach().float().cpu())[0]
        if images.shape[1] not in (1, 3):
            images = images.movedim(1, 2).flatten(2)[:, None].nan_to_num(1.0)
        levels = (255 * images.clamp(0, 1)).round().byte().numpy()
        return levels.transpose(0, 2, 3, 1) if levels.shape[1] == 3 else levels[:, 0]


def draw_sheet(pixels: np.ndarray, exact: bool = True) -> dict[str, Any]:
    """One image of many pictures, row by row, as a data address.

    Arguments:
        pixels: of n pictures, as `Tile.pixels` has them. exact: PNG; else large pictures may be JPEG, if that is shorter.

    Returns:
        `src`, `columns`, `count`, `width` and `height` of a picture.
    """
    count, height, width = pixels.shape[:3]
    columns = max(1, math.ceil(math.sqrt(count * height / width)))
    rows = -(-count // columns)
    blank = np.zeros((rows * columns - count, *pixels.shape[1:]), np.uint8)
    grid = np.concatenate([pixels, blank]).reshape(rows, columns, *pixels.shape[1:]).swapaxes(1, 2)
    image = Image.fromarray(grid.reshape(rows * height, columns * width, *pixels.shape[3:]))
    content, kind = _save(image, "png", optimize=True), "png"
    if not exact and height * width > SMALL and len(smaller := _save(image, "jpeg", quality=85, subsampling=0)) < len(content):
        content, kind = smaller, "jpeg"
    return {"src": data_address(content, kind), "columns": columns, "count": count, "width": width, "height": height}


def data_address(content: bytes, kind: str) -> str:
    """The content of a picture as an address that needs no file."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _save(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture_bytes(pixels: np.ndarray, exact: bool = True) -> float:
    """The bytes of one picture in a sheet of these."""
    return len(draw_sheet(pixels, exact)["src"]) / len(pixels)
