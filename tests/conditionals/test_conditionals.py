"""Conditionals: shapes, scales, broadcasting."""

import math

import pytest
import torch
from torch.testing import assert_close

from pyro_hvae import (
    Bernoulli,
    BottomUp,
    Chain,
    Gaussian,
    Laplace,
    StandardNormal,
    generate,
    gibbs,
    log_likelihood,
    reconstruct,
)
from pyro_hvae.errors import ConfigError
from pyro_hvae.inference.sampling import likelihood_name
from pyro_hvae.networks.fully_connected import mlp
from pyro_hvae.networks.parent_network import join_parents
from pyro_hvae.objectives.handlers import Noise, Record, standard_noise


@pytest.mark.parametrize("plates", [(), (7,), (5, 7), (2, 5, 7)])
@pytest.mark.parametrize("options", [{}, {"scale": 0.3}, {"isotropic": True}])
def test_gaussian_shapes(plates, options):
    q = Gaussian((1, 4, 4), (2, 3), (8,), **options)(torch.randn(*plates, 1, 4, 4))
    assert q.batch_shape == plates and q.event_shape == (2, 3)
    assert q.log_prob(q.rsample()).shape == plates


def test_gaussian_scales():
    x = torch.randn(9, 4)
    assert (Gaussian(4, 3, scale=0.3)(x).base_dist.scale == 0.3).all()
    isotropic = Gaussian(4, 3, isotropic=True)(x).base_dist.scale
    assert (isotropic == isotropic[:, :1]).all() and len(isotropic[:, 0].unique()) == 9
    free = Gaussian(4, 3)(x).base_dist.scale
    assert not (free == free[:, :1]).all()
    bounded = Gaussian(4, 3, log_scale=(-1.0, -0.5))
    raw, scale = bounded.net(100 * x)[:, 3:], bounded(100 * x).base_dist.scale
    assert_close(scale[raw > -0.5], (math.exp(-0.5) * (1 + raw + 0.5))[raw > -0.5])
    assert_close(scale[raw < -1], (math.exp(-1) / (1 - 1 - raw))[raw < -1])
    inside = (raw >= -1) & (raw <= -0.5)
    assert_close(scale[inside], raw[inside].exp())


def test_starting_points():
    mean = torch.rand(1, 4, 4)
    p = Gaussian(2, (1, 4, 4), gain=1e-9, output_mean=mean, init_log_scale=-3.0)(torch.randn(5, 2))
    assert_close(p.mean, mean.expand(5, 1, 4, 4))
    assert_close(p.base_dist.scale, torch.full((5, 1, 4, 4), -3.0).exp())
    b = Bernoulli(2, (1, 4, 4), gain=1e-9, output_mean=mean.clamp(0.01, 0.99))(torch.randn(5, 2))
    assert_close(b.mean, mean.clamp(0.01, 0.99).expand(5, 1, 4, 4))
    # The input mean is subtracted: at it, a network without biases gives nothing.
    q = Gaussian(3, 2, input_mean=torch.tensor([1.0, 2.0, 3.0]))(torch.tensor([[1.0, 2.0, 3.0]]))
    assert_close(q.mean, torch.zeros(1, 2))


@pytest.mark.parametrize("overshot, bound", [(5.0, 2.0), (-9.0, -4.0)])
def test_a_scale_beyond_its_bound_finds_its_way_back(overshot, bound):
    q = Gaussian(1, 1, log_scale=(-4.0, 2.0))
    with torch.no_grad():
        q.net[-1].bias[1] = overshot
    x = torch.zeros(1, 1)
    # By 1 + 3 and 1 + 5 beyond e^2 and e^-4.
    assert_close(q(x).stddev.item(), math.exp(bound) * (4 if bound > 0 else 1 / 6))
    optimizer = torch.optim.SGD(q.parameters(), 0.5)
    for _ in range(100):
        loss = q(x).stddev.log().square().sum()  # least at one
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert abs(q(x).stddev.log().item()) < 0.1


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
    wild = Laplace(4, 3, scale=0.1, squash=True)(parent).mean
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


def test_several_parents_broadcast_and_concatenate():
    z1, z2, x = torch.randn(5, 3, 2), torch.randn(3, 4), torch.randn(3, 1, 2, 2)
    joined = join_parents([z1, z2, x], [(2,), (4,), (1, 2, 2)])
    assert joined.shape == (5, 3, 10)
    assert torch.equal(joined[2, 1], torch.cat([z1[2, 1], z2[1], x[1].flatten()]))
    assert Gaussian(6, 1)(z1, z2).batch_shape == (5, 3)
    assert Gaussian([(2,), (4,), (1, 2, 2)], 1)(z1, z2, x).batch_shape == (5, 3)


def test_standard_normal_follows_its_module():
    prior = StandardNormal((2, 3)).double()
    assert prior().mean.dtype == torch.float64 and prior().event_shape == (2, 3)
    assert not list(prior.parameters()) and not prior.state_dict()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Gaussian(4, 0), "positive whole numbers"),
        (lambda: Gaussian(4, -2), "positive whole numbers"),
        (lambda: Gaussian(4, (2, 1.5)), "positive whole numbers"),
        (lambda: Gaussian(4, 2, scale=0.0), "scale must be positive"),
        (lambda: Laplace(4, 2, scale=-0.5), "Laplace distribution's scale must be positive, got -0.5"),
        (lambda: Laplace(4, 2, scale=math.nan), "must be positive, got nan"),
        (lambda: Laplace(4, 2, scale=1.0, net=torch.nn.ReLU(), output_mean=torch.zeros(2)), "nn.Linear"),
        (lambda: Gaussian(4, 2, activation="tanhh"), "Did you mean 'tanh'"),
        (lambda: Gaussian(4, 2, net=torch.nn.ReLU(), output_mean=torch.zeros(2)), "nn.Linear"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("activation, variance", [("relu", 2.0), ("tanh", 1.0)])
def test_initial_weights_have_the_promised_spread(activation, variance):
    net = mlp(200, 50, (300,), activation, gain=0.1)
    assert net[0].weight.std().item() == pytest.approx((variance / 200) ** 0.5, rel=0.05)
    assert net[2].weight.std().item() == pytest.approx(0.1 * (1 / 300) ** 0.5, rel=0.05)
    assert not net[0].bias.any()
