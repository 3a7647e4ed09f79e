"""p(c | x) of mixture priors: by Bayes' rule, by quadrature, and what has no components."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from linear_gaussian import Fixed
from numpy.polynomial.hermite_e import hermegauss
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae.errors import ConfigError
from pyro_hvae.inference import mixture_priors

pytestmark = pytest.mark.usefixtures("float64")


def mixture(components=3, features=1):
    torch.manual_seed(0)
    prior = hv.GaussianMixturePrior(features, components)
    prior.loc.data = torch.linspace(-2, 2, components)[:, None].expand(-1, features).clone()
    prior.logits.data = torch.randn(components)
    return prior


def test_the_mean_over_the_guide_by_quadrature():
    prior, x = mixture(), torch.linspace(-3, 3, 7)[:, None]
    guide = hv.BottomUp([Fixed([torch.ones(1, 1)], torch.tensor([0.7]))])
    model = hv.Chain(prior, [], Fixed([torch.ones(1, 1)], torch.ones(1)))
    nodes, weights = map(torch.as_tensor, hermegauss(60))
    exact = (prior().responsibilities((x + 0.7 * nodes)[..., None]) * weights[:, None]).sum(1) / weights.sum()
    found = hv.responsibilities(model, guide, x, draws=4000)
    assert found.shape == (7, 3)
    assert_close(found.sum(1), torch.ones(7))
    assert_close(found, exact.detach(), atol=4.5 * 0.5 / 4000**0.5, rtol=0)
    assert torch.equal(found, hv.responsibilities(model, guide, x, draws=4000, site="z1"))
    assert not torch.equal(found, hv.responsibilities(model, guide, x, draws=4000, seed=1))


def test_under_the_exact_posterior_it_is_bayes_rule_for_x():
    """x = z + noise: p(z | x) is a mixture, and p(c | x) is proportional to w_c N(x; m_c, s_c^2 + noise^2)."""
    prior, noise = mixture(components=2), 0.5
    p, x = prior(), torch.linspace(-3, 4, 5)[:, None]
    model = hv.Chain(prior, [], Fixed([torch.ones(1, 1)], torch.tensor([noise])))
    total = (p.scale.T.square() + noise**2).sqrt()
    exact = (p.logits + dist.Normal(p.loc.T, total).log_prob(x)).softmax(-1).detach()

    def guide(x):
        with pyro.plate("data", len(x)):
            mean = (noise**2 * p.loc.T + p.scale.T.square() * x) / total.square()
            component = dist.Categorical(exact).sample()[:, None]
            std = (noise * p.scale.T / total).expand_as(mean)
            pyro.sample("z1", dist.Normal(mean.gather(1, component), std.gather(1, component)).to_event(1))

    assert_close(hv.responsibilities(model, guide, x, draws=4000), exact, atol=4.5 * 0.5 / 4000**0.5, rtol=0)


def test_a_vampprior_has_a_component_for_each_pseudo_input():
    x = torch.randn(6, 4)
    encoder = hv.Gaussian(4, 2)
    model, guide = hv.Chain(hv.Vamp(encoder, x, None), [], hv.Gaussian(2, 4)), hv.BottomUp([encoder])
    found = hv.responsibilities(model, guide, x)
    assert found.shape == (6, 6) and (found > 0).all()
    assert_close(found.sum(1), torch.ones(6))


def test_the_layer_with_the_mixture():
    chain = hv.Chain(mixture(features=2), [hv.Gaussian(2, 3)], hv.Gaussian(3, 4))
    guide, x = hv.BottomUp([hv.Gaussian(4, 3), hv.Gaussian(3, 2)]), torch.randn(5, 4)
    assert [*mixture_priors(chain, x)] == ["z2"]
    assert hv.responsibilities(chain, guide, x).shape == (5, 3)
    with pytest.raises(ConfigError, match=r"but p\(z1\) is a Normal. Train with -o prior=gmm"):
        hv.responsibilities(chain, guide, x, site="z1")
    with pytest.raises(ConfigError, match="no latent site called 'z3'"):
        hv.responsibilities(chain, guide, x, site="z3")
    with pytest.raises(ConfigError, match="draws=0"):
        hv.responsibilities(chain, guide, x, draws=0)
    plain = hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, 4))
    with pytest.raises(ConfigError, match=r"only a mixture prior has components, but p\(z1\) is a Normal"):
        hv.responsibilities(plain, hv.BottomUp([hv.Gaussian(4, 2)]), x)
    x = torch.rand(12, 6)
    ladder = hv.recipes.build("vlae", x, {"dims": (2, 2), "prior": "gmm", "components": 4})[0].objective
    with pytest.raises(ConfigError, match="layers z2, z1 have a mixture prior each. Say which: site='z2'"):
        hv.responsibilities(ladder.model, ladder.guide, x)
    assert hv.responsibilities(ladder.model, ladder.guide, x, site="z1").shape == (12, 4)


def test_inputs_beside_x():
    x, y = torch.randn(5, 4), torch.eye(2)[torch.arange(5) % 2]
    model = hv.Chain(mixture(), [], hv.Gaussian([(1,), (2,)], 4), given=["y"])
    guide = hv.BottomUp([hv.Gaussian([(4,), (2,)], 1, gain=3.0)], given=["y"])
    found = hv.responsibilities(model, guide, x, given={"y": y})
    assert found.shape == (5, 3) and not torch.allclose(found, hv.responsibilities(model, guide, x, given={"y": y.flip(1)}))
