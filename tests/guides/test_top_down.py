"""The top-down guide: fusion by hand, and the ladder with exact messages against its evidence."""

import pyro.distributions as dist
import pytest
import torch
from linear_gaussian import Fixed
from torch import nn
from torch.testing import assert_close

from pyro_hvae import ELBO, Chain, Gaussian, StandardNormal, TopDown, recipes
from pyro_hvae.guides import fuse


def normal(mean, std):
    return dist.Normal(torch.as_tensor(mean), torch.as_tensor(std)).to_event(1)


def test_fusion_by_hand(float64):
    fused = fuse(normal([1.0, 0.0], [1.0, 2.0]), normal([3.0, 3.0], [1.0, 1.0]))
    assert_close(fused.mean, torch.tensor([2.0, 2.4]))
    assert_close(fused.variance, torch.tensor([0.5, 0.8]))


def test_fusion_is_the_normalised_product(float64):
    a, b = normal([0.3], [0.7]), normal([-1.0], [1.6])
    z = torch.linspace(-2, 2, 9)[:, None]
    gap = a.log_prob(z) + b.log_prob(z) - fuse(a, b).log_prob(z)
    assert_close(gap, gap[:1].expand_as(gap))


def test_fusion_with_a_flat_side_gives_the_other(float64):
    a, flat = normal([0.3], [0.7]), normal([5.0], [1e8])
    for fused in (fuse(a, flat), fuse(flat, a)):
        assert_close(fused.mean, a.mean)
        assert_close(fused.variance, a.variance)


def test_a_message_without_information_costs_no_kl():

    steps = [nn.Linear(4, 3), nn.Linear(3, 3)]
    prior = Gaussian(2, 2)
    blank = Fixed([torch.zeros(2, 3)], torch.full((2,), 1e6))
    guide = TopDown(steps, [blank, Gaussian(3, 2)], [prior])
    estimate = ELBO().estimate(Chain(StandardNormal(2), [prior], Gaussian(2, 4)), guide, torch.randn(5, 4))
    assert_close(estimate.terms["z1"], torch.zeros(5), atol=1e-4, rtol=0)


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

    objective = recipes.build("lvae", torch.rand(20, 6), {"dims": (3, 2), "widths": (5, 4)})[-1].objective
    assert objective.guide.levels[0] is objective.model.levels[0]
