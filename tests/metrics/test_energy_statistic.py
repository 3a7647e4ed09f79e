"""The energy distance against its closed form, and its standard error against repetition."""

import math

import pytest
import torch

from pyro_hvae import energy_distance
from pyro_hvae.errors import ConfigError


def exact(shift):
    """Between N(0, 1) and N(shift, 1): E|N(m, 2)| is known."""

    def mean_abs(m):
        return 2 / math.sqrt(math.pi) * math.exp(-(m**2) / 4) + m * math.erf(m / 2)

    return 2 * mean_abs(shift) - 2 * mean_abs(0.0)


def test_value_and_error_over_repetitions():
    runs = [energy_distance(torch.randn(100, 1), torch.randn(80, 1) + 1.0) for _ in range(300)]
    values = torch.tensor([r.value for r in runs])
    assert abs(values.mean() - exact(1.0)) < 4 * values.std() / 300**0.5
    assert torch.tensor([r.stderr for r in runs]).mean() / values.std() == pytest.approx(1.0, abs=0.15)


def test_equal_laws_are_zero_in_the_mean():
    values = torch.tensor([energy_distance(torch.randn(60, 3), torch.randn(60, 3)).value for _ in range(300)])
    assert abs(values.mean()) < 4 * values.std() / 300**0.5 and values.min() < 0


def test_draws_of_one_chain_count_once():
    """Ten copies of each datum: the value stays unbiased, and the error is that of the data, not of their copies."""
    x, y = torch.randn(50, 2), torch.randn(70, 2) + 1
    copies, groups = x.repeat(10, 1), torch.arange(50).repeat(10)
    once, often = energy_distance(x, y), energy_distance(copies, y, groups)
    assert often.value == pytest.approx(once.value, abs=1e-9)
    assert often.stderr == pytest.approx(once.stderr, rel=1e-6)
    assert energy_distance(copies, y).stderr < 0.8 * once.stderr
    order = torch.randperm(500)
    assert energy_distance(copies[order], y, 3 * groups[order] + 1).value == pytest.approx(once.value, abs=1e-9)


def test_error_with_chains_of_unequal_lengths():
    """Twenty chains of one draw and five of twenty: the long ones decide the spread."""
    sizes = torch.tensor([1] * 20 + [20] * 5)
    groups = torch.arange(25).repeat_interleave(sizes)
    runs = []
    for _ in range(300):
        x = (torch.randn(25, 1) + 0.2 * torch.randn(25, 1)).repeat_interleave(sizes, 0)
        runs.append(energy_distance(x, torch.randn(100, 1) + 1, groups))
    values = torch.tensor([r.value for r in runs])
    typical = torch.tensor([r.stderr for r in runs]).square().mean().sqrt()
    assert (typical / values.std()).item() == pytest.approx(1.0, abs=0.25)


def test_images_and_bad_input():
    x = torch.rand(4, 1, 3, 3)
    assert energy_distance(x, x).value < 0  # the U-statistic leaves out pairs of one datum with itself
    with pytest.raises(ConfigError, match="data of one shape"):
        energy_distance(x, torch.rand(4, 9))
    with pytest.raises(ConfigError, match="two data"):
        energy_distance(x[:1], x)
    with pytest.raises(ConfigError, match="two data"):
        energy_distance(x, x, torch.zeros(4))


def test_the_error_of_three_groups_by_hand():
    """Shares -9, 0 and 3 of chains at 0, 3 and 6: their sample variance 39 over three chains."""
    x, y = torch.tensor([[0.0], [3.0], [6.0]]), torch.zeros(2, 1)
    for copies in (1, 4):
        groups = torch.arange(3).repeat(copies)
        assert energy_distance(x.repeat(copies, 1), y, groups).stderr == pytest.approx(13**0.5, rel=1e-12)
