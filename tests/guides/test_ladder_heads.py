"""Ladders of independent layers with their guide: the bound in closed form, independence, gates."""

import math

import pyro.distributions as dist
import torch
from torch import nn
from torch.testing import assert_close

from pyro_hvae import ELBO, Heads, Ladder, Rung, latents, log_likelihood
from pyro_hvae.conditionals.gaussian import StandardNormal
from pyro_hvae.objectives.elbo import kl_is_valid


class Law(nn.Module):
    """N(weight parent, std^2)."""

    def __init__(self, weight, std):
        super().__init__()
        self.weight, self.std = weight, std

    def forward(self, h):
        loc = h @ self.weight.T
        return dist.Normal(loc, self.std.expand_as(loc)).to_event(1)


class Times(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def forward(self, h):
        return h @ self.weight.T


def linear_pair(error=0.0):
    """x = A z2 + B z1 + noise with orthogonal loadings, so that the exact posterior is diagonal; and the law of x."""
    q, _ = torch.linalg.qr(torch.randn(5, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64))
    load, noise = q * torch.tensor([2.0, 1.0, 0.5]).double(), 0.7
    top, bottom = load[:, :2], load[:, 2:]
    identity = torch.eye(5).double()
    rungs = {
        # z2 -> A z2, then [B z1; A z2] -> their sum.
        "z2": Rung(Times(top), nn.Identity(), 5),
        "z1": Rung(Times(bottom), Times(torch.cat([identity, identity], 1)), 5),
    }
    priors = {"z2": StandardNormal(2).double(), "z1": StandardNormal(1).double()}
    model = Ladder(priors, rungs, Law(identity, torch.full((5,), noise).double())).double()
    precision = 1 + (load**2).sum(0) / noise**2
    gain = (load / noise**2 / precision).T * (1 + error)
    std = precision.rsqrt() * math.exp(error)
    guide = Heads({"z1": Law(gain[2:], std[2:]), "z2": Law(gain[:2], std[:2])}).double()
    evidence = torch.distributions.MultivariateNormal(torch.zeros(5).double(), load @ load.T + noise**2 * identity)
    return model, guide, evidence


def test_bound_of_a_linear_ladder_is_the_evidence_for_the_exact_guide_and_below_it_otherwise(float64):
    model, guide, evidence = linear_pair()
    x = evidence.sample((200,))
    assert_close(ELBO(analytic_kl=False).estimate(model, guide, x).bound(), evidence.log_prob(x))
    assert_close(ELBO(particles=7).estimate(model, guide, x).bound(), evidence.log_prob(x))
    mean = ELBO().estimate(model, guide, x.repeat(50, 1)).bound()
    assert abs(mean.mean() - evidence.log_prob(x).mean()) < 4 * mean.std() / len(mean) ** 0.5
    model, guide, _ = linear_pair(error=0.3)
    big = x.repeat(50, 1)
    elbo, iwae, exact = ELBO().estimate(model, guide, big).bound(), ELBO(20).estimate(model, guide, big).bound(), evidence
    gap = (iwae - elbo).mean(), (exact.log_prob(big) - iwae).mean()
    assert gap[0] > 0.05 and gap[1] > 0
    estimate = log_likelihood(model, guide, x, particles=2000)
    assert abs((estimate - evidence.log_prob(x)).mean()) < 0.02


def test_all_kls_are_analytic_and_right(float64):
    model, guide, evidence = linear_pair(error=0.2)
    x = evidence.sample((50,))
    elbo = ELBO()
    p, q = elbo.sites(model, guide, x)
    assert all(kl_is_valid(site, p, q) for site in q) and list(q) == ["z2", "z1"]
    rates = elbo.estimate(model, guide, x).rates()
    for site, head in guide.heads.items():
        own = head(x).base_dist
        kl = 0.5 * (own.loc**2 + own.scale**2 - 1 - 2 * own.scale.log()).sum(-1).mean()
        assert_close(rates[site], kl)


def test_layers_are_independent_given_x(float64):
    model, guide, evidence = linear_pair()
    z = latents(guide, evidence.sample((1,)).expand(20_000, -1))
    both = torch.cat([z["z2"], z["z1"]], 1)
    off = torch.corrcoef(both.T) - torch.eye(3)
    assert off.abs().max() < 4 / 20_000**0.5


class Head(nn.Module):
    def forward(self, h):
        return dist.Normal(h, torch.ones_like(h)).to_event(1)


def test_a_gate_of_the_guide_scales_what_its_head_reads():
    guide = Heads({"z1": Head(), "z2": Head()}, {"z1": nn.Linear(4, 4), "z2": nn.Linear(4, 4)})
    x = torch.rand(3, 4)
    before = latents(guide, x, mean=True)
    guide.gates["z1"].set(0.5)
    after = latents(guide, x, mean=True)
    assert_close(after["z1"], 0.5 * before["z1"])
    assert torch.equal(after["z2"], before["z2"])
