"""Crops of textures, and textured triangles on a ground of their mean colour, which pixel errors hardly detect (Sahoo)."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.data.dataset import Dataset, Split
from pyro_hvae.data.generated.texture_sources import SIDE, choose_textures
from pyro_hvae.data.option_checks import check_seed, check_size
from pyro_hvae.errors import ConfigError

FRAME = 64  # pixels
RADIUS = math.sqrt(4 / (3 * math.sqrt(3)))  # of the circle round a regular triangle of area 1: 0.877
HELD_OUT = (1_000, 2_000)  # triangles for validation and test
CROPS_HELD_OUT = (2_000, 2_000)  # crops per texture for validation and test


def coverage(x: np.ndarray, y: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Share of each pixel that a triangle covers, shape (n, 64, 64), from 0 to 1: soft edges, sub-pixel positions.

    The triangle is regular with one vertex up and has the area scale^2; the frame has the area 1. In each row of pixels it is
    replaced by an upright rectangle as wide as the triangle at mid-height of their common strip. So the sum over pixels is
    the exact area, and a single pixel at a slanted edge is at most 0.15 off.

    Arguments:
        x, y: centroids, shape (n,), in units of the frame from its lower left corner, y upwards. Parts beyond the frame are cut
            off.
        scale: square roots of the areas, shape (n,).
    """
    across, up, radius = (FRAME * np.asarray(v, np.float64).reshape(-1, 1, 1) for v in (x, y, RADIUS * np.asarray(scale)))
    floor, left = np.arange(FRAME)[::-1, None], np.arange(FRAME)
    low, high = (np.clip(edge, up - radius / 2, up + radius) for edge in (floor, floor + 1))
    half = (up + radius - (low + high) / 2) / math.sqrt(3)
    return (high - low) * (np.clip(across + half, left, left + 1) - np.clip(across - half, left, left + 1))


def draw_triangles(fill: np.ndarray, x: np.ndarray, y: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Textured triangles on a ground of their mean colour: bytes (n, 3, 64, 64).

    With the `coverage` a, the texture t and the mean colour m = sum(a t) / sum(a) of the visible part of the triangle, a pixel
    is a t + (1 - a) m, rounded. So the whole image has the mean colour m, up to fractions of a grey level, which says little
    about place or size: the part of a texture in a smaller triangle is only less typical of the whole.

    Arguments:
        fill: the frame filled with texture, bytes (n, 3, 64, 64), or (1, 3, 64, 64) for all triangles.
        x, y, scale: as in `coverage`, shape (n,); some of each triangle has to be in the frame.

    >>> grey = np.full((1, 3, 64, 64), 128, dtype=np.uint8)
    >>> np.unique(draw_triangles(grey, [0.5], [0.4], [0.3]))
    array([128], dtype=uint8)
    """
    share = coverage(x, y, scale)
    sums = np.einsum("nchw,nhw->nc", fill, share, optimize=True)
    mean = (sums / share.sum((1, 2))[:, None])[..., None, None]
    return np.rint(mean + share[:, None] * (fill - mean)).astype(np.uint8)


def triangles(
    size: int = 10_000,
    data_seed: int = 0,
    textures: Path | None = None,
    names: tuple[str, ...] = (),
    count: int = 3,
    positions: tuple[float, ...] = (0.2, 0.8),
    scales: tuple[float, ...] = (0.25, 0.6),
    shifted: bool = False,
) -> Dataset:
    """Textured triangles, 64 x 64 in colour: 10,000 for training, others for validation (1,000) and test (2,000).

    Each triangle has a random texture, whose central 64 x 64 pixels fill the frame before the triangle is cut out, a centroid
    uniform in a square and a size uniform in a range; see `draw_triangles`. The factors, as labelled in the paper, are "x"
    and "y" in [0, 64] pixels, y upwards, "scale" in [0, 100] per cent (100 times the square root of the area's share of the
    frame), and "texture", the position among those chosen.

    The paper says that masks are multiplied by a texture: all triangles of a texture are windows onto the same picture, so
    their position determines their content. With `shifted=true` every image has its own crop of the texture, and the content
    cannot be predicted.

    The paper gives neither the ranges nor the numbers of images; these are ours. Its masks came from Spriteworld, whose
    triangles are the same: regular, one vertex up, area scale^2. Parts beyond the frame are cut off. At the default ranges that
    happens to 55 % of the triangles and takes 2.7 % of the area on average; with, for example,
    `positions=(0.25, 0.7), scales=(0.15, 0.3)` all are whole.

    Arguments:
        size: number of training images.
        data_seed: seed of all three splits.
        textures, names, count: see `choose_textures` (`textures` is its source). Images need at least 64 x 64 pixels.
        positions: lowest and highest x and y of the centroid, in units of the frame.
        scales: smallest and largest scale.
        shifted: every image has a random 64 x 64 crop of its texture instead of the central one.

    Raises:
        ConfigError: for a size below one, a negative seed, an invalid range, or an argument that `choose_textures` refuses.
        DataError: as `choose_textures` does.

    >>> triangles(size=8, names=("faint",)).train.x.shape
    torch.Size([8, 3, 64, 64])
    """
    check_size(size, 3 * FRAME * FRAME)
    check_seed(data_seed)
    for key, limits, least in (("positions", positions, 0), ("scales", scales, 0.01)):
        if len(limits) != 2 or not least <= limits[0] <= limits[1] <= 1:
            given = ", ".join(map(str, limits)) or "none"
            raise ConfigError(f"{key} needs a lowest and a highest value between {least} and 1, got {given}.")
    chosen = choose_textures(str(textures or ""), names, count, FRAME)
    views = _view_crops(chosen, FRAME)

    def split(number: int, size: int) -> Split:
        rng = np.random.default_rng([data_seed, number])
        which = rng.integers(len(views), size=size)
        x, y = rng.uniform(positions[0], positions[1], (2, size))
        scale = rng.uniform(scales[0], scales[1], size)
        corner = rng.integers(SIDE - FRAME + 1, size=(2, size)) if shifted else np.full((2, size), (SIDE - FRAME) // 2)
        images = np.empty((size, 3, FRAME, FRAME), dtype=np.uint8)
        for part in np.array_split(np.arange(size), -(-size // 16)):  # few at a time: twice as fast, with little memory
            images[part] = draw_triangles(views[which[part], *corner[:, part]], x[part], y[part], scale[part])
        labels = {"x": FRAME * x, "y": FRAME * y, "scale": 100 * scale, "texture": which}
        return Split(torch.from_numpy(images), {key: torch.from_numpy(value) for key, value in labels.items()})

    splits = map(split, range(3), (size, *HELD_OUT))
    counts, labels = {"textures": len(chosen)}, {"texture": [*chosen]}
    note = f"Textures: {', '.join(chosen)}. Triangles may reach beyond the frame."
    crops = partial(_draw_crops, chosen, data_seed=data_seed)
    return Dataset("triangles", *splits, counts=counts, note=note, labels=labels, crops=crops)


def textures(
    crop: int = 7,
    size: int = 20_000,
    data_seed: int = 0,
    textures: Path | None = None,
    names: tuple[str, ...] = (),
    count: int = 3,
) -> Dataset:
    """Random crops of textures in colour, 7 x 7: of each texture 20,000 for training, 2,000 for validation, 2,000 for test.

    Crops of all textures alternate. The factor "texture" is the position among those chosen. The paper gives no numbers of
    crops; these are ours. All three splits are of the same textures: a texture of 80 x 80 has only 5,476 crops of 7 x 7, so
    held-out crops overlap with training crops or equal them. They measure the fit, not generalisation to new textures.

    Arguments:
        crop: width and height in pixels, up to 80.
        size: number of training crops per texture.
        data_seed: of all splits.
        textures, names, count: see `choose_textures` (`textures` is its source). Images need at least crop x crop pixels.

    Raises:
        ConfigError: for a crop, size or seed out of range, or an argument that `choose_textures` refuses.
        DataError: as `choose_textures` does.

    >>> textures(size=10).train.x.shape
    torch.Size([30, 3, 7, 7])
    """
    check_size(size, 3 * SIDE * SIDE)
    check_seed(data_seed)
    if not 1 <= crop <= SIDE:
        raise ConfigError(f"crop is a width from 1 to {SIDE} pixels, as textures are {SIDE} x {SIDE}; got {crop}.")
    return _draw_crops(choose_textures(str(textures or ""), names, count, crop), crop, size, data_seed)


def _draw_crops(chosen: dict[str, np.ndarray], crop: int, size: int = 20_000, data_seed: int = 0) -> Dataset:
    views = _view_crops(chosen, crop)

    def split(number: int, size: int) -> Split:
        which = np.arange(size * len(views)) % len(views)
        corner = np.random.default_rng([data_seed, number]).integers(SIDE - crop + 1, size=(2, len(which)))
        return Split(torch.from_numpy(views[which, *corner]), {"texture": torch.from_numpy(which)})

    splits = map(split, range(3), (size, *CROPS_HELD_OUT))
    note = f"Textures: {', '.join(chosen)}. All splits are crops of the same textures, so their positions overlap and repeat."
    return Dataset("textures", *splits, counts={"textures": len(chosen)}, note=note, labels={"texture": [*chosen]})


def cut_crops(images: Tensor, side: int, size: int = 60_000, held_out: int = 6_000, data_seed: int = 0) -> Dataset:
    """Random squares of images whose textures are unknown.

    Arguments:
        images: (n, channels, height, width). All splits are of the same images.
        side: of a square, in pixels.
        size, held_out: numbers of squares for training, and for validation and test each.

    Raises:
        ConfigError: for images that are smaller than a square.

    >>> cut_crops(torch.rand(4, 1, 9, 9), side=7, size=10, held_out=2).train.x.shape
    torch.Size([10, 1, 7, 7])
    """
    height, width = images.shape[-2:]
    if min(height, width) < side:
        raise ConfigError(f"squares of {side} x {side} do not fit into images of {height} x {width}. Use a smaller -o patch.")
    views = images.unfold(2, side, 1).unfold(3, side, 1)  # (n, channels, rows, columns, side, side), no copy

    def split(number: int, size: int) -> Split:
        rng = np.random.default_rng([data_seed, number])
        which, row, column = (torch.from_numpy(rng.integers(n, size=size)) for n in (len(views), *views.shape[2:4]))
        return Split(views[which, :, row, column])

    train, validation, test = map(split, range(3), (size, held_out, held_out))
    return Dataset("crops", train, validation, test, note="Squares of the images: all splits are of the same ones.")


def _view_crops(chosen: dict[str, np.ndarray], crop: int) -> np.ndarray:
    """A view of all crops of the textures: (textures, rows, columns, 3, crop, crop)."""
    return np.lib.stride_tricks.sliding_window_view(np.stack([*chosen.values()]), (crop, crop), (1, 2))
