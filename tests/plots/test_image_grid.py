"""Many images in one array."""

import numpy as np
import pytest
import torch

from pyro_hvae.plots.image_grid import MISSING, STRIP, plot_image_sheet, tile_images


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("count", "columns"), [(1, 1), (1, 3), (2, 5), (5, 3), (6, 3)])
def test_images_lie_row_by_row_with_gaps_of_nan(channels, count, columns):
    images = torch.rand(count, channels, 28, 10)
    grid, (down, across) = tile_images(images, columns)
    rows = -(-count // columns)
    assert (down, across) == (30, 12)
    expected = np.full((rows * down - 2, columns * across - 2, channels), np.nan, dtype=np.float32)
    for i, image in enumerate(images):
        top, left = i // columns * down, i % columns * across
        expected[top : top + 28, left : left + 10] = image.permute(1, 2, 0)
    np.testing.assert_array_equal(grid, expected if channels == 3 else expected[..., 0])


def test_vectors_become_strips():
    """Each column is as many pixels wide as a strip of at least 48 needs."""
    vectors = torch.randn(2, 7)
    grid, distance = tile_images(vectors, 2)
    assert grid.shape == (STRIP, 2 * 49 + 1) and distance == (STRIP + 1, 50)
    np.testing.assert_array_equal(grid[:, :49], vectors[:1].repeat_interleave(7, 1).expand(STRIP, -1))
    np.testing.assert_array_equal(grid[:, 50:], vectors[1:].repeat_interleave(7, 1).expand(STRIP, -1))
    assert tile_images(torch.randn(1, 60), 1)[1] == (STRIP + 1, 61)
    wide = torch.randn(2, 200)
    grid, distance = tile_images(wide, 2)  # a gap that many columns do not hide
    assert grid.shape == (STRIP, 200 + 5 + 200) and distance == (STRIP + 1, 205) and np.isnan(grid[:, 200:205]).all()
    np.testing.assert_array_equal(grid[:, 205:], wide[1:].expand(STRIP, -1))


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_channels_that_are_no_colours_lie_side_by_side(channels):
    images = torch.rand(3, channels, 8, 6)
    grid, (down, across) = tile_images(images, 3)
    assert grid.shape == (8, 3 * across - 1) and across == channels * 6 + 1 and down == 9
    for number, image in enumerate(images):
        for channel, pixels in enumerate(image):
            left = number * across + channel * 6
            assert (grid[:, left : left + 6] == pixels.numpy()).all()


@pytest.mark.parametrize(("channels", "colour"), [(1, MISSING), (3, MISSING), (2, None)])
def test_missing_pixels_of_a_sheet_have_a_colour_that_no_pixel_has_and_the_title_says_which(channels, colour):
    images = torch.ones(4, channels, 8, 8)
    images[0, :, 2, 3] = torch.nan
    figure = plot_image_sheet(images, "t")
    drawn = figure.axes[0].images[0].get_array()
    if colour is None:  # channels side by side, which are grey
        assert figure.get_suptitle() == "t\nwhite: missing" and np.ma.getmaskarray(drawn)[2, 3]
        return
    assert figure.get_suptitle() == "t\norange: missing"
    np.testing.assert_allclose(drawn[2, 3], colour, atol=1e-6)
    assert (drawn[2, 2] == 1).all() and (drawn[-1, -1] == 1).all()
    assert plot_image_sheet(images[1:], "t").get_suptitle() == "t"
