"""R-hat and effective sample sizes against the numbers of another library, and in the cases that they must notice."""

import math

import numpy as np
import pytest
import torch

from pyro_hvae import convergence
from pyro_hvae.metrics.chain_diagnostics import bulk_ess, rank_normalised_rhat, tail_ess


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def autoregression(rho, seed, *shape):
    draws = normal(seed, *shape)
    for t in range(1, len(draws)):
        draws[t] = rho * draws[t - 1] + (1 - rho**2) ** 0.5 * draws[t]
    return draws


def all_three(draws):
    return rank_normalised_rhat(draws), bulk_ess(draws), tail_ess(draws)


# AggregateDraws (T, C), and what ArviZ 0.23.4 prints: rhat(method="rank"), ess(method="bulk"), ess(method="tail").
ARVIZ = {
    "independent": (normal(0, 500, 4), 1.0005854497424216, 1832.4255980343723, 1932.0149971664882),
    "an odd number of draws": (normal(0, 101, 5), 1.0005268257979192, 488.2998636204132, 502.16774676622845),
    "AR(1), rho 0.9": (autoregression(0.9, 1, 1000, 4), 1.0119469857160628, 216.83934791850626, 476.43669495109964),
    "AR(1), rho -0.9": (autoregression(-0.9, 2, 500, 4), 1.010652852040033, 6602.059991327962, 465.77609806686945),
    "one ten times as wide": (normal(3, 500, 4) * [1, 1, 1, 10], 1.3577260602538712, 2145.071445760381, 31.20905283130937),
    "Cauchy": (
        np.random.default_rng(6).standard_cauchy(size=(500, 4)),
        1.000645103600398,
        1849.908612923489,
        1839.5250893949403,
    ),
    "apart": (normal(5, 200, 4) + np.arange(4), 1.5401085849988092, 7.4085918676802445, 57.59095882724048),
    "binary": (np.random.default_rng(7).integers(0, 2, (300, 4)) * 1.0, 0.9991687713480295, 1243.716543724376, 1200.0),
    "few draws": (autoregression(0.5, 8, 12, 6), 1.2732400261555281, 32.61275453001347, 55.28415961305925),
    "fewest draws": (autoregression(0.5, 8, 10, 6), 1.2611718615498133, 31.281501121564684, 58.368580060422936),
    "constant": (np.ones((100, 4)), math.nan, 400.0, 400.0),
    "not a number from half way on": (np.where(np.arange(400).reshape(100, 4) < 200, 0.5, np.nan), *3 * (math.nan,)),
}


@pytest.mark.parametrize("name", ARVIZ)
def test_the_numbers_are_those_of_arviz(name):
    draws, *expected = ARVIZ[name]
    assert all_three(draws) == pytest.approx(expected, rel=1e-9, nan_ok=True)


def test_alternating_chains_have_at_most_n_log10_n_effective_draws():
    draws = ARVIZ["AR(1), rho -0.9"][0]
    assert bulk_ess(draws) == pytest.approx(draws.size * math.log10(draws.size))


def test_chains_that_never_move_have_an_infinite_rhat():
    stuck = np.broadcast_to(np.arange(4.0), (100, 4))
    rhat, bulk, tail = all_three(stuck)
    assert rhat > 1e6 and bulk == pytest.approx(4.3478260869565215) and tail == pytest.approx(4.3478260869565215)


@pytest.mark.parametrize("length", [4, 5, 8, 9])
def test_short_chains_count_their_first_autocorrelation(length):
    """ArviZ gives N log10 N here, even to chains that never move."""
    slow = np.arange(6) + 1e-3 * normal(0, length, 6)
    assert 0 < bulk_ess(slow) < slow.size / 2 and rank_normalised_rhat(slow) > 2


def test_diverged_chains_are_nan_in_every_field():
    z = torch.randn(100, 4, 3)
    z[50:, 0, 1] = math.nan
    found = convergence(z)
    assert found is not None and found.draws == 400
    values = (found.rhat, found.rhat_median, found.ess, found.ess_median, found.ess_tail)
    assert all(math.isnan(value) for value in values)


@pytest.mark.parametrize("constant", [math.inf, -math.inf, math.nan])
def test_chains_at_infinity_diverged_though_they_stay_there(constant):
    z = torch.randn(100, 4, 2)
    z[:, :, 1] = constant
    found = convergence(z)
    assert found is not None and math.isnan(found.rhat) and math.isnan(found.ess) and math.isnan(found.ess_tail)
    assert convergence(z[:, :, 1:]) is not None


def test_extremes_and_medians_over_dimensions():
    z = torch.from_numpy(np.stack([ARVIZ[name][0][:100] for name in ("independent", "AR(1), rho 0.9", "apart")], -1))
    found, (rhat, bulk, tail) = convergence(z), np.transpose([all_three(draws) for draws in np.moveaxis(z.numpy(), 2, 0)])
    assert found is not None
    assert (found.rhat, found.rhat_median) == (rhat.max(), np.median(rhat))
    assert (found.ess, found.ess_median, found.ess_tail) == (bulk.min(), np.median(bulk), tail.min())


def test_independent_draws_are_all_effective():
    found = convergence(torch.randn(500, 10, 3))
    assert found is not None
    assert found.rhat < 1.01 and 4000 < found.ess_median < 6000 and found.draws == 5000


def test_effective_sample_size_of_an_autoregression():
    rho, z = 0.8, [torch.randn(20, 2)]
    for _ in range(1999):
        z.append(rho * z[-1] + (1 - rho**2) ** 0.5 * torch.randn(20, 2))
    found = convergence(torch.stack(z))
    assert found is not None and found.ess_median == pytest.approx(40_000 * (1 - rho) / (1 + rho), rel=0.15)


def test_chains_stuck_at_their_starts_are_noticed():
    stuck = torch.randn(1, 10, 2) + 0.1 * torch.randn(200, 10, 2)
    found = convergence(stuck)
    assert found is not None and found.rhat > 3 and found.ess < 50


def test_too_little_to_diagnose():
    assert convergence(torch.randn(3, 10, 2)) is None
    assert convergence(torch.randn(100, 3, 2)) is None
    assert convergence(torch.ones(100, 5, 2)) is None
    half = torch.cat([torch.randn(100, 5, 1), torch.ones(100, 5, 1)], -1)
    found = convergence(half)
    assert found is not None and found.rhat < 1.2
