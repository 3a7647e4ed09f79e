"""Cyclical annealing."""

import pytest

import pyro_hvae as hv
from pyro_hvae.errors import ConfigError


def betas(schedule, steps):
    schedule.start(steps)
    found = []
    for _ in range(steps):
        schedule.update()
        found.append(schedule.beta.item())
    return found


def test_beta_rises_in_the_first_share_of_each_cycle():
    assert betas(hv.Cyclical(cycles=2, rise=0.5), 16) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1] * 2)
    assert betas(hv.Cyclical(cycles=1, rise=1.0), 4) == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert betas(hv.Cyclical(cycles=1, rise=0.5), 20) == pytest.approx(betas(hv.WarmUp(0.5), 20))
    uneven = betas(hv.Cyclical(cycles=3, rise=0.5), 10)  # cycles of 10 / 3 steps
    assert uneven[0] == pytest.approx(0.6) and uneven[3] == pytest.approx(0.4) and uneven[-1] == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"cycles": 0}, "at least 1, got 0"),
        ({"rise": 0.0}, "above 0 and at most 1, got 0"),
        ({"rise": 1.5}, "at most 1, got 1.5"),
    ],
)
def test_what_is_no_cycle(options, text):
    with pytest.raises(ConfigError, match=text):
        hv.Cyclical(**options)
