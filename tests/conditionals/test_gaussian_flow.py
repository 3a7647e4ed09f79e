"""A flow around a Gaussian: its start, density, both directions, captured gradients (float64)."""

import math
import pickle

import pytest
import torch
from both_ways import assert_same
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae.errors import ConfigError, DeviceError, NoMeanWarning

pytestmark = pytest.mark.usefixtures("float64")


def bent(features=2, seed=0, **options):
    """A conditional far from the identity."""
    torch.manual_seed(seed)
    q = hv.GaussianFlow(4, features, (16,), gain=1.0, **options)
    with torch.no_grad():
        for layer in q.flow.flow.transform.transforms:
            layer.hyper[-1].weight *= 10
            layer.hyper[-1].bias.normal_(0, 0.5)
    return q


@pytest.mark.parametrize("features", [1, 2, 5])
def test_it_starts_narrow_and_near_the_gaussian(features):
    torch.manual_seed(0)
    q = hv.GaussianFlow(4, features, (16,), init_log_scale=-3.0)(torch.randn(6, 4))
    draws = q.sample((4000,))
    assert_close(draws.std(0), torch.full((6, features), math.exp(-3.0)), atol=0, rtol=0.3)
    off = (draws - draws.mean(0)) / draws.std(0)
    assert off.pow(3).mean(0).abs().max() < 0.2  # no skewness to speak of


@pytest.mark.parametrize("seed", [0, 1])
def test_density_integrates_to_one(seed):
    law = bent(seed=seed)(torch.randn(1, 4))
    centre, width = law.sample((1000,)).mean(0), law.sample((1000,)).std(0)
    side = torch.linspace(-7, 7, 501)
    grid = centre + torch.cartesian_prod(side, side) * width
    with torch.no_grad():
        total = law.log_prob(grid).exp().sum() * (side[1] - side[0]) ** 2 * width.prod()
    assert_close(total, torch.ones(()), atol=2e-3, rtol=0)


@pytest.mark.parametrize("features", [1, 2, 5])
def test_draws_come_back_and_have_the_density_of_the_jacobian(features):
    law = bent(features)(torch.randn(1, 4))
    z = torch.randn(1, features)

    def image(noise):
        inner = law.base_dist.law.transform.inv(noise)
        return law.transforms[0](inner)

    jacobian = torch.autograd.functional.jacobian(image, z)[0, :, 0]
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum() - jacobian.det().abs().log()
    assert_close(law.log_prob(image(z))[0], expected)


@pytest.mark.parametrize("far", [6.0, 12.0, 50.0])
def test_inverse_is_exact_far_away(far):
    law = bent(3)(torch.randn(2, 4)).base_dist
    x = torch.tensor([[far, -far, 0.5], [-far, 0.3, far]])
    assert not law.checked
    assert_close(law.law.transform.inv(law.law.transform(x)), x)


def test_it_can_be_skewed():
    draws = bent()(torch.randn(1, 4)).sample((20_000,))[:, 0]
    off = (draws - draws.mean(0)) / draws.std(0)
    assert off.pow(3).mean(0).abs().max() > 0.2 or (off[:, 0] * off[:, 1]).mean().abs() > 0.2


def test_its_mean_is_the_image_of_the_middle():
    q, x = bent(), torch.randn(3, 4)
    with pytest.warns(NoMeanWarning, match="the image of its base's mean is used"):
        z = hv.latents(hv.BottomUp([q]), x, mean=True)["z1"]
    law = q(x)
    assert_close(law.base_dist.law.transform(law.transforms[0].inv(z)), torch.zeros(3, 2), atol=1e-9, rtol=0)


def test_events_of_several_dims_and_a_missing_zuko_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match=r"events \(D,\), got \(2, 3\). Use event=6"):
        hv.GaussianFlow(5, (2, 3))
    monkeypatch.setitem(__import__("sys").modules, "zuko", None)
    with pytest.raises(DeviceError, match="a normalizing flow needs the extra 'flows'"):
        hv.GaussianFlow(5, 6)


@pytest.mark.parametrize("options", [{}, {"particles": 3, "gradient": "dreg"}])
def test_captured_gradients_are_the_eager_ones(options):
    torch.manual_seed(0)
    model = hv.Chain(hv.StandardNormal(3), [], hv.Gaussian(3, 4, (8,), scale=0.5))
    elbo = hv.ELBO(**options)(model, hv.BottomUp([hv.GaussianFlow(4, 3, (8,))]))
    assert_same(elbo, [(torch.randn(6, 4),) for _ in range(2)], relative=1e-10)


def test_it_can_be_pickled():
    q, x = bent(), torch.randn(3, 4)
    assert torch.equal(pickle.loads(pickle.dumps(q))(x).log_prob(torch.zeros(3, 2)), q(x).log_prob(torch.zeros(3, 2)))
