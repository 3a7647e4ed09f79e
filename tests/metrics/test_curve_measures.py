"""Measures of curves against sums by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_hvae.errors import ConfigError
from pyro_hvae.metrics import measure_curves, smoothness_factor, step_lengths


@settings(max_examples=50, deadline=None)
@given(st.integers(3, 20), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_measures_are_sums_over_the_steps(frames, features, seed):
    curves = np.random.default_rng(seed).normal(size=(4, frames, features))
    found = measure_curves(curves)
    for number, curve in enumerate(curves):
        steps = [np.linalg.norm(b - a) for a, b in zip(curve, curve[1:], strict=False)]
        assert np.allclose(step_lengths(curve), steps)
        assert found.length[number] == pytest.approx(sum(steps)) and found.largest_jump[number] == pytest.approx(max(steps))
        assert found.energy[number] == pytest.approx((frames - 1) * sum(step**2 for step in steps))
        assert found.smoothness[number] == pytest.approx(smoothness_factor(curve).mean())
    assert (found.energy >= found.length**2 - 1e-9).all()


def test_an_arc_in_equal_steps_has_the_energy_of_its_squared_length():
    t = np.linspace(0, np.pi, 1001)
    found = measure_curves(np.c_[np.cos(t), np.sin(t)])
    assert found.length == pytest.approx(np.pi, rel=1e-6) and found.energy == pytest.approx(found.length**2, rel=1e-12)


def test_a_curve_has_three_finite_frames():
    for shape in ((2, 3), (5, 2, 3), (9,)):
        with pytest.raises(ConfigError, match="three frames"):
            measure_curves(np.zeros(shape))
    with pytest.raises(ConfigError, match="finite frames"):
        measure_curves(np.array([[0.0], [np.inf], [1.0]]))
