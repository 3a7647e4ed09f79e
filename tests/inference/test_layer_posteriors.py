"""q(z_l | x) of layers: Gaussians where they are, mixtures where they are not (closed forms, float64)."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from linear_gaussian import Fixed, LinearGaussianChain
from torch.testing import assert_close

from pyro_hvae import BottomUp, Gaussian, TopDown
from pyro_hvae.errors import ConfigError
from pyro_hvae.inference.layer_posteriors import direct_data_dependence, posteriors

pytestmark = pytest.mark.usefixtures("float64")


def chain_guide():
    """x -> z1 -> z2, linear with diagonal noise: q(z2 | x) is a Gaussian with a full covariance."""
    g = torch.Generator().manual_seed(0)
    w1, w2 = torch.randn(2, 3, generator=g), torch.randn(2, 2, generator=g)
    s1, s2 = torch.tensor([0.5, 1.1]), torch.tensor([0.3, 0.8])
    return BottomUp([Fixed([w1], s1), Fixed([w2], s2)]), (w1, w2, s1, s2)


def test_the_first_layer_is_gaussian_and_the_next_a_mixture_that_converges_to_its_law():
    guide, (w1, w2, s1, s2) = chain_guide()
    x = torch.randn(6, 3)
    found = posteriors(guide, x, draws=4000)
    assert list(found) == ["z1", "z2"] and found["z1"].size == 1 and found["z2"].size == 4000
    assert_close(found["z1"].mean, x @ w1.T)
    assert_close(found["z1"].stds[:, 0], s1.expand(6, 2))
    variance = found["z2"].means.var(1) + s2**2
    spread = (w2**2 @ s1**2).sqrt()
    assert ((found["z2"].mean - x @ w1.T @ w2.T).abs() < 4 * spread / 4000**0.5).all()
    assert_close(variance, (spread**2 + s2**2).expand(6, 2), rtol=0.1, atol=0)


def test_heads_that_see_x_alone_are_all_gaussian_and_cost_one_draw():
    calls = []

    def guide(x, size=1):
        with pyro.plate("data", len(x), dim=-1):
            calls.append(len(x))
            for name, scale in (("z1", 1.0), ("z2", 2.0)):
                pyro.sample(name, dist.Normal(scale * x, scale).to_event(1))

    x = torch.randn(9000, 2)
    found = posteriors(guide, x)
    assert {name: q.size for name, q in found.items()} == {"z1": 1, "z2": 1}
    assert_close(found["z2"].mean, 2 * x)
    assert calls == [16, 4096, 4096, 808]


def test_a_layer_that_most_data_cut_off_is_a_mixture():
    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            z1 = pyro.sample("z1", dist.Normal(x, 1.0).to_event(1))
            pyro.sample("z2", dist.Normal(10.0 * (z1 > 0) - 5, 1.0).to_event(1))

    found = posteriors(guide, torch.cat([torch.full((20, 1), -50.0), torch.zeros(20, 1)]), draws=2000)["z2"]
    assert found.size == 2000 and (found.means[:20] == -5).all()
    assert_close(found.means[20:].var(1), torch.full((20, 1), 25.0), rtol=0.02, atol=0)


def test_a_top_down_guide_has_its_mixtures_below():
    level = Gaussian(2, 3, ())
    guide = TopDown([torch.nn.Linear(4, 5), torch.nn.Linear(5, 5)], [Gaussian(5, 3, ()), Gaussian(5, 2, ())], [level])
    found = posteriors(guide, torch.randn(5, 4), draws=7)
    assert {name: q.means.shape for name, q in found.items()} == {"z2": (5, 1, 2), "z1": (5, 7, 3)}


def test_draws_are_seeded_and_leave_the_callers_stream_alone():
    guide, _ = chain_guide()
    x = torch.randn(5, 3)
    torch.manual_seed(1)
    before = torch.rand(1)
    torch.manual_seed(1)
    one, two, other = (posteriors(guide, x, seed=seed)["z2"].means for seed in (0, 0, 1))
    assert torch.equal(torch.rand(1), before)
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_which_sites_still_see_the_data():
    guide, _ = chain_guide()
    x = torch.randn(2, 3)
    assert direct_data_dependence(guide, x) == {"z1": True, "z2": False}
    level = Gaussian(2, 3, ())
    ladder = TopDown([torch.nn.Linear(3, 5), torch.nn.Linear(5, 5)], [Gaussian(5, 3, ()), Gaussian(5, 2, ())], [level])
    assert direct_data_dependence(ladder, x) == {"z2": True, "z1": True}


def test_what_is_no_gaussian_is_refused():
    with pytest.raises(ConfigError, match=r"q\(z1 \| \.\.\.\) of this guide is a MultivariateNormal"):
        posteriors(LinearGaussianChain((2,)).guide(), torch.zeros(3, 4))
    with pytest.raises(ConfigError, match="draws=1: layers above"):
        posteriors(chain_guide()[0], torch.zeros(3, 3), draws=1)
