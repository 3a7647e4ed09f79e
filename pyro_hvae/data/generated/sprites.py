"""Sprites: a replacement for dSprites (Matthey et al. 2017), which draws the same images.

The original's images were drawn by the LOVE engine, which has a graphics card fill polygons without smoothing, on a canvas of
normalised size (issue 2 of google-deepmind/dsprites-dataset). Its code and numbers are not published. We found the geometry
below from the 258 combinations of factors in the original's animation, which walks along scale and orientation of all three
shapes and around the heart's positions: ours reproduces every pixel of them. Its numbers are round and fit all these frames;
among about 950 neighbouring choices, either half of the frames leaves no other choice without an error.

The animation leaves two things open. First, the direction along an axis: we assume that it starts from the first scale,
orientation and position. If an axis runs the other way in the original, its index is reversed here and the images are the
same. Second, whether other images, such as a square away from the corner, agree as exactly; they follow the same rules.
"""

import math
from functools import cache

import numpy as np
from torch.nn.functional import avg_pool2d

from pyro_hvae.data.dataset import Dataset, FactorGrid
from pyro_hvae.data.option_checks import check_names, check_side
from pyro_hvae.data.rows import Drawn, Rows
from pyro_hvae.errors import ConfigError

SHAPES = ("square", "ellipse", "heart")
FACTORS = {"shape": 3, "scale": 6, "orientation": 40, "posX": 32, "posY": 32}
"""The factors and the number of their values, in the original's order; its colour has one value and is left out."""

SIZE = 64  # pixels
SQUARE = 0.3 * SIZE  # side of the square at full scale
SNAP = 256  # graphics cards round corners to this fraction of a pixel, which changes about one image in 25
TOGETHER = 256  # images drawn at once, so that they fit into the processor's cache

# Bits 0 to n - 1 set, for n = 0 to 64: the columns to the left of column n.
LEFT = np.array([(1 << n) - 1 for n in range(SIZE + 1)], np.uint64)


def _outline(shape: str) -> tuple[np.ndarray, np.ndarray]:
    """Corners x, y of an upright shape at full scale, in pixels to the right of and below its centre."""
    if shape == "square":
        return np.array([1, -1, -1, 1]) * SQUARE / 2, np.array([1, 1, -1, -1]) * SQUARE / 2
    t = np.linspace(0, 2 * math.pi, 100 if shape == "ellipse" else 150, endpoint=False)
    if shape == "ellipse":
        return 1.33 * np.cos(t) * SQUARE / 2, np.sin(t) / 1.33 * SQUARE / 2
    # The well-known heart curve, 32 wide and about 29 high, scaled to a square and shifted upwards.
    heart = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return 16 * np.sin(t) ** 3 / 32 * SQUARE, -(heart / 29 + 0.075) * SQUARE


@cache
def _turned_outline(shape: str) -> tuple[np.ndarray, np.ndarray]:
    """Corners x, y in all orientations, turned anticlockwise, each (40, corners + 1); the last corner repeats the first."""
    x, y = (np.append(corners, corners[0]) for corners in _outline(shape))
    angle = np.linspace(0, 2 * math.pi, FACTORS["orientation"])[:, None]
    return np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x


def _draw_shape(shape: str, factors: np.ndarray) -> np.ndarray:
    """Images of one shape as 64 rows of bits (k, 64), where column c is bit c, at factors (k, 4) without the shape.

    A pixel belongs to a shape if its centre does. A row is filled between its first and second, third and fourth, ... crossing
    with the outline: the exclusive or of the pixels to the left of each crossing.
    """
    scale, orientation, *position = factors.T
    size = (0.5 + 0.1 * scale)[:, None]
    # In units of 1 / SNAP pixels corners are whole numbers; pixel centres are SNAP / 2 more than a multiple of SNAP.
    x, y = (
        np.rint((turned[orientation] * size + (16 + 32 * place / 31)[:, None]) * SNAP) - SNAP / 2
        for turned, place in zip(_turned_outline(shape), position, strict=True)
    )
    below = np.ceil(y / SNAP).astype(np.int64)  # the first row at or below each corner
    rows = np.diff(below, axis=1)
    image, edge = np.nonzero(rows)
    start = image * y.shape[1] + edge
    x, y, below, count = x.ravel(), y.ravel(), below.ravel(), np.abs(rows[image, edge])
    row = np.minimum(below[start], below[start + 1])
    # From edges to their crossings with rows; most edges have one.
    step = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    image, start, row = (np.repeat(values, count) for values in (image, start, row))
    row += step
    # The product of whole numbers is exact, so rounding does not decide about a centre that lies on an edge.
    right = (row * SNAP - y[start]) * (x[start + 1] - x[start]) / (y[start + 1] - y[start])
    column = np.ceil((x[start] + right) / SNAP).astype(np.int64)
    bits = np.zeros(len(factors) * SIZE, np.uint64)
    np.bitwise_xor.at(bits, image * SIZE + row, LEFT[column])
    return bits.reshape(-1, SIZE)


def render(factors: np.ndarray) -> np.ndarray:
    """Images (k, 1, 64, 64), uint8 with values 0 and 255, at factors (k, 5), integers in the order of `FACTORS`.

    At full scale the square has sides of 19.2 pixels, the ellipse axes of 25.5 and 14.4 pixels; the heart is 19.2 pixels wide
    and 19.1 high. Scale s multiplies them by 0.5 + 0.1 s. Orientation o turns them anticlockwise by 2 pi o / 39 (so 0 and 39
    are equal). Position p puts their centre 16 + 32 p / 31 pixels from the left (posX) or upper (posY) border.

    Raises:
        ConfigError: for a factor out of its range.

    >>> np.count_nonzero(render(np.array([[0, 5, 0, 0, 0]])), (1, 2, 3)).tolist()
    [400]
    """
    factors, sizes = np.asarray(factors, np.int64).reshape(-1, len(FACTORS)), np.array(list(FACTORS.values()))
    if (wrong := (factors < 0) | (factors >= sizes)).any():
        row, column = np.argwhere(wrong)[0]
        name = list(FACTORS)[column]
        raise ConfigError(f"{name} is a number from 0 to {FACTORS[name] - 1}, got {factors[row, column]}.")
    bits = np.zeros((len(factors), SIZE), "<u8")
    for number, shape in enumerate(SHAPES):
        where = np.flatnonzero(factors[:, 0] == number)
        for first in range(0, len(where), TOGETHER):
            part = where[first : first + TOGETHER]
            bits[part] = _draw_shape(shape, factors[part, 1:])
    images = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little").reshape(-1, 1, SIZE, SIZE)
    return np.multiply(images, 255, out=images)


def _choose_values(count: int, size: int, circular: bool) -> np.ndarray:
    """`count` of the values 0 to size - 1 for a smaller grid: the middles of equal parts, or their starts on a circle."""
    return (2 * np.arange(count) + (0 if circular else 1)) * size // (2 * count)


def sprites(
    shapes: tuple[str, ...] = SHAPES,
    scales: int = 6,
    orientations: int = 40,
    positions: int = 32,
    side: int = SIZE,
    validation: int = 0,
    test: int = 0,
    data_seed: int = 0,
) -> Dataset:
    """Binary images (1, 64, 64) of a shape, drawn on demand: all 737,280 combinations of five factors, or fewer.

    The grid's factors are, in the original's order, shape (position in `shapes`), scale, orientation, posX and posY; the last
    changes fastest. See `render` for their values. A smaller grid has the middles of equal parts of the scales and positions
    (8 of 32 positions are 2, 6, ..., 30; one is 16) and their starts for orientations (4 are 0, 10, 20, 30; one is upright).

    Arguments:
        shapes: names from square, ellipse and heart.
        scales, orientations, positions: numbers of sizes (1 to 6), directions (1 to 40), places along either axis (1 to 32).
        side: of the images, in pixels: 64; or 32 or 16, which are means of 2 x 2 or 4 x 4 of those pixels. The smaller images
            are grey in [0, 1]: soft targets of a Bernoulli likelihood, whose values are then no log-probabilities.
        validation, test: sizes of these splits; 0 means 5,000 and 10,000, but at most a tenth of the grid each.
        data_seed: of the random split; the original has no splits.

    Raises:
        ConfigError: for a number out of its range, an unknown or repeated shape, or splits that leave nothing to train on.

    >>> data = sprites(shapes=("heart",), scales=1, orientations=4, positions=8)
    >>> data.grid.sizes, data.train.x[:2].shape
    ({'shape': 1, 'scale': 1, 'orientation': 4, 'posX': 8, 'posY': 8}, torch.Size([2, 1, 64, 64]))
    """
    numbers = {"scales": (scales, 6), "orientations": (orientations, 40), "positions": (positions, 32)}
    for name, (number, most) in numbers.items():
        if not 1 <= number <= most:
            raise ConfigError(f"{name} is a number of values from 1 to {most}, got {number}.")
    check_side(side)
    check_names("shape", shapes, SHAPES)
    counts = (scales, orientations, positions, positions)
    chosen = [np.array([SHAPES.index(shape) for shape in shapes])]
    for count, (name, size) in zip(counts, list(FACTORS.items())[1:], strict=True):
        chosen.append(_choose_values(count, size, circular=name == "orientation"))
    sizes = dict(zip(FACTORS, map(len, chosen), strict=True))

    def draw(index: np.ndarray) -> np.ndarray:
        places = np.unravel_index(index, tuple(sizes.values()))
        return render(np.stack([values[place] for values, place in zip(chosen, places, strict=True)], 1))

    count = math.prod(sizes.values())
    x = Rows(Drawn(draw, (count, 1, SIZE, SIZE)), ahead=True)
    grid = FactorGrid(sizes, x if side == SIZE else x.map(lambda images: avg_pool2d(images, SIZE // side)))
    note = (
        "stand-in for dSprites: drawn anew, equal in every pixel to the 258 images of the original's animation, the others "
        "are not verified; the split is ours, the original has none"
    )
    splits = grid.split(data_seed, validation, test)
    return Dataset("sprites", *splits, counts={"all": count}, note=note, labels={"shape": shapes}, grid=grid)
