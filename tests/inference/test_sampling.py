"""The generic tools against closed forms (float64)."""

import pytest
import torch
from linear_gaussian import Fixed, LinearGaussianChain
from pyro import poutine
from torch.testing import assert_close

from pyro_hvae import ELBO, BottomUp, Chain, StandardNormal, TopDown, active_units, generate, inference, latents, reconstruct
from pyro_hvae.errors import ConfigError

pytestmark = pytest.mark.usefixtures("float64")


def test_bound_reports_parts_that_add_up():
    chain = LinearGaussianChain((3, 2))
    x = chain.evidence.sample((30_000,))
    parts = inference.bound(ELBO(analytic_kl=False), chain.model(), chain.guide(), x, rows=999)
    assert parts["elbo"] == pytest.approx(chain.evidence.log_prob(x).mean().item(), rel=1e-9)
    assert parts["rate_total"] == pytest.approx(sum(parts["rate"].values()), rel=1e-9)
    assert parts["rate_total"] == pytest.approx(-parts["elbo"] - parts["distortion"])
    # E KL(q(z1|x) || p(z1)) in closed form; the chain's exact guide makes it the total rate.
    assert parts["rate_total"] == pytest.approx(chain.posterior_kl(x, 0.0).mean().item(), rel=2e-2)


def test_generate_fixes_latents_and_draws_the_rest():
    chain = LinearGaussianChain((3, 2))
    model = chain.model()
    draws = generate(model, 40_000, mean=False)
    assert list(draws) == ["z2", "z1", "x"]
    assert_close(draws["x"].mean(0), chain.means[-1], atol=0.1, rtol=0)
    assert_close(torch.cov(draws["x"].T), chain.covariances[-1], atol=0.3, rtol=0.05)
    z1 = torch.randn(5, 2)
    fixed = generate(model, 5, fixed={"z1": z1})
    assert torch.equal(fixed["z1"], z1)
    assert_close(fixed["x"], z1 @ chain.weights[-1].T + chain.biases[-1])
    with pytest.raises(ConfigError, match="z9"):
        generate(model, 5, fixed={"z9": z1})
    with pytest.raises(ConfigError, match="size is 4"):
        generate(model, 4, fixed={"z1": z1})


def test_latents_and_reconstruction_follow_the_means():
    chain = LinearGaussianChain((3, 2))
    model, guide = chain.model(), chain.guide()
    x = chain.evidence.sample((6,))
    codes = latents(guide, x, mean=True)
    assert list(codes) == ["z1", "z2"]
    assert_close(codes["z1"], guide.levels[0](x).mean)
    assert_close(codes["z2"], guide.levels[1](codes["z1"]).mean)
    assert_close(reconstruct(model, guide, x), model.likelihood(codes["z1"]).mean)


def test_active_units_ignore_the_sampling_variance_of_lower_layers():
    chain = LinearGaussianChain((3, 2))
    guide = chain.guide()
    with torch.no_grad():
        guide.levels[0].weight[1] = 0.0  # the second unit of z1 no longer sees x
        guide.levels[1].weight.zero_()
        guide.levels[1].weight[0, 0] = 1.0  # z2's first unit copies z1's first
        guide.levels[1].weight[1, 1] = 2.0  # its second sees only z1's noise, E[.] over which is constant
    x = chain.evidence.sample((2000,))
    assert chain.guide().levels[0](x).stddev[:, 1].mean() * 2 > 0.8  # the noise is there to be mistaken
    assert active_units(guide, x, samples=50) == {"z1": 1, "z2": 1}
    with pytest.raises(ConfigError, match="at least two samples"):
        active_units(guide, x, samples=1)


def test_a_collapsed_ladder_has_no_active_units():
    """q(z | x) = p(z): z1's mean follows z2's unit-variance noise and nothing else."""
    one = torch.ones(2)
    level = Fixed([torch.eye(2)], one)
    blank = Fixed([torch.zeros(2, 4)], one)
    flat = Fixed([torch.zeros(2, 4)], 1e6 * one)
    guide = TopDown([torch.nn.Identity(), torch.nn.Identity()], [flat, blank], [level])
    assert active_units(guide, torch.randn(3000, 4)) == {"z2": 0, "z1": 0}


def test_kl_per_dimension_where_it_is_one():
    """q = N(m, s^2) per dimension against N(0, 1), in closed form; in a bottom-up chain only the top has such a KL."""
    m, s = torch.tensor([0.0, 1.5]), torch.tensor([1.0, 0.3])
    guide = BottomUp([Fixed([torch.zeros(2, 3)], s, m)])
    model = Chain(StandardNormal(2), [], Fixed([torch.zeros(3, 2)], torch.ones(3)))
    found = inference.kl_per_dimension(model, guide, torch.randn(5000, 3))
    assert list(found) == ["z1"]
    assert_close(torch.tensor(found["z1"]), 0.5 * (s**2 + m**2 - 1) - s.log())
    down, up = Fixed([torch.eye(2)], torch.ones(2)), Fixed([torch.eye(2)], torch.ones(2))
    chain = Chain(StandardNormal(2), [down], Fixed([torch.zeros(3, 2)], torch.ones(3)))
    found = inference.kl_per_dimension(chain, BottomUp([guide.levels[0], up]), torch.randn(5000, 3))
    assert list(found) == ["z2"]
    assert_close(torch.tensor(found["z2"]), 0.5 * (s**2 + m**2), rtol=0.1, atol=0)  # the mean over z1 of z1^2 / 2
    assert inference.likelihood_name(model) == "Gaussian, sigma 1"


@pytest.mark.parametrize("where", ["model", "guide", "both"])
@pytest.mark.parametrize("kept", [None, True, False])
def test_kl_per_dimension_of_data_that_a_mask_leaves_out(where, kept):
    """They count with a KL of 0, as in the rate; `kept` stands for every datum, None for the first 750 of 1,000."""
    x, m, s = torch.arange(1000.0)[:, None].expand(1000, 3), torch.tensor([0.0, 1.5]), torch.tensor([1.0, 0.3])
    guide = BottomUp([Fixed([torch.zeros(2, 3)], s, m)])
    model = Chain(StandardNormal(2), [], Fixed([torch.zeros(3, 2)], torch.ones(3)))

    def masked(program):
        return lambda x=None, size=1: poutine.mask(program, mask=x[:, 0] < 750 if kept is None else kept)(x, size)

    pair = [masked(program) if where in (name, "both") else program for name, program in (("model", model), ("guide", guide))]
    found = inference.kl_per_dimension(*pair, x)
    share = 0.75 if kept is None else float(kept)
    assert_close(torch.tensor(found["z1"]), share * (0.5 * (s**2 + m**2 - 1) - s.log()))
    if where == "both":
        rate = inference.bound(ELBO(), *pair, x)["rate"]["z1"]
        assert rate == pytest.approx(sum(found["z1"]), rel=1e-5)


def test_informative_units_are_fewer_than_active_ones():
    """Means of variance 0.02, 0.2 and 2 under unit noise: all vary, and two have a KL above 0.05 nats."""
    std = torch.tensor([0.02, 0.2, 2.0]).sqrt()
    guide = BottomUp([Fixed([torch.diag(std)], torch.ones(3))])
    model = Chain(StandardNormal(3), [], Fixed([torch.zeros(3, 3)], torch.ones(3)))
    x = torch.randn(20_000, 3)
    kl = inference.kl_per_dimension(model, guide, x)
    assert_close(torch.tensor(kl["z1"]), std.square() / 2, rtol=0.05, atol=0)
    assert active_units(guide, x) == {"z1": 3} and inference.informative_units(kl) == {"z1": 2}
