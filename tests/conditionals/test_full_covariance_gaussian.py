"""The correlated Gaussian: density, start, divergences, captured gradients (float64)."""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from both_ways import assert_same
from scipy import stats
from torch.distributions import kl_divergence
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae.errors import ConfigError

pytestmark = pytest.mark.usefixtures("float64")
STDS = {"exp": {}, "sigmoid": {"std": "sigmoid"}, "softplus": {"std": "softplus"}}


def law(features=3, rows=4, gain=3.0, **options):
    """One with correlations of every size."""
    torch.manual_seed(1)
    return hv.FullCovarianceGaussian(5, features, (16,), gain=gain, **options)(torch.randn(rows, 5))


@pytest.mark.parametrize("std", STDS)
@pytest.mark.parametrize("features", [1, 2, 7])
def test_density_is_scipys(std, features):
    q = law(features, gain=1.0, **STDS[std])
    x = torch.randn(4, features)
    expected = [
        stats.multivariate_normal(m, c).logpdf(v)
        for m, c, v in zip(q.loc.detach().numpy(), q.covariance_matrix.detach().numpy(), x.numpy(), strict=True)
    ]
    assert_close(q.log_prob(x).detach().numpy(), np.array(expected))


def test_the_factor_is_sigma_times_a_unit_triangle():
    """Its marginal standard deviations are sigma (1 + sum A^2)^(1/2), and its covariance is that of draws."""
    q = law()
    factor = q.scale_tril
    sigma = factor.diagonal(dim1=-2, dim2=-1)
    assert (sigma > 0).all() and torch.equal(factor, factor.tril()) and factor.tril(-1).abs().max() > 0.1
    below = factor / sigma[..., None]
    assert_close(q.variance, sigma.square() * below.square().sum(-1))
    draws = q.sample((200_000,))
    assert_close(torch.stack([draws[:, i].T.cov() for i in range(4)]), q.covariance_matrix, atol=0.0, rtol=0.02)


@pytest.mark.parametrize("std", STDS)
def test_without_correlations_it_is_the_gaussian(std):
    options = {"gain": 0.0, "init_log_scale": -3.0, **STDS[std]}
    x = torch.randn(4, 5)
    full, plain = (kind(5, 3, (16,), **options)(x) for kind in (hv.FullCovarianceGaussian, hv.Gaussian))
    assert_close(full.stddev, torch.full((4, 3), math.exp(-3.0)))
    z = 0.05 * torch.randn(4, 3)
    assert_close(full.log_prob(z), plain.log_prob(z))
    prior = dist.Normal(torch.randn(3), torch.rand(3) + 0.5).to_event(1)
    assert_close(kl_divergence(full, prior), kl_divergence(plain, prior))


def test_kl_is_that_between_full_gaussians():
    """Torch has it for two full Gaussians; of a diagonal one it is the same law."""
    q = law()
    m, s = torch.randn(4, 3), torch.rand(4, 3) + 0.5
    expected = kl_divergence(q, dist.MultivariateNormal(m, scale_tril=s.diag_embed()))
    assert_close(kl_divergence(q, dist.Normal(m, s).to_event(1)), expected)
    standard = kl_divergence(q, hv.StandardNormal(3)())
    assert_close(standard, kl_divergence(q, dist.MultivariateNormal(torch.zeros(3), torch.eye(3))))


def test_kl_agrees_with_draws():
    q, p = law(rows=1), hv.StandardNormal(3)()
    z = q.sample((100_000,))
    ratios = (q.log_prob(z) - p.log_prob(z)).detach()
    score = (ratios.mean() - kl_divergence(q, p)) / (ratios.std() / math.sqrt(len(z)))
    assert score.abs() < 4


def test_kl_to_other_laws_is_left_to_draws():
    with pytest.raises(NotImplementedError):
        kl_divergence(law(), dist.Laplace(torch.zeros(3), 1.0).to_event(1))
    with pytest.raises(NotImplementedError):
        kl_divergence(law(), dist.Normal(torch.zeros(3), 1.0).expand([4, 3]).to_event(2))


def test_events_of_several_dims_are_refused():
    with pytest.raises(ConfigError, match=r"events \(D,\), got \(2, 3\). Use event=6"):
        hv.FullCovarianceGaussian(5, (2, 3))
    hv.FullCovarianceGaussian(5, 6)


@pytest.mark.parametrize("options", [{}, {"particles": 3}, {"gradient": "stl"}, {"particles": 3, "gradient": "dreg"}])
def test_captured_gradients_are_the_eager_ones(options):
    torch.manual_seed(0)
    model = hv.Chain(hv.StandardNormal(3), [], hv.Gaussian(3, 4, (8,), scale=0.5))
    elbo = hv.ELBO(**options)(model, hv.BottomUp([hv.FullCovarianceGaussian(4, 3, (8,))]))
    assert_same(elbo, [(torch.randn(6, 4),) for _ in range(2)], relative=1e-10)


def test_it_learns_a_correlated_posterior():
    """Of x = W z + noise with two latents, the exact posterior covariance is full: the bound becomes log p(x)."""
    torch.manual_seed(0)
    w = torch.tensor([[1.0, 0.8], [0.9, 1.0], [0.0, 0.5]])

    class Decoder(torch.nn.Module):
        def forward(self, z):
            return dist.Normal(z @ w.T, 0.5).to_event(1)

    x = torch.distributions.MultivariateNormal(torch.zeros(3), w @ w.T + 0.25 * torch.eye(3)).sample((500,))
    guide = hv.BottomUp([hv.FullCovarianceGaussian(3, 2, ())])
    elbo = hv.ELBO(gradient="stl")(hv.Chain(hv.StandardNormal(2), [], Decoder()), guide)
    optimiser = torch.optim.Adam(elbo.parameters(), lr=0.02)
    for _ in range(1500):
        optimiser.zero_grad()
        elbo(x).backward()
        optimiser.step()
    covariance = guide.levels[0](x[:1]).covariance_matrix[0]
    assert_close(covariance, torch.linalg.inv(torch.eye(2) + 4 * w.T @ w), atol=2e-3, rtol=0)
    exact = dist.MultivariateNormal(torch.zeros(3), w @ w.T + 0.25 * torch.eye(3)).log_prob(x).mean()
    assert_close(-elbo(x).detach(), exact, atol=5e-3, rtol=0)
