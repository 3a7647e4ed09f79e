"""The VampPrior: the aggregate posterior, and the evidence under it in closed form."""

import math

import pytest
import torch
from linear_gaussian import Fixed
from torch.testing import assert_close

from pyro_hvae import BottomUp, Chain, Gaussian, Laplace, Vamp, log_likelihood
from pyro_hvae.errors import ConfigError


def test_vamp_at_the_data_is_the_aggregate_posterior(float64):
    x = torch.rand(30, 4)
    encoder = Gaussian(4, 2)
    prior = Vamp(encoder, x)
    prior.pseudo_inputs.data = x.clone()
    z = torch.randn(6, 2)
    aggregate = torch.logsumexp(encoder(x).log_prob(z[:, None]), -1) - math.log(30)
    assert_close(prior().log_prob(z), aggregate)


def test_pseudo_inputs_start_strictly_inside_and_reach_the_encoder():
    encoder = Gaussian(4, 2)
    prior = Vamp(encoder, torch.rand(10, 4).round())
    assert prior.pseudo_inputs.min() > 0 and prior.pseudo_inputs.max() < 1
    prior().log_prob(torch.randn(3, 2)).sum().backward()
    assert prior.pseudo_inputs.grad.any() and all(p.grad is not None for p in encoder.parameters())
    free = Vamp(encoder, 5 + torch.rand(10, 4), clip=None)
    assert free.pseudo_inputs.min() > 4  # other data are neither squeezed nor clipped
    prior.pseudo_inputs.data.fill_(7.0)
    assert_close(prior().loc, encoder(torch.ones(10, 4)).mean)


def test_likelihood_under_a_vamp_prior_is_the_mixtures_evidence(float64):
    """q = N(Ax, s), p(z) = its mixture at C data, x = Wz + noise: the evidence is a mixture of C Gaussians."""
    g = torch.Generator().manual_seed(1)
    a, w = 0.5 * torch.randn(2, 3, generator=g), torch.randn(3, 2, generator=g)
    s, noise = torch.full((2,), 0.4), torch.full((3,), 0.7)
    encoder, data = Fixed([a], s), torch.randn(6, 3, generator=g)
    prior = Vamp(encoder, data, clip=None)
    prior.pseudo_inputs.data = data.clone()
    model = Chain(prior, [], Fixed([w], noise))
    covariance = w @ torch.diag(s**2) @ w.T + torch.diag(noise**2)
    x = torch.randn(20, 3, generator=g)
    parts = torch.distributions.MultivariateNormal(data @ a.T @ w.T, covariance).log_prob(x[:, None])
    exact = torch.logsumexp(parts, -1) - math.log(6)
    wide = BottomUp([Fixed([a], 4 * s)])
    runs = torch.stack([log_likelihood(model, wide, x, 1000) for _ in range(20)])
    error = runs.std(0) / 20**0.5
    assert ((runs.mean(0) - exact).abs() < 4.5 * error + 1e-3).all()


def test_a_mixture_of_other_posteriors_is_refused():
    with pytest.raises(ConfigError, match="mixes diagonal Gaussians .* guide's is a Laplace. Use -o posterior=diagonal"):
        Vamp(Laplace(4, 2, scale=1.0), torch.rand(10, 4))()


def test_vamp_with_given_inputs_at_the_data_is_the_aggregate_posterior(float64):
    x, y = torch.rand(30, 4), torch.rand(30, 2)
    encoder = Gaussian([(4,), (4,), (2,)], 2)
    prior = Vamp(encoder, x, given=[y], mask=True)
    prior.pseudo_inputs.data = x.clone()
    z = torch.randn(6, 2)
    log_prob = prior().log_prob(z)
    aggregate = torch.logsumexp(encoder(x, torch.ones(30, 4), y).log_prob(z[:, None]), -1) - math.log(30)
    assert_close(log_prob, aggregate)
    log_prob.sum().backward()
    assert prior.pseudo_given[0].grad.any(1).all()
