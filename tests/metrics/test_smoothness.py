"""The smoothness factor against differences taken by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_hvae.errors import ConfigError
from pyro_hvae.metrics import smoothness_factor


def test_a_straight_line_with_equal_steps_is_perfectly_smooth():
    path = np.arange(20.0)[:, None] * np.array([1.0, -2.0, 0.0]) + 7
    assert smoothness_factor(path).tolist() == [0, 0, 0]


def test_a_zig_zag_between_minus_h_and_h_has_four_h():
    t = np.arange(11)
    path = np.stack([0.25 * (-1.0) ** t, 3 * (-1.0) ** t, 3 * (-1.0) ** t + 5 * t], 1)
    assert smoothness_factor(path).tolist() == [1, 12, 12]


def test_a_parabola_has_twice_its_coefficient_and_no_step_divides_it():
    t = np.arange(9.0)
    assert smoothness_factor(np.stack([3 * t**2, 3 * (2 * t) ** 2], 1)).tolist() == [6, 24]


def test_it_is_the_root_of_the_mean_square():
    assert smoothness_factor(np.array([[0.0], [0.0], [3.0], [10.0]])) == pytest.approx(np.sqrt((9 + 16) / 2))


@settings(max_examples=50, deadline=None)
@given(st.integers(3, 30), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_direction_place_and_speed_do_not_matter_and_size_does(frames, joints, seed):
    rng = np.random.default_rng(seed)
    path, uniform = rng.normal(size=(frames, joints)), np.arange(frames)[:, None] * rng.normal(size=joints)
    smooth = smoothness_factor(path)
    assert smooth.shape == (joints,)
    assert np.allclose(smoothness_factor(path[::-1]), smooth)
    assert np.allclose(smoothness_factor(-4 * path + uniform + 9), 4 * smooth)
    by_hand = [path[t + 1] - 2 * path[t] + path[t - 1] for t in range(1, frames - 1)]
    assert np.allclose(smooth**2, np.mean(np.square(by_hand), 0))


def test_bad_paths():
    for shape in ((2, 50), (0, 50), (9,)):
        with pytest.raises(ConfigError, match="three frames"):
            smoothness_factor(np.zeros(shape))
    with pytest.raises(ConfigError, match="finite frames"):
        smoothness_factor(np.array([[0.0], [np.nan], [1.0]]))
