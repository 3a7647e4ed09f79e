"""Patches: cutting equals a loop over pixels, joining inverts it, and errors have remedies that work."""

import re

import pytest
import torch
from torch.testing import assert_close

from pyro_hvae.errors import ConfigError
from pyro_hvae.networks.patches import JOINS, Patches

LAYOUTS = [
    Patches(2, 6, 9, side=5),
    Patches(1, 5, 7, side=1),
    Patches(3, 5, 5, side=5),
    Patches(2, 6, 9, side=3, stride=3),
    Patches(3, 8, 4, side=4, stride=4),
    Patches(1, 8, 8, side=8, stride=8),
]


def by_loops(patches, images):
    """Every value by its index: what lies beyond the border is zero."""
    n, channels, height, width = images.shape
    found = torch.zeros(n, patches.rows, patches.columns, channels, patches.side, patches.side)
    for row in range(patches.rows):
        for column in range(patches.columns):
            for i in range(patches.side):
                for j in range(patches.side):
                    before = patches.side // 2 if patches.stride == 1 else 0
                    y, x = row * patches.stride + i - before, column * patches.stride + j - before
                    if 0 <= y < height and 0 <= x < width:
                        found[:, row, column, :, i, j] = images[:, :, y, x]
    return found


def images_for(patches, n=3):
    return torch.rand(n, patches.channels, patches.height, patches.width) + 0.5  # none is zero, which the border is


@pytest.mark.parametrize("patches", LAYOUTS)
def test_cut_is_a_loop_over_pixels(patches):
    images = images_for(patches)
    found = patches.cut(images)
    assert found.shape == (3, patches.rows, patches.columns, *patches.event)
    assert torch.equal(found, by_loops(patches, images))


@pytest.mark.parametrize("patches", LAYOUTS)
def test_put_is_the_inverse_of_cut(patches, float64):
    images = images_for(patches)
    assert_close(patches.put(patches.cut(images)), images, atol=1e-14, rtol=0)


def test_a_patch_around_a_pixel_has_it_in_the_middle():
    patches = Patches(1, 4, 5, side=3)
    images = torch.arange(20.0).reshape(1, 1, 4, 5)
    found = patches.cut(images)[0, :, :, 0]
    assert torch.equal(found[:, :, 1, 1], images[0, 0])
    assert found[0, 0].tolist() == [[0, 0, 0], [0, 0, 1], [0, 5, 6]]
    assert found[2, 3].tolist() == [[7, 8, 9], [12, 13, 14], [17, 18, 19]]
    assert (patches.rows, patches.columns, patches.padding) == (4, 5, 1)


def test_side_by_side_patches_are_rows_and_columns_of_the_image():
    patches = Patches(1, 4, 6, side=2, stride=2)
    images = torch.arange(24.0).reshape(1, 1, 4, 6)
    found = patches.cut(images)[0, :, :, 0]
    assert (patches.rows, patches.columns, patches.padding) == (2, 3, 0)
    assert found[0, 1].tolist() == [[2, 3], [8, 9]] and found[1, 0].tolist() == [[12, 13], [18, 19]]


def test_every_pixel_is_the_average_of_the_patches_over_it(float64):
    """Patch number n is n everywhere: 4 of them lie over a corner, 6 over an edge, 9 elsewhere."""
    patches = Patches(1, 4, 5, side=3)
    image = patches.put(torch.arange(20.0).reshape(1, 4, 5, 1, 1, 1).expand(1, 4, 5, 1, 3, 3))[0, 0]
    assert image[0, 0] == pytest.approx((0 + 1 + 5 + 6) / 4)
    assert image[3, 4] == pytest.approx((13 + 14 + 18 + 19) / 4)
    assert image[0, 2] == pytest.approx((1 + 2 + 3 + 6 + 7 + 8) / 6)
    assert image[2, 0] == pytest.approx((5 + 6 + 10 + 11 + 15 + 16) / 6)
    assert image[1, 2] == pytest.approx((1 + 2 + 3 + 6 + 7 + 8 + 11 + 12 + 13) / 9)


def test_every_value_of_a_patch_lands_at_its_pixel(float64):
    """Of one patch that is not zero, its values land around its own pixel, each over that pixel's number of patches."""
    patches = Patches(2, 4, 5, side=3)
    one = torch.zeros(1, 4, 5, 2, 3, 3)
    one[0, 0, 1, 1] = torch.arange(1.0, 10).reshape(3, 3)  # around row 0, column 1: its first row is beyond the border
    image = patches.put(one)[0]
    expected = torch.zeros(2, 4, 5)
    expected[1, 0, :3] = torch.tensor([4 / 4, 5 / 6, 6 / 6])
    expected[1, 1, :3] = torch.tensor([7 / 6, 8 / 9, 9 / 9])
    assert_close(image, expected)


def test_larger_patches_are_averaged_over_all_that_cover_a_pixel(float64):
    """Side 5 on 6 x 9: a corner lies in 3 x 3 patches, its neighbour in 3 x 4, a pixel in the middle in 25."""
    patches = Patches(1, 6, 9, side=5)
    noise = torch.rand(2, 6, 9, 1, 5, 5)
    total, count = torch.zeros(2, 6, 9), torch.zeros(6, 9)
    for row in range(6):
        for column in range(9):
            for i in range(5):
                for j in range(5):
                    y, x = row + i - 2, column + j - 2
                    if 0 <= y < 6 and 0 <= x < 9:
                        total[:, y, x] += noise[:, row, column, 0, i, j]
                        count[y, x] += 1
    assert (count[0, 0], count[0, 1], count[3, 4]) == (9, 12, 25)
    assert_close(patches.put(noise)[:, 0], total / count)


def test_the_centre_is_taken_from_each_patch():
    patches = Patches(2, 4, 5, side=3, join="centre")
    noise = torch.rand(3, 4, 5, 2, 3, 3)
    image = patches.put(noise)
    assert image.shape == (3, 2, 4, 5)
    for row in range(4):
        for column in range(5):
            assert torch.equal(image[:, :, row, column], noise[:, row, column, :, 1, 1])


def test_the_centres_of_cut_patches_are_the_image():
    patches = Patches(3, 8, 6, side=5, join="centre")
    images = images_for(patches)
    assert torch.equal(patches.put(patches.cut(images)), images)


def test_a_tiling_averages_nothing():
    patches = Patches(2, 6, 9, side=3, stride=3)
    noise = torch.rand(2, 2, 3, 2, 3, 3)
    image = patches.put(noise)
    for row in range(2):
        for column in range(3):
            tile = image[:, :, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
            assert torch.equal(tile, noise[:, row, column])


def remedied(error, **kept):
    """The patches that an error's first remedy makes."""
    found = re.search(r"Use -o (patch|join)=(\w+)|Example: -o (join)=(\w+)", str(error))
    assert found, str(error)
    name, value = [part for part in found.groups() if part]
    if name == "join":
        return Patches(**{**kept, "join": value})
    tiling = kept["stride"] != 1
    return Patches(**{**kept, "side": int(value), "stride": int(value) if tiling else 1})


@pytest.mark.parametrize(
    "given, message",
    [
        ({"side": 6}, "odd side, got 6. Use -o patch=5"),
        ({"side": 2}, "odd side, got 2. Use -o patch=1"),
        ({"side": 7, "stride": 7}, "patches of 7 pixels side by side do not fill images of 64 x 64. Use -o patch=8"),
        ({"side": 7, "stride": 7, "height": 12, "width": 18}, "do not fill images of 12 x 18. Use -o patch=6"),
        ({"side": 4, "stride": 4, "height": 12, "width": 18}, "do not fill images of 12 x 18. Use -o patch=3"),
        ({"side": 4, "stride": 4, "height": 8, "width": 18}, "do not fill images of 8 x 18. Use -o patch=2"),
        ({"side": 3, "stride": 3, "height": 7, "width": 11}, "do not fill images of 7 x 11. Use -o patch=1"),
        ({"join": "mean"}, "joined by average or centre, got 'mean'. Example: -o join=average"),
        ({"side": 8, "stride": 8, "join": "centre"}, "do not overlap.*no centres.* Use -o join=average"),
    ],
)
def test_the_remedy_of_an_error_works(given, message):
    kept = {"channels": 3, "height": 64, "width": 64, "side": 7, "stride": 1} | given
    with pytest.raises(ConfigError, match=message) as caught:
        Patches(**kept)
    made = remedied(caught.value, **kept)
    assert made.cut(torch.zeros(1, 3, kept["height"], kept["width"])).shape[:3] == (1, made.rows, made.columns)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"side": 9}, "a patch of 9 pixels does not fit into images of 8 x 10"),
        ({"side": 9, "stride": 9}, "a patch of 9 pixels does not fit into images of 8 x 10"),
        ({"side": 0, "stride": 0}, "a patch of 0 pixels does not fit"),
        ({"side": -1}, "a patch of -1 pixels does not fit"),
        ({"side": 5, "stride": 2}, r"\(stride 1\) or side by side \(stride 5\), got stride 2"),
    ],
)
def test_sides_and_strides_out_of_range_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        Patches(3, 8, 10, **given)


def test_the_joins():
    assert JOINS == ("average", "centre")
    for join in JOINS:
        assert Patches(3, 8, 8, join=join).padding == 3
