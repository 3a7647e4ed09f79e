"""k-hat of importance weights against tails that are known."""

import math

import numpy as np
import pytest
import torch

from pyro_hvae.errors import ConfigError
from pyro_hvae.metrics import pareto_khat


def normal_weights(wide, draws=20_000, columns=20):
    """Log weights of p = N(0, wide^2) under draws of q = N(0, 1): the index of their tail is 1 - 1 / wide^2."""
    z = torch.randn(draws, columns, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (z**2 - z**2 / wide**2) / 2 - math.log(wide)


@pytest.mark.parametrize("index", [0.2, 0.5, 0.8])
def test_weights_of_normals_have_their_index(index):
    # A tail of a Gaussian approaches its Pareto law slowly: the bias at 20,000 draws is below 0.08.
    found = pareto_khat(normal_weights((1 - index) ** -0.5))
    assert abs(found.mean() - index) < 0.08 + 3 * found.std() / len(found) ** 0.5


@pytest.mark.parametrize("index", [0.3, 0.7, 1.2])
def test_weights_of_a_pareto_law_have_its_index(index):
    uniform = torch.rand(4000, 50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = pareto_khat(-index * uniform.log())  # P(w > t) = t^(-1 / index)
    # The prior of the fit draws k towards 1/2, with the weight of ten draws.
    tail = math.ceil(3 * math.sqrt(4000))
    expected = (index * tail + 5) / (tail + 10)
    assert abs(found.mean() - expected) < 4 * found.std(ddof=1) / 50**0.5


def test_a_scale_of_all_weights_changes_nothing():
    weights = normal_weights(1.5, 1000, 3)
    np.testing.assert_allclose(pareto_khat(weights), pareto_khat(weights + 500), rtol=1e-8)


def test_equal_weights_have_no_tail_and_one_weight_is_all_of_it():
    equal, one = torch.zeros(100, 1), torch.full((100, 1), -1e4)
    one[3] = 0
    assert pareto_khat(torch.cat([equal + 1e-7 * torch.rand(100, 1), one], 1)).tolist() == [-math.inf, math.inf]


def test_too_few_or_impossible_weights_are_refused():
    with pytest.raises(ConfigError, match="draws=29.*30 draws or more"):
        pareto_khat(torch.randn(29, 2))
    for wrong in (math.nan, math.inf):
        with pytest.raises(ConfigError, match="NaN or infinite"):
            pareto_khat(torch.randn(50, 2).index_fill(0, torch.tensor([3]), wrong))
    assert np.isfinite(pareto_khat(torch.randn(50, 1).index_fill(0, torch.tensor([3]), -math.inf))).all()  # a draw outside of p
