"""Laplace likelihoods: density, squashed means, and every tool that takes a likelihood."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from pyro_hvae import ELBO, BottomUp, Chain, Gaussian, Laplace, StandardNormal, generate, gibbs, log_likelihood, reconstruct
from pyro_hvae.inference.sampling import likelihood_name
from pyro_hvae.objectives.handlers import Noise, Record, standard_noise


@pytest.mark.parametrize("plates", [(), (7,), (5, 7)])
def test_a_laplace_is_the_absolute_error_over_its_scale(plates):
    """VLAE's weight of 8 on the absolute error is b = 1 / 8; the normaliser is log 2b a pixel."""
    p = Laplace((2, 3), (1, 2, 3), (8,), scale=0.125, input_mean=torch.full((2, 3), 0.5))
    parent, x = torch.randn(*plates, 2, 3), torch.rand(*plates, 1, 2, 3)
    mean = p.net(parent.flatten(-2) - 0.5).reshape(*plates, 1, 2, 3)
    q = p(parent)
    assert q.batch_shape == plates and q.event_shape == (1, 2, 3)
    assert_close(q.mean, mean)
    assert_close(q.log_prob(x), -8 * (x - mean).abs().sum((-3, -2, -1)) - 6 * math.log(0.25))


def test_a_squashed_laplace_stays_in_the_unit_interval_and_starts_at_the_data():
    mean = torch.tensor([0.0, 0.3, 0.9])
    parent = 1e6 * torch.randn(50, 4)
    p = Laplace(4, 3, gain=1e-12, scale=0.1, squash=True, output_mean=mean)
    assert_close(p(parent).mean, mean.clamp(1e-3).expand(50, 3))
    assert_close(Laplace(4, 3, gain=1e-12, scale=0.1, output_mean=mean)(parent).mean, mean.expand(50, 3))
    wild = Laplace(4, 3, scale=0.1, squash=True, input_bound=None)(parent).mean
    assert wild.min() == 0 and wild.max() == 1


class Line(torch.nn.Module):
    """z -> (2 z, z - 1)."""

    def forward(self, z):
        return torch.cat([2 * z, z - 1], -1)


def test_every_tool_takes_a_laplace_likelihood():
    """z ~ N(0, 1), x = (2 z, z - 1) + Laplace noise of scale 0.5."""
    torch.manual_seed(0)
    model, guide = Chain(StandardNormal(1), [], Laplace(1, 2, scale=0.5, net=Line())), BottomUp([Gaussian(2, 1, (8,))])
    x, z = torch.tensor([[0.6, -0.4], [-3.0, 1.0]]), torch.linspace(-9, 9, 20_001).double()[:, None]
    joint = -0.5 * z**2 - 0.5 * math.log(2 * math.pi) - 2 * (x.double() - torch.cat([2 * z, z - 1], 1)[:, None]).abs().sum(-1)
    exact = (joint.logsumexp(0) + math.log(18 / 20_000)).float()  # the two normalisers are log 1
    assert_close(log_likelihood(model, guide, x, particles=200_000).float(), exact, atol=0.02, rtol=0)
    drawn = generate(model, 40_000, mean=False)
    error = drawn["x"] - torch.cat([2 * drawn["z1"], drawn["z1"] - 1], 1)
    assert error.abs().mean().item() == pytest.approx(0.5, rel=0.02)  # the mean absolute deviation is the scale
    assert error.square().mean().item() == pytest.approx(0.5, rel=0.05)  # 2 b^2
    assert_close(reconstruct(model, guide, x), Line()(guide.levels[0](x).mean))
    with Record() as record, Noise({"z1": torch.full((2, 1), 1.5)}):
        model(x)
    assert_close(standard_noise(record.sites["x"]), 2 * (x - torch.tensor([3.0, 0.5])))
    assert likelihood_name(model) == "Laplace, scale 0.5"
    # A chain keeps the law of x, whose variances are 4 + 2 b^2 and 1 + 2 b^2; of 400 draws from the prior one is kept.
    prior = BottomUp([Gaussian(2, 1, (), gain=0.0, scale=1.0)])
    end = gibbs(model, prior, drawn["x"][:2000], steps=3, particles=400).x[-1]
    assert_close(end.mean(0), torch.tensor([0.0, -1.0]), atol=0.12, rtol=0)
    assert_close(end.var(0), torch.tensor([4.5, 1.5]), atol=0, rtol=0.08)


def test_the_constraint_is_the_absolute_error_over_the_scale():
    class Zero(nn.Module):
        def forward(self, x, size=1):
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("z1", dist.Delta(torch.zeros(len(x), 2), event_dim=1))

    model = Chain(StandardNormal(2), [], Laplace(2, 4, gain=0.0, scale=0.5))
    estimate = ELBO().estimate(model, Zero(), torch.tensor([[1.0, -1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 2.0]]))
    assert estimate.constraint("nats").item() == pytest.approx((4 / 0.5 + 2 / 0.5) / 2)
