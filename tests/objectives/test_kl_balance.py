"""KL balancing: its weights by hand, its gradient, eager and captured, and when it acts (float64)."""

import pytest
import torch
from both_ways import assert_same
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae.errors import ConfigError
from pyro_hvae.objectives.kl_balance import balance
from pyro_hvae.training.training_step import TrainingPass

pytestmark = pytest.mark.usefixtures("float64")


def pair(seed=0, **bound):
    torch.manual_seed(seed)
    model = hv.Chain(hv.StandardNormal(3), [hv.Gaussian(3, 2)], hv.Gaussian(2, 4, scale=0.5))
    return hv.ELBO(**bound)(model, hv.BottomUp([hv.Gaussian(4, 2), hv.Gaussian(2, 3)]))


def test_the_weights_by_hand():
    """k = (3.99 + .01) / 2 = 2, (0.29 + .01) / 3 = .1, (|-0.89| + .01) / 1 = .9, whose mean is 1."""
    rates = {"z1": torch.tensor(3.99), "z2": torch.tensor(0.29), "z3": torch.tensor(-0.89)}
    found = balance(rates, {"z1": 2, "z2": 3, "z3": 1}, {"x": torch.tensor(5.0), "z3": 10.0})
    assert {site: round(weight.item(), 12) for site, weight in found.items()} == {"z1": 2.0, "z2": 0.1, "z3": 9.0}
    after = balance(rates, {"z1": 2, "z2": 3, "z3": 1}, {"x": 1.0, "z3": 10.0})
    assert {site: weight.item() for site, weight in after.items()} == {"z1": 1.0, "z2": 1.0, "z3": 10.0}
    with pytest.raises(ConfigError, match="there is only z1. Leave it out"):
        balance({"z1": torch.tensor(1.0)}, {"z1": 2}, {})


def test_the_loss_and_its_gradient():
    """beta = 1 / 4: (C + beta sum gamma F) with gammas that have no gradient."""
    objective, x = pair(), torch.rand(8, 4)
    estimate = objective.estimate(x)
    rates, shares = estimate.rates(), {}
    for site, size in {"z1": 2, "z2": 3}.items():
        shares[site] = (rates[site].detach().abs() + 0.01) / size
    gammas = {site: 2 * share / sum(shares.values()) for site, share in shares.items()}
    expected = estimate.distortion() + 0.25 * sum(gammas[site] * rates[site] for site in rates)
    loss = estimate.loss({"x": 4.0}, balanced=True)
    assert_close(loss, expected)
    parameters = list(objective.parameters())
    for a, b in zip(*(torch.autograd.grad(value, parameters, retain_graph=True) for value in (loss, expected)), strict=True):
        assert_close(a, b)
    assert_close(estimate.loss({"x": 1.0}, balanced=True), estimate.loss())
    least = estimate.loss({"x": 4.0}, free_bits=1e3, balanced=True)
    assert_close(least, estimate.distortion() + 0.25 * 2 * 1e3)  # the gammas average 1


def test_captured_passes_are_the_eager_ones_while_it_acts_and_after():
    schedule = hv.schedules.WarmUp(0.5)
    schedule.start(6)
    passing = TrainingPass(pair(), schedule, balanced=True)
    batches = [torch.rand(8, 4) for _ in range(6)]
    calls = [(x, *passing.arguments(schedule)) for x in batches]
    assert calls[0][1] > 1 and calls[-1][1] == 1
    assert assert_same(passing, calls).graphs == 1


@pytest.mark.parametrize("engine", ["fit", "svi"])
def test_training_with_it_differs_until_beta_is_one(engine):
    torch.set_default_dtype(torch.float32)
    x, losses = torch.rand(32, 4, generator=torch.Generator().manual_seed(0)), {}
    for on in (False, True):
        config = hv.TrainConfig(steps=4, batch_size=8, balance=on, engine=engine, log_every=1)
        rows = hv.fit(pair(), x, config, hv.schedules.WarmUp(0.5), progress=False)
        losses[on] = [row["loss"] for row in rows]
        for row in rows[2:]:  # beta is 1: the bound
            assert row["loss"] == pytest.approx(-row["elbo"], rel=1e-5)
    assert losses[True][0] != losses[False][0]


def test_it_is_refused_where_it_would_change_nothing(command):
    for schedule in (hv.schedules.Constant(), hv.schedules.Constant(4.0)):
        with pytest.raises(ConfigError, match="while beta is below 1, which the schedule constant never has"):
            hv.fit(pair(), torch.rand(8, 4), hv.TrainConfig(steps=1, balance=True), schedule, progress=False)
    with pytest.raises(ConfigError, match="a weight does not commute"):
        pair(particles=3).estimate(torch.rand(8, 4)).loss({"x": 2.0}, balanced=True)
    for words, said in {
        "hvae --schedule constant": "which the schedule constant never has",
        "pro-vlae": "which the schedule progressive never has",
        "vae --schedule warmup": "there is only z1",
    }.items():
        code, out, err = command(*f"train {words} --dataset digits -o balance=true --steps 5 --dry-run".split())
        assert code == 2 and not out and said in err, err
    code, out, err = command(*"train hvae --dataset digits -o balance=true -o hidden=8 --steps 5 --dry-run".split())
    assert code == 0 and "balance = true" in out, err
