"""The autoregressive guide: order of the sites, and the evidence with the exact posterior."""

import pytest
import torch
from linear_gaussian import skip_pair
from torch import nn
from torch.testing import assert_close

from pyro_hvae import ELBO, Autoregressive, Gaussian, latents


@pytest.mark.parametrize("particles", [1, 5])
def test_autoregressive_pair_with_the_exact_posterior_gives_the_evidence(float64, particles):
    model, guide, variance = skip_pair()
    x = torch.randn(30, 1) * variance**0.5
    exact = torch.distributions.Normal(0.0, variance**0.5).log_prob(x[:, 0])
    assert_close(ELBO(particles=particles, analytic_kl=False).estimate(model, guide, x).bound(), exact)
    off = skip_pair(error=0.3)[1]
    assert ELBO().estimate(model, off, x.repeat(200, 1)).bound().mean() < exact.mean() - 0.05


def test_autoregressive_guide_order_and_trunk():
    trunk = nn.Linear(4, 3)
    q = {"z2": Gaussian(3, 2), "z1": Gaussian(5, 1)}
    guide = Autoregressive(q, trunk)

    assert list(latents(guide, torch.randn(6, 4))) == ["z2", "z1"]
