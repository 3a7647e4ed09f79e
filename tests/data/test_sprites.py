"""The stand-in for dSprites: genuine frames (by checksum, and pixel by pixel where they are), closed forms, grid and splits."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pyro_hvae.data.generated.sprites import FACTORS, SHAPES, render, sprites
from pyro_hvae.errors import ConfigError
from pyro_hvae.runtime.folders import DATA_VARIABLE

REAL = Path(os.environ.get(DATA_VARIABLE) or "absent") / "dSprites_reference/dsprites_gif_320x64x64.npz"
SIZES = tuple(FACTORS.values())


def drawn(*values):
    """Images (k, 64, 64) of booleans at factors that broadcast against each other."""
    return render(np.stack([part.ravel() for part in np.broadcast_arrays(*values)], 1))[:, 0] > 0


def walk():
    """Factors (320, 5) along the original's animation: heart, ellipse, square; only the heart leaves its corner."""
    up, down, far = list(range(6)), list(range(5, -1, -1)), range(31, -1, -1)
    rows = []
    for shape in (2, 1, 0):
        rows += [(shape, scale, 0, 0, 0) for scale in up + down + up]
        rows += [(shape, 5, turn, 0, 0) for turn in range(40)]
        if shape == 2:
            rows += [(2, 5, 0, 0, y) for y in range(32)] + [(2, 5, 0, x, 31) for x in range(32)]
            rows += [(2, 5, 0, 31, y) for y in far] + [(2, 5, 0, x, 0) for x in far]
        rows += [(shape, scale, 0, 0, 0) for scale in down]
    return np.array(rows)


def test_the_frames_of_the_original_by_checksum():
    # Of the genuine frames, one bit per pixel.
    digest = hashlib.sha256(np.packbits(render(walk()) > 0).tobytes()).hexdigest()
    assert digest == "3d38f770e7694ba6ba5430c6f6eb71df0a62d538c867bcc5b19aebdb15d2d9e3"


@pytest.mark.skipif(not REAL.exists(), reason="needs the frames of the original animation in PYRO_HVAE_DATA")
@pytest.mark.parametrize("number", range(3), ids=SHAPES)
def test_the_frames_of_the_original_pixel_by_pixel(number):
    with np.load(REAL, allow_pickle=False) as archive:
        genuine = archive["images"].astype(bool)
    factors = walk()
    of_shape = factors[:, 0] == number
    ours, genuine = render(factors[of_shape])[:, 0] > 0, genuine[of_shape]
    assert len(ours) == (64, 64, 192)[number]
    assert (ours == genuine).mean() == 1 and ((ours & genuine).sum((1, 2)) / (ours | genuine).sum((1, 2))).min() == 1


def test_areas():
    assert drawn(0, np.arange(6), 0, 0, 31).sum((1, 2)).tolist() == [100, 144, 196, 256, 324, 400]
    # A polygon inscribed in an ellipse, and the heart's 180 pi of a box of 32 x 29.
    ellipse, heart = 100 / 2 * np.sin(2 * np.pi / 100) * 9.6**2, 180 * np.pi / (32 * 29) * 19.2**2
    for shape, area in enumerate((19.2**2, ellipse, heart)):
        for scale in range(6):
            x, y = np.mgrid[0:31, 0:31]  # all positions relative to the pixels: the mean of the counts is the area
            assert np.isclose(drawn(shape, scale, 3, x, y).sum((1, 2)).mean(), area * (0.5 + 0.1 * scale) ** 2, rtol=1e-3)


def test_squares_and_ellipses_by_their_formulas():
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(0, size, 300) for size in (2, *SIZES[1:])], 1)
    images = render(factors)[:, 0] > 0
    angle, scale = 2 * np.pi * factors[:, 2] / 39, 0.5 + 0.1 * factors[:, 1]
    rows, columns = np.mgrid[0:64, 0:64] + 0.5
    right = columns - (16 + 32 * factors[:, 3] / 31)[:, None, None]
    up = (16 + 32 * factors[:, 4] / 31)[:, None, None] - rows
    turn = np.exp(-1j * angle)[:, None, None] * (right + 1j * up) / scale[:, None, None]
    square = np.maximum(abs(turn.real), abs(turn.imag)) - 9.6
    ellipse = (np.hypot(turn.real / 1.33, turn.imag * 1.33) - 9.6) * 0.75  # at least the distance to the border, in pixels
    inside = np.where(factors[:, :1, None] == 0, square, ellipse)
    clear = abs(inside) > 0.01  # corners are rounded to 1/256 of a pixel, and the ellipse has a hundred of them
    assert (images == (inside < 0))[clear].all() and clear.mean() > 0.999


def test_centres_follow_the_positions():
    place = np.arange(32)
    for shape in range(2):
        for x, y in ((place, 9), (9, place)):
            # Averaged over the turns of a shape that is its own half turn; centres of pixels are at halves.
            images = drawn(shape, 5, np.arange(39), *(np.asarray(value)[..., None] for value in (x, y))).reshape(32, 39, 64, 64)
            share = images.sum(1) / images.sum((1, 2, 3))[:, None, None]
            centres = (share * (np.arange(64) + 0.5)).sum((1, 2)), (share * (np.arange(64)[:, None] + 0.5)).sum((1, 2))
            for centre, position in zip(centres, (x, y), strict=True):
                assert np.abs(centre - 16 - 32 * np.asarray(position) / 31).max() < 0.02
    everything = np.arange(3)[:, None], np.arange(6)
    near, right, below = drawn(*everything, 7, 0, 0), drawn(*everything, 7, 31, 0), drawn(*everything, 7, 0, 31)
    assert np.array_equal(np.roll(near, 32, 2), right) and np.array_equal(np.roll(near, 32, 1), below)


def test_symmetries():
    turn, scale = np.arange(40)[:, None], np.arange(6)
    square, ellipse, heart = (drawn(shape, scale, turn, 0, 0)[:, :32, :32] for shape in range(3))
    assert np.array_equal(square, np.rot90(square, 1, (1, 2)))
    # Where the centre of a pixel is right on an edge, as in two images of the third scale, only one side's pixel is filled.
    uneven = (ellipse != np.rot90(ellipse, 2, (1, 2))).sum((1, 2)).reshape(40, 6)
    assert np.argwhere(uneven).tolist() == [[14, 2], [25, 2]] and uneven.max() == 2
    assert (ellipse != np.rot90(ellipse, 1, (1, 2))).any((1, 2)).all()
    heart = heart.reshape(40, 6, 32, 32)
    assert np.array_equal(heart[::-1], heart[..., ::-1]) and np.array_equal(heart[0], heart[39])
    # Most of the heart is above its centre, and to the left after a quarter turn anticlockwise.
    upright, quarter = heart[0, 5], heart[10, 5]
    assert upright[:16].sum() > upright[16:].sum() and quarter[:, :16].sum() > quarter[:, 16:].sum()
    assert len({image.tobytes() for image in ellipse.reshape(40, 6, -1)[:39, 5]}) == 39


def test_the_grid_has_the_order_of_the_original():
    data = sprites()
    assert data.grid is not None and dict(data.grid.sizes) == FACTORS and data.counts == {"all": 737_280}
    index = torch.tensor([0, 1, 32, 32 * 32, 40 * 32 * 32, 6 * 40 * 32 * 32, 737_279])
    values = data.grid.values(index)
    assert values.tolist() == [
        [0] * 5,
        [0, 0, 0, 0, 1],
        [0, 0, 0, 1, 0],
        [0, 0, 1, 0, 0],
        [0, 1, 0, 0, 0],
        [1, 0, 0, 0, 0],
        [2, 5, 39, 31, 31],
    ]
    assert torch.equal(data.grid.x.raw(index), torch.from_numpy(render(values.numpy())))
    assert data.grid.x[0].shape == (1, 64, 64) and data.grid.x[index].unique().tolist() == [0, 1]


def test_a_smaller_grid_is_rows_of_the_full_one():
    small, full = sprites(("heart", "square"), scales=2, orientations=4, positions=4).grid, sprites().grid
    assert small is not None and full is not None and list(small.sizes.values()) == [2, 2, 4, 4, 4]
    kept = torch.cartesian_prod(*map(torch.tensor, ([2, 0], [1, 4], [0, 10, 20, 30], [4, 12, 20, 28], [4, 12, 20, 28])))
    assert torch.equal(small.x[:], full.x[full.index(kept)])
    single = sprites(("ellipse",), scales=1, orientations=39, positions=1).grid
    assert single is not None and list(single.sizes.values()) == [1, 1, 39, 1, 1]
    assert torch.equal(single.x[:][:, 0] > 0, torch.from_numpy(drawn(1, 3, np.arange(39), 16, 16)))


@pytest.mark.parametrize(("side", "block"), [(32, 2), (16, 4)])
def test_smaller_images_are_block_means(side, block):
    options = {"scales": 2, "orientations": 5, "positions": 6}
    large, small = sprites(**options), sprites(**options, side=side)
    assert small.shape == (1, side, side) and large.grid is not None and small.grid is not None
    whole, x = large.grid.x[:], small.grid.x[:]
    assert torch.equal(x, whole.reshape(-1, 1, side, block, side, block).sum((3, 5)) / block**2)
    assert x.unique().tolist() == [n / block**2 for n in range(block**2 + 1)]
    for name in ("train", "validation", "test"):
        part, original = getattr(small, name), getattr(large, name)
        assert all(torch.equal(part.factors[key], original.factors[key]) for key in original.factors)
        assert torch.equal(part.x[:], x[small.grid.index(torch.stack(list(part.factors.values()), 1))])


def test_splits():
    data = sprites()
    assert [len(split) for split in (data.train, data.validation, data.test)] == [722_280, 5_000, 10_000]
    small = sprites(scales=1, orientations=10, positions=4)
    splits = small.train, small.validation, small.test
    assert [len(split) for split in splits] == [384, 48, 48] and small.shape == (1, 64, 64)
    rows = [tuple(row) for split in splits for row in torch.stack(list(split.factors.values()), 1).tolist()]
    assert len(set(rows)) == 480 and list(small.test.factors) == list(FACTORS)
    assert small.grid is not None
    where = small.grid.index(torch.stack(list(small.test.factors.values()), 1))
    assert torch.equal(small.test.x[:], small.grid.x[where])
    again, other = (sprites(scales=1, orientations=10, positions=4, data_seed=seed) for seed in (0, 1))
    assert torch.equal(small.test.x[:], again.test.x[:]) and not torch.equal(small.test.x[:], other.test.x[:])
    chosen = sprites(scales=1, orientations=10, positions=4, validation=100, test=200)
    assert [len(split) for split in (chosen.train, chosen.validation, chosen.test)] == [180, 100, 200]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"scales": 7}, "scales is a number of values from 1 to 6, got 7"),
        ({"orientations": 0}, "orientations is a number of values from 1 to 40, got 0"),
        ({"positions": 33}, "positions is a number of values from 1 to 32, got 33"),
        ({"shapes": ("circle",)}, "no shape called 'circle'"),
        ({"shapes": ("hart",)}, "Did you mean 'heart'"),
        ({"shapes": ()}, "at least one name and each only once, got none"),
        ({"shapes": ("heart", "heart")}, "each only once, got heart, heart"),
        ({"test": -1}, "-1 for testing"),
        ({"data_seed": -1}, "at least 0, got -1"),
        ({"side": 128}, "side is 64, 32 or 16 pixels, got 128"),
        ({"scales": 1, "orientations": 1, "positions": 1, "shapes": ("heart",)}, "1 data cannot be split"),
        ({"validation": 737_280}, "cannot be split"),
    ],
)
def test_wrong_options(options, why):
    with pytest.raises(ConfigError, match=why):
        sprites(**options)


@pytest.mark.parametrize(("column", "value", "why"), [(0, 3, "shape .*0 to 2, got 3"), (4, -1, "posY .*0 to 31, got -1")])
def test_factors_out_of_range(column, value, why):
    factors = np.zeros((2, 5), int)
    factors[1, column] = value
    with pytest.raises(ConfigError, match=why):
        render(factors)


def test_many_images_are_the_same_as_one_by_one():
    rng = np.random.default_rng(1)
    factors = np.stack([rng.integers(0, size, 900) for size in SIZES], 1)
    images = render(factors)
    assert images.dtype == np.uint8 and images.shape == (900, 1, 64, 64) and np.unique(images).tolist() == [0, 255]
    for index in range(0, 900, 45):
        assert np.array_equal(render(factors[index : index + 1])[0], images[index])
    assert render(np.zeros((0, 5), int)).shape == (0, 1, 64, 64)
