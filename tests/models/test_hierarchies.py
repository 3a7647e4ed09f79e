"""The stacked hierarchies' parts against closed forms: fusion, exact ladders, mixtures, skip connections."""

import math

import pyro.distributions as dist
import pytest
import torch
from linear_gaussian import Fixed, skip_pair
from torch import nn
from torch.testing import assert_close

from pyro_hvae import ELBO, Autoregressive, BottomUp, Chain, Gaussian, TopDown, Vamp, log_likelihood
from pyro_hvae.conditionals.vamp import GaussianMixture
from pyro_hvae.guides import fuse


def normal(mean, std):
    return dist.Normal(torch.as_tensor(mean), torch.as_tensor(std)).to_event(1)


# ---- fusion


def test_fusion_by_hand(float64):
    fused = fuse(normal([1.0, 0.0], [1.0, 2.0]), normal([3.0, 3.0], [1.0, 1.0]))
    assert_close(fused.mean, torch.tensor([2.0, 2.4]))
    assert_close(fused.variance, torch.tensor([0.5, 0.8]))


def test_fusion_is_the_normalised_product(float64):
    a, b = normal([0.3], [0.7]), normal([-1.0], [1.6])
    z = torch.linspace(-2, 2, 9)[:, None]
    gap = a.log_prob(z) + b.log_prob(z) - fuse(a, b).log_prob(z)
    assert_close(gap, gap[:1].expand_as(gap))


def test_fusion_with_nothing_on_one_side(float64):
    a, flat = normal([0.3], [0.7]), normal([5.0], [1e8])
    for fused in (fuse(a, flat), fuse(flat, a)):
        assert_close(fused.mean, a.mean)
        assert_close(fused.variance, a.variance)


def test_a_message_without_information_costs_no_kl():
    from pyro_hvae import StandardNormal

    steps = [nn.Linear(4, 3), nn.Linear(3, 3)]
    prior = Gaussian(2, 2)
    blank = Fixed([torch.zeros(2, 3)], torch.full((2,), 1e6))
    guide = TopDown(steps, [blank, Gaussian(3, 2)], [prior])
    estimate = ELBO().estimate(Chain(StandardNormal(2), [prior], Gaussian(2, 4)), guide, torch.randn(5, 4))
    assert_close(estimate.terms["z1"], torch.zeros(5), atol=1e-4, rtol=0)


# ---- the ladder with exact messages


def exact_ladder():
    """z2 -> z1 -> x with columns of one length, so that all true conditionals are diagonal."""
    g = torch.Generator().manual_seed(3)
    a, c, s1, s = 0.8, 1.7, 0.5, 0.6
    turn = torch.linalg.qr(torch.randn(2, 2, generator=g))[0] * a
    w = torch.linalg.qr(torch.randn(4, 2, generator=g))[0] * c
    ones = torch.ones(2)
    bias = torch.randn(4, generator=g)
    p2, p1, px = Fixed([], ones), Fixed([turn], s1 * ones), Fixed([w], s * torch.ones(4), bias)
    evidence_cov = w @ (turn @ turn.T + s1**2 * torch.eye(2)) @ w.T + s**2 * torch.eye(4)
    # The message about z1 is its likelihood; the top message is the exact posterior, prior included.
    m1 = Fixed([w.T / c**2], s / c * ones, -bias @ w / c**2)
    v = s1**2 + s**2 / c**2  # of z2's message through z1
    precision = 1 + a**2 / v
    top = (turn.T @ w.T / c**2) / v / precision
    m2 = Fixed([top], precision**-0.5 * ones, -bias @ top.T)
    model = Chain(p2, [p1], px)
    guide = TopDown([nn.Identity(), nn.Identity()], [m1, m2], [p1])
    return model, guide, torch.distributions.MultivariateNormal(bias, evidence_cov)


@pytest.mark.parametrize("particles", [1, 7])
def test_ladder_with_exact_messages_gives_the_evidence(float64, particles):
    model, guide, evidence = exact_ladder()
    x = evidence.sample((50,))
    bound = ELBO(particles=particles, analytic_kl=False).estimate(model, guide, x).bound()
    assert_close(bound, evidence.log_prob(x))


def test_ladder_takes_kls_in_closed_form_and_agrees_in_the_mean(float64):
    model, guide, evidence = exact_ladder()
    x = evidence.sample((1,)).expand(20_000, 4)
    bound = ELBO().estimate(model, guide, x).bound()
    assert abs(bound.mean() - evidence.log_prob(x[0])) < 4 * bound.std() / 20_000**0.5
    assert bound.std() > 1e-3  # the closed form does not cancel the likelihood's noise, so this is another estimator


def test_ladder_shares_the_generative_conditionals():
    from pyro_hvae import recipes

    objective = recipes.build("lvae", torch.rand(20, 6), {"dims": (3, 2), "widths": (5, 4)})[-1].objective
    assert objective.guide.levels[0] is objective.model.levels[0]


# ---- VampPrior


def mixture(components=5, features=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    loc = 2 * torch.randn(components, features, generator=g)
    return loc, 0.3 + torch.rand(components, features, generator=g)


def test_mixture_density_is_torchs(float64):
    loc, scale = mixture()
    stock = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(5)),
        torch.distributions.Independent(torch.distributions.Normal(loc, scale), 1),
    )
    z = 3 * torch.randn(4, 7, 3)
    assert_close(GaussianMixture(loc, scale).log_prob(z), stock.log_prob(z))
    assert_close(GaussianMixture(loc, scale).mean, stock.mean)


@pytest.mark.parametrize("log_scale", [-8.0, -6.0, -3.0, 0.0])
def test_mixture_density_in_single_precision(log_scale):
    """Down to the narrowest components a Gaussian may have, far from the origin, where expanding the square loses most."""
    g = torch.Generator().manual_seed(0)
    loc, scale = 3 * torch.randn(500, 40, generator=g), torch.full((500, 40), log_scale).exp()
    z = loc[:64] + scale[:64] * torch.randn(64, 40, generator=g)
    stock = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(500)),
        torch.distributions.Independent(torch.distributions.Normal(loc.double(), scale.double()), 1),
    )
    exact = stock.log_prob(z.double())
    found = GaussianMixture(loc, scale).log_prob(z)
    # What the rounding of z - m itself to single precision leaves, in units of the narrowest sigma.
    assert found.dtype == torch.float32
    assert (found.double() - exact).abs().max() < 1e-3 + 40 * 4 * 1e-6 / math.exp(log_scale)


def test_mixture_samples_every_component(float64):
    loc, scale = mixture()
    z = GaussianMixture(loc, scale).expand((20_000,)).sample()
    assert z.shape == (20_000, 3)
    assert_close(z.mean(0), loc.mean(0), atol=0.08, rtol=0)
    second = (scale**2 + loc**2).mean(0)
    assert_close((z**2).mean(0), second, atol=0.25, rtol=0)


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
    x = torch.randn(40, 3, generator=g)
    parts = torch.distributions.MultivariateNormal(data @ a.T @ w.T, covariance).log_prob(x[:, None])
    exact = torch.logsumexp(parts, -1) - math.log(6)
    wide = BottomUp([Fixed([a], 4 * s)])
    runs = torch.stack([log_likelihood(model, wide, x, 2000) for _ in range(20)])
    error = runs.std(0) / 20**0.5
    assert ((runs.mean(0) - exact).abs() < 4.5 * error + 1e-3).all()


# ---- skip connections


@pytest.mark.parametrize("particles", [1, 5])
def test_autoregressive_pair_with_the_exact_posterior_gives_the_evidence(float64, particles):
    model, guide, variance = skip_pair()
    x = torch.randn(30, 1) * variance**0.5
    exact = torch.distributions.Normal(0.0, variance**0.5).log_prob(x[:, 0])
    assert_close(ELBO(particles=particles, analytic_kl=False).estimate(model, guide, x).bound(), exact)
    off = skip_pair(error=0.3)[1]
    assert ELBO().estimate(model, off, x.repeat(200, 1)).bound().mean() < exact.mean() - 0.05


def test_skip_gives_the_nearest_first_and_markov_the_nearest_alone():
    seen = {}

    class Spy(Fixed):
        def forward(self, *parents):
            seen[self.name] = [p.mean().round().item() for p in parents]
            return super().forward(*parents)

    def spy(name, count, mean):
        p = Spy([torch.zeros(1, 1)] * count, torch.full((1,), 1e-3), mean)
        p.name = name
        return p

    for skip, expected in ((True, {"z2": [3.0], "z1": [2.0, 3.0], "x": [1.0, 2.0, 3.0]}), (False, {"z1": [2.0], "x": [1.0]})):
        count = (lambda n: n) if skip else (lambda n: min(n, 1))
        levels = [spy("z2", count(1), 2.0), spy("z1", count(2), 1.0)]
        Chain(spy("z3", 0, 3.0), levels, spy("x", count(3), 0.0), skip=skip)(size=4)
        assert expected.items() <= seen.items()


def test_autoregressive_guide_order_and_trunk():
    trunk = nn.Linear(4, 3)
    q = {"z2": Gaussian(3, 2), "z1": Gaussian(5, 1)}
    guide = Autoregressive(q, trunk)
    from pyro_hvae import latents

    assert list(latents(guide, torch.randn(6, 4))) == ["z2", "z1"]
