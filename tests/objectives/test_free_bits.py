"""Free bits: the loss, its gradient, and what they keep alive."""

import math

import pytest
import torch
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae.errors import ConfigError
from pyro_hvae.objectives import ELBO


def pair(scale=0.5):
    torch.manual_seed(0)
    model = hv.Chain(hv.StandardNormal(2), [hv.Gaussian(2, 2)], hv.Gaussian(2, 4, scale=scale))
    return model, hv.BottomUp([hv.Gaussian(4, 2), hv.Gaussian(2, 2)])


def test_the_loss_counts_at_least_the_free_bits_of_each_site():
    estimate = ELBO().estimate(*pair(), torch.rand(8, 4))
    rates = estimate.rates()
    for least in (0.0, 0.01, 1e3):
        expected = estimate.distortion() + sum(rate.clamp(min=least) if least else rate for rate in rates.values())
        assert_close(estimate.loss(free_bits=least), expected)
    weighted = estimate.loss({"z1": 0.5, "z2": 2.0}, free_bits=1e3)
    assert_close(weighted, estimate.distortion() + 2.5e3)
    expected = -estimate.distortion() - sum(rates.values())
    assert_close(estimate.bound_unweighted().mean(), expected)  # no bits are free in a bound


def test_rates_below_have_no_gradient_and_rates_above_have_theirs():
    model, guide = pair()
    x = torch.rand(8, 4)
    found = []
    for least in (0.0, 1e3):
        torch.manual_seed(1)
        estimate = ELBO().estimate(model, guide, x)
        found.append(torch.autograd.grad(estimate.loss(free_bits=least), list(guide.parameters()), allow_unused=True))
    torch.manual_seed(1)
    distortion = torch.autograd.grad(ELBO().estimate(model, guide, x).distortion(), list(guide.parameters()), allow_unused=True)
    for plain, free, only in zip(*found, distortion, strict=True):
        assert_close(free, torch.zeros_like(plain) if only is None else only)


@pytest.mark.filterwarnings("ignore:The run ends collapsed")
def test_free_bits_keep_a_code_that_the_bound_gives_up():
    """A likelihood of large scale makes a code worthless: the bound gives it up, free bits keep what they allow."""
    x = torch.randn(64, 1, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, -0.5, 0.3, 0.8])
    rates = {}
    for least in (0.0, 0.5):
        torch.manual_seed(0)
        model = hv.Chain(hv.StandardNormal(1), [], hv.Gaussian(1, 4, scale=1.5))
        guide = hv.BottomUp([hv.Gaussian(4, 1)])
        config = hv.TrainConfig(steps=400, lr=0.01, free_bits=least, lr_decay=0)
        rows = hv.fit(ELBO()(model, guide), x, config, progress=False)
        rates[least] = rows[-1]["rate.z1"]
        assert rows[-1]["elbo"] == pytest.approx(-rows[-1]["distortion"] - rates[least], abs=1e-4)  # the bound itself
    assert rates[0.0] < 0.3 and rates[0.5] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("engine", ["fit", "svi"])
def test_training_settings_of_gradient_and_free_bits(engine):
    model, guide = pair()
    loss = ELBO()(model, guide)
    config = hv.TrainConfig(steps=3, batch_size=8, gradient="stl", free_bits=0.1, engine=engine)
    rows = hv.fit(loss, torch.rand(16, 4), config, progress=False)
    assert math.isfinite(rows[-1]["loss"]) and loss.elbo.gradient == "stl"
    hv.fit(loss, torch.rand(16, 4), hv.TrainConfig(steps=1), progress=False)
    assert loss.elbo.gradient == "stl"  # None leaves it


def test_a_recipe_with_particles_refuses_free_bits_before_it_trains(command):
    code, out, err = command(*"train iwae --dataset digits -o free_bits=0.5 --steps 5 --out run".split())
    assert code == 2 and not out and err.count("\n") == 1 and "or free_bits=0" in err
    code, out, err = command(*"train iwae --dataset digits -o gradient=dreg -o hidden=8 --steps 5 --dry-run".split())
    assert code == 0 and "dreg" in out, err


def test_particles_have_no_free_bits():
    with pytest.raises(ConfigError, match=r"varies over the 4 particles.* Use one particle \(particles=1\), or free_bits=0"):
        ELBO(particles=4).estimate(*pair(), torch.rand(8, 4)).loss(free_bits=0.1)
    with pytest.raises(ConfigError, match="no gradient called 'best'"):
        hv.TrainConfig(gradient="best")
    with pytest.raises(ConfigError, match="free-bits must not be negative"):
        hv.TrainConfig(free_bits=-1.0)
