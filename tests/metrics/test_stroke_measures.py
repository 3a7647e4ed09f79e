"""Measures of strokes on drawings whose slant, width and thickness are known by hand."""

import math

import pytest
import torch
from torch.testing import assert_close

from pyro_hvae.errors import ConfigError
from pyro_hvae.metrics.stroke_measures import STROKES, ink, slant, thickness, width


def line(shear, rows=20, size=40, tone=1.0):
    """A line two pixels wide whose ink lies `shear` pixels further right in every row up, split between two columns."""
    up = (size - 1) / 2 - torch.arange(size).double()[:, None]
    hat = (1 - (torch.arange(size) - size / 2 - shear * up).abs()).clamp_min(0)
    return (tone * hat * (up.abs() < rows / 2))[None, None]


def bar(thick, long, degrees, size=40, fine=16):
    """A bar drawn by the share of each pixel that it covers."""
    at = (torch.arange(size * fine).double() + 0.5) / fine - size / 2
    angle = math.radians(degrees)
    across = at[None, :] * math.cos(angle) - at[:, None] * math.sin(angle)
    along = at[None, :] * math.sin(angle) + at[:, None] * math.cos(angle)
    inside = ((across.abs() < thick / 2) & (along.abs() < long / 2)).double()
    return inside.reshape(size, fine, size, fine).mean((1, 3))[None, None]


def test_ink_is_the_mean_of_each_image():
    x = torch.stack([torch.zeros(1, 2, 3), torch.full((1, 2, 3), 0.25), torch.arange(6.0).reshape(1, 2, 3) / 6])
    assert_close(ink(x), torch.tensor([0, 0.25, 15 / 36], dtype=torch.float64))
    assert all(measure(x).dtype == torch.float64 and measure(x).shape == (3,) for measure in STROKES.values())


@pytest.mark.parametrize("shear", [-0.7, -0.25, 0.0, 0.3, 0.8])
def test_the_slant_is_the_shear_and_leans_as_a_slash(shear):
    for tone in (1.0, 0.1):
        assert_close(slant(line(shear, 20, tone=tone)), torch.tensor([shear * (1 - 1 / 20**2)]).double())
    slash = torch.eye(9).flip(0)[None, None]
    assert slash[0, 0, 0, -1] == 1 and slant(slash) > 0.9 and slant(slash.flip(3)) < -0.9


def test_the_width_of_a_bar_is_that_of_a_uniform_law_and_knows_no_slant():
    for columns in (1, 2, 5):
        x = torch.zeros(1, 1, 30, 41)
        x[..., 5:25, 10 : 10 + columns] = 0.3
        assert_close(width(x), torch.tensor([columns / math.sqrt(12)]).double())
        for shift in (1, -1):  # a staircase of whole pixels: the steps themselves remain, of variance 1/12
            sheared = torch.stack([x[0, 0, i].roll(shift * (15 - i)) for i in range(30)])[None, None]
            steps = 1 - 1 / 20**2
            assert_close(slant(sheared), torch.tensor([shift * steps]).double())
            assert_close(width(sheared), torch.tensor([math.sqrt((columns**2 + steps) / 12)]).double())


def test_the_width_of_two_bars_is_half_their_distance():
    x = torch.zeros(1, 1, 20, 30)
    x[..., 5] = x[..., 19] = 1
    assert_close(width(x), torch.tensor([math.sqrt(7**2 + 1 / 12)]).double())


@pytest.mark.parametrize("thick", [2.0, 3.0, 4.5, 6.0])
def test_the_thickness_of_a_bar_at_any_angle(thick):
    known = thick * 26 / (thick + 26)
    for degrees in (0, 20, 45, 70, 90, 130):
        assert thickness(bar(thick, 26, degrees)).item() == pytest.approx(known, rel=0.03)


def test_the_thickness_knows_neither_tone_nor_place_nor_number():
    x = bar(4, 16, 30)
    assert_close(thickness(0.05 * x), thickness(x))
    moved = x.roll((-5, 6), (2, 3))
    assert_close(thickness(moved), thickness(x))
    assert_close(thickness(torch.cat([x, x], 3)), thickness(x))
    cut = torch.ones(1, 1, 6, 3)  # as far as the frame, which is an edge like any other
    assert_close(thickness(cut), thickness(torch.nn.functional.pad(cut, (4, 4, 4, 4))))


def test_a_blurred_stroke_counts_as_wide_as_it_has_ink_at_its_darkest():
    x = torch.zeros(1, 1, 200, 9)
    x[..., 2:7] = torch.tensor([0.25, 0.5, 0.5, 0.5, 0.25])  # 2 in all, 0.5 at most: four pixels
    assert thickness(x).item() == pytest.approx(4 * 200 / 204, rel=0.01)


def test_blank_and_nearly_blank_images_have_numbers():
    x = torch.zeros(4, 1, 12, 12, dtype=torch.float64)
    x[1] = 1e-300
    x[2, 0, 4] = 1e-9  # a row: no vertical extent
    x[3, 0, 7, 2] = 1.0
    found = {name: measure(x).tolist() for name, measure in STROKES.items()}
    assert all(math.isfinite(value) for values in found.values() for value in values)
    assert [values[0] for values in found.values()] == [0, 0, 0, 0]
    assert found["slant"] == pytest.approx([0, 0, 0, 0], abs=1e-12)
    assert found["width"][2:] == pytest.approx([math.sqrt(12), math.sqrt(1 / 12)])
    assert all(measure(x[:0]).shape == (0,) for measure in STROKES.values())


@pytest.mark.parametrize("measure", STROKES.values())
def test_what_is_no_drawing_is_refused(measure):
    for shape in ((2, 3, 8, 8), (2, 8, 8), (2, 1, 0, 8)):
        with pytest.raises(ConfigError, match="of shape .n, 1, height, width., got"):
            measure(torch.zeros(shape))
    for value in (1.01, -0.01, math.nan):
        with pytest.raises(ConfigError, match=r"values in \[0, 1\]"):
            measure(torch.full((1, 1, 4, 4), value))
