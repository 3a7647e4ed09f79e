"""The angle regression on rings whose error is known."""

import numpy as np
import pytest

from pyro_hvae.errors import ConfigError
from pyro_hvae.metrics import angle_regression, wrap

RNG = np.random.default_rng(0)
TRAIN, TEST = RNG.uniform(0, 2 * np.pi, 4000), RNG.uniform(0, 2 * np.pi, 1000)


def fit(embed):
    return angle_regression(embed(TRAIN), TRAIN, embed(TEST), TEST)


def ring(t, offset=0.0, flip=1, centre=(0.0, 0.0), stretch=1.0):
    return np.c_[stretch * np.cos(flip * t + offset), np.sin(flip * t + offset)] + centre


@pytest.mark.parametrize("offset", [0.0, 1.0, np.pi, 5.5])
@pytest.mark.parametrize("flip", [1, -1])
@pytest.mark.parametrize("centre", [(0.0, 0.0), (40.0, -7.0)])
def test_any_rotation_reflection_and_centre_of_a_round_ring_is_exact(offset, flip, centre):
    found = fit(lambda t: ring(t, offset, flip, centre))
    # The centre is the mean of the sample, off by its own error.
    assert found.mae_rad < 0.02 and found.winding == pytest.approx(flip, abs=0.01)


def test_an_ellipse_scores_its_known_error():
    # atan2(sin t, a cos t) - t has amplitude asin((1 - a) / (1 + a)) in twice the angle: mean |.| = 2 / pi times that.
    for a in (0.9, 0.7):
        expected = 2 / np.pi * np.arcsin((1 - a) / (1 + a))
        assert fit(lambda t, a=a: ring(t, stretch=a)).mae_rad == pytest.approx(expected, rel=0.1)


def test_the_error_vanishes_with_the_warp():
    errors = [fit(lambda t, w=w: ring(t + w * np.sin(3 * t))).mae_rad for w in (0.3, 0.1, 0.01)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[1] == pytest.approx(0.1 * 2 / np.pi, rel=0.1)


def test_an_uninformative_code_is_at_chance():
    found = angle_regression(RNG.normal(size=(4000, 2)), TRAIN, RNG.normal(size=(1000, 2)), TEST)
    assert found.mae_rad == pytest.approx(np.pi / 2, abs=0.1)
    shuffled = angle_regression(ring(TRAIN), RNG.permutation(TRAIN), ring(TEST), TEST)
    assert shuffled.mae_rad == pytest.approx(np.pi / 2, abs=0.1)


def test_a_twisted_ring_is_bad():
    assert fit(lambda t: np.c_[np.cos(t), np.sin(2 * t)]).mae_rad > 0.3


def test_a_doubly_wound_ring_reports_its_winding():
    assert abs(fit(lambda t: ring(2 * t)).winding) == pytest.approx(2, abs=0.01)


def test_test_labels_decide_nothing():
    """Rotating the test angles by a constant must show as that error: nothing is fitted on the test split."""
    found = angle_regression(ring(TRAIN), TRAIN, ring(TEST), wrap(TEST + 0.5))
    assert found.mae_rad == pytest.approx(0.5, abs=0.03)


def test_needs_a_plane():
    with pytest.raises(ConfigError, match="-o latent=2"):
        angle_regression(np.zeros((5, 3)), TRAIN[:5], np.zeros((5, 3)), TEST[:5])


def test_wrap():
    assert np.allclose(wrap(np.array([0.0, np.pi, -np.pi, 3 * np.pi, 0.1 + 4 * np.pi])), [0, -np.pi, -np.pi, -np.pi, 0.1])
