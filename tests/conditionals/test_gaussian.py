"""Gaussians and their relatives: shapes, scales, starting points, errors."""

import math

import pytest
import torch
from torch.testing import assert_close

from pyro_hvae import Bernoulli, Gaussian, Laplace, StandardNormal
from pyro_hvae.errors import ConfigError


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
    bounded = Gaussian(4, 3, log_scale=(-1.0, -0.5), input_bound=None)
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
def test_a_scale_beyond_its_bound_has_a_gradient_back(overshot, bound):
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


@pytest.mark.parametrize("std, at_zero", [("exp", 1.0), ("sigmoid", 0.501), ("softplus", (0.6931472 + 1e-5) ** 0.5)])
def test_parametrisations_of_sigma(std, at_zero):
    """Zhao's sigmoid is the standard deviation, Soenderby's softplus the variance; each starts where it is told."""
    x = torch.zeros(2, 4)
    assert_close(Gaussian(4, 3, std=std)(x).base_dist.scale, torch.full((2, 3), at_zero))
    started = Gaussian(4, 3, std=std, init_log_scale=-2.0)(x).base_dist.scale
    assert_close(started, torch.full((2, 3), -2.0).exp(), rtol=1e-4, atol=0)


def test_a_learned_scale_is_one_number_that_moves():
    p = Gaussian(4, 3, scale=0.3, learn_scale=True)
    assert_close(p(torch.randn(5, 4)).base_dist.scale, torch.full((5, 3), 0.3))
    p(torch.zeros(5, 4)).log_prob(torch.ones(5, 3)).sum().backward()
    assert p.log_sigma is not None and p.log_sigma.grad is not None and p.log_sigma.grad > 0
    assert Gaussian(4, 3, scale=0.3).log_sigma is None


@pytest.mark.parametrize("scale", [1e-6, math.exp(-8), 0.2, math.exp(2), 412.0])
def test_a_learned_scale_starts_where_it_is_told_to(scale):
    """Also outside the range of log sigma, in which it then moves."""
    p = Gaussian(4, 3, scale=scale, learn_scale=True)
    sigma = p(torch.randn(5, 4)).base_dist.scale
    assert_close(sigma, torch.full((5, 3), scale))
    assert p.log_sigma is not None
    (grad,) = torch.autograd.grad(sigma[0, 0], p.log_sigma)
    assert_close(grad, torch.tensor(scale))  # d exp(s) / ds: no part of it is lost at the end of the range


def test_a_squashed_gaussian_mean_stays_in_the_unit_interval_and_starts_at_the_data():
    mean = torch.rand(3).clamp(0.1, 0.9)
    p = Gaussian(4, 3, gain=1e-9, scale=0.1, squash=True, output_mean=mean)
    assert_close(p(torch.randn(5, 4)).mean, mean.expand(5, 3))
    wild = Gaussian(4, 3, scale=0.1, squash=True, input_bound=None)(1e6 * torch.randn(50, 4)).mean
    assert wild.min() >= 0 and wild.max() <= 1


def test_the_standard_normal_follows_the_dtype_of_its_module():
    prior = StandardNormal((2, 3)).double()
    assert prior().mean.dtype == torch.float64 and prior().event_shape == (2, 3)
    assert not list(prior.parameters()) and not prior.state_dict()


def test_an_unknown_std_is_refused():
    with pytest.raises(ConfigError, match="no std called 'sigmoyd'. Did you mean 'sigmoid'"):
        Gaussian(4, 2, std="sigmoyd")


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
def test_unusable_arguments_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
