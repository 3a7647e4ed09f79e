"""Mixtures of Gaussians: density, moments and draws against torch's, and the evidence under a learnt one in closed form."""

import math

import pytest
import torch
from linear_gaussian import Fixed
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae.conditionals import GaussianMixture
from pyro_hvae.errors import ConfigError


def mixture(components=5, features=3, seed=0):
    """Means, scales and logits of a mixture."""
    g = torch.Generator().manual_seed(seed)
    loc = 2 * torch.randn(components, features, generator=g)
    return loc, 0.3 + torch.rand(components, features, generator=g), torch.randn(components, generator=g)


def stock(loc, scale, logits):
    """The same distribution of torch."""
    return torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=logits),
        torch.distributions.Independent(torch.distributions.Normal(loc, scale), 1),
    )


@pytest.mark.parametrize("weighted", [True, False])
def test_density_and_moments_are_torchs(float64, weighted):
    loc, scale, logits = mixture()
    p = GaussianMixture(loc, scale, logits if weighted else None)
    other = stock(loc, scale, logits if weighted else torch.zeros(5))
    z = 3 * torch.randn(4, 7, 3)
    for values in (p, p.expand((4, 7))):
        assert_close(values.log_prob(z), other.log_prob(z))
    assert_close(p.mean, other.mean)
    assert_close(p.variance, other.variance)
    assert_close(p.expand((2, 4)).variance, other.variance.expand(2, 4, 3))
    assert_close(p.weights, other.mixture_distribution.probs)


def test_responsibilities_are_bayes_rule(float64):
    loc, scale, logits = mixture()
    z = 3 * torch.randn(4, 7, 3)
    joint = logits.softmax(0) * torch.distributions.Normal(loc, scale).log_prob(z[..., None, :]).sum(-1).exp()
    found = GaussianMixture(loc, scale, logits).responsibilities(z)
    assert found.shape == (4, 7, 5)
    assert_close(found, joint / joint.sum(-1, keepdim=True))
    # Far from all components too, where every density is 0 in floating-point numbers.
    assert_close(GaussianMixture(loc, scale, logits).responsibilities(1e4 * z).sum(-1), torch.ones(4, 7))


def test_a_value_far_away_belongs_to_the_component_on_its_side():
    """Its density is 0 in floating-point numbers; of equal scales the ratio of two is exp(z (m_1 - m_2) / s^2)."""
    p = GaussianMixture(torch.tensor([[-1.0], [1.0]]), torch.ones(2, 1))
    assert_close(p.responsibilities(torch.tensor([[1e20], [-1e20]])), torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    wide = GaussianMixture(torch.tensor([[-1.0], [1.0]]), torch.tensor([[3.0], [2.0]]))
    assert_close(wide.responsibilities(torch.tensor([[1e20], [-1e20]])), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_infinite_value_has_no_density(dtype):
    p = GaussianMixture(*(t.to(dtype).requires_grad_() for t in mixture()))
    z = torch.zeros(5, 3, dtype=dtype)
    z[0, 1], z[1], z[2, 2], z[3, 0] = torch.inf, -torch.inf, torch.nan, torch.finfo(dtype).max
    found = p.log_prob(z)
    assert found[[0, 1, 3]].isneginf().all() and found[2].isnan() and found[4].isfinite(), found
    assert p.responsibilities(z)[:3].isnan().all() and p.responsibilities(z)[4].isfinite().all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(p.log_prob(z[[0, 1, 3, 4]])[-1], [p.loc, p.scale, p.logits]))


def test_gradients_are_torchs(float64):
    values = [t.requires_grad_() for t in mixture()]
    z = torch.randn(6, 3, requires_grad=True)
    ours, theirs = (torch.autograd.grad(p.log_prob(z).sum(), [*values, z]) for p in (GaussianMixture(*values), stock(*values)))
    for one, two in zip(ours, theirs, strict=True):
        assert_close(one, two)


@pytest.mark.parametrize("log_scale", [-8.0, -6.0, -3.0, 0.0])
def test_density_in_single_precision(log_scale):
    """Down to the narrowest components a Gaussian may have, far from the origin, where expanding the square loses most."""
    g = torch.Generator().manual_seed(0)
    loc, scale = 3 * torch.randn(500, 40, generator=g), torch.full((500, 40), log_scale).exp()
    z = loc[:64] + scale[:64] * torch.randn(64, 40, generator=g)
    exact = stock(loc.double(), scale.double(), torch.zeros(500)).log_prob(z.double())
    found = GaussianMixture(loc, scale).log_prob(z)
    # What the rounding of z - m itself to single precision leaves, in units of the narrowest sigma.
    assert found.dtype == torch.float32
    assert (found.double() - exact).abs().max() < 1e-3 + 40 * 4 * 1e-6 / math.exp(log_scale)


@pytest.mark.parametrize("weighted", [True, False])
def test_draws_have_the_moments(float64, weighted):
    loc, scale, logits = mixture()
    p = GaussianMixture(loc, scale, logits if weighted else None)
    z = p.expand((40_000,)).sample()
    assert z.shape == (40_000, 3)
    error = p.variance.sqrt() / 200
    assert ((z.mean(0) - p.mean).abs() < 4.5 * error).all()
    square = (z - p.mean).square()
    assert ((square.mean(0) - p.variance).abs() < 4.5 * square.std(0) / 200).all()
    apart = GaussianMixture(100 * loc, scale, logits).sample((40_000,))  # components that do not overlap
    counts = torch.cdist(apart, 100 * loc).argmin(1).bincount(minlength=5) / 40_000
    weights = logits.softmax(0)
    assert ((counts - weights).abs() < 4.5 * (weights * (1 - weights)).sqrt() / 200).all()


def test_what_is_no_mixture_is_refused():
    loc, scale, logits = mixture()
    for wrong in ((loc, -scale, logits), (loc, scale, logits * torch.nan)):
        with pytest.raises(ValueError, match="to satisfy the constraint"):
            GaussianMixture(*wrong, validate_args=True)
    with pytest.raises(ConfigError, match="at least one each, got 3 and 0"):
        hv.GaussianMixturePrior(3, components=0)
    for wrong in ((2, 2.5), (2.0, 2), ((2,), 2)):
        with pytest.raises(ConfigError, match="whole numbers and at least one each"):
            hv.GaussianMixturePrior(*wrong)


def test_the_prior_starts_with_components_that_differ_and_the_moments_of_a_standard_normal(float64):
    torch.manual_seed(0)
    p = hv.GaussianMixturePrior(8, components=4000)()
    assert_close(p.mean, torch.zeros(8), atol=0.05, rtol=0)
    assert_close(p.variance, torch.ones(8), atol=0.05, rtol=0)
    few = hv.GaussianMixturePrior(8, components=10)()
    assert few.responsibilities(few.loc).diagonal().mean() > 0.3  # a mean belongs to its own component, not to all alike


def test_likelihood_under_a_mixture_prior_is_the_evidence(float64):
    """x = Wz + noise: the evidence is a mixture of C Gaussians N(W m_c, W S_c W' + noise), with the weights of the prior."""
    g = torch.Generator().manual_seed(1)
    w, noise = torch.randn(3, 2, generator=g), torch.full((3,), 0.7)
    prior = hv.GaussianMixturePrior(2, components=4)
    prior.logits.data = torch.randn(4, generator=g)
    p = prior()
    model, x = hv.Chain(prior, [], Fixed([w], noise)), torch.randn(20, 3, generator=g)
    covariance = w @ torch.diag_embed(p.scale.detach() ** 2) @ w.T + torch.diag(noise**2)
    parts = torch.distributions.MultivariateNormal(p.loc.detach() @ w.T, covariance).log_prob(x[:, None])
    exact = torch.logsumexp(parts + prior.logits.log_softmax(0), -1).detach()
    wide = hv.BottomUp([Fixed([torch.linalg.pinv(w)], torch.full((2,), 1.5))])
    runs = torch.stack([hv.log_likelihood(model, wide, x, 1000) for _ in range(20)])
    error = runs.std(0) / 20**0.5
    assert ((runs.mean(0) - exact).abs() < 4.5 * error + 1e-3).all()
