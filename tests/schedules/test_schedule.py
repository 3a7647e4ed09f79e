"""Schedules as pure numbers, against the paper's equations."""

import math

import pytest
import torch

from pyro_hvae import Constant, Geco, Ramp, Rewo, WarmUp
from pyro_hvae.errors import ConfigError


def feed(schedule, *constraints):
    for c in constraints:
        schedule.update(torch.tensor(float(c)))
    return schedule.beta.item()


def test_constant_is_the_plain_bound_at_one():
    assert Constant().weights() == {}
    schedule = Constant(4.0)
    feed(schedule, 1.0, 2.0)
    assert schedule.weights()["x"].item() == 0.25


def test_warm_up_is_linear_and_may_be_a_fraction_of_the_run():
    schedule = WarmUp(4)
    schedule.start(100)
    assert [feed(schedule, 0.0) for _ in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    schedule = WarmUp(0.2)
    schedule.start(50)
    assert [feed(schedule, 0.0) for _ in range(11)][8:] == pytest.approx([0.9, 1.0, 1.0])


def test_average_weighs_the_old_value_and_starts_at_the_first_batch():
    schedule = Geco(alpha=0.75, nu=1e-9)
    feed(schedule, 8.0)
    assert schedule.average.item() == 8.0
    feed(schedule, 4.0)
    assert schedule.average.item() == 0.25 * 4 + 0.75 * 8
    schedule = Geco(alpha=0.0, nu=1e-9)
    feed(schedule, 8.0, 4.0)
    assert schedule.average.item() == 4.0
    schedule = Geco(alpha=1.0, nu=1e-9)
    feed(schedule, 8.0, 4.0)
    assert schedule.average.item() == 8.0


def test_geco_in_beta_form_is_the_papers_lambda_update():
    schedule, lam = Geco(beta0=0.5, kappa=2.0, nu=0.1, alpha=0.0), 2.0
    for c in (5.0, 3.0, 7.0):
        lam *= math.exp(0.1 * (c - 4.0))
        assert feed(schedule, c) * lam == pytest.approx(1.0)
    # Satisfied: beta grows, also beyond one.
    before = schedule.beta.item()
    assert feed(schedule, 1.0) == pytest.approx(before * math.exp(0.3))
    schedule = Geco(beta0=1.0, kappa=2.0, nu=0.1, alpha=0.0)
    assert feed(schedule, 1.0) > 1.0


def test_rewo_initial_phase_is_sticky_and_holds_beta():
    schedule = Rewo(beta0=0.1, kappa=1.0, nu=0.1, alpha=0.0)
    assert feed(schedule, 3.0, 2.0, 1.0) == pytest.approx(0.1, abs=1e-15)
    assert schedule.initial  # 1.0 is not below kappa^2 = 1.0
    feed(schedule, 0.5)
    assert not schedule.initial
    feed(schedule, 9.0)
    assert not schedule.initial  # never back


def test_rewo_phase_watches_the_average_not_the_batch():
    schedule = Rewo(beta0=0.1, kappa=1.0, alpha=0.99)
    feed(schedule, 10.0, 0.01)
    assert schedule.initial


@pytest.mark.parametrize("beta", [0.2, 0.7, 0.99])
def test_rewo_main_updates_by_hand(beta):
    nu, tau, kappa2 = 0.02, 3.0, 4.0

    def main():
        schedule = Rewo(beta0=beta, kappa=2.0, nu=nu, tau=tau, alpha=0.0)
        schedule.main.fill_(True)
        return schedule

    # Violated: f = -1, beta shrinks as in GECO.
    assert feed(main(), 6.0) == pytest.approx(beta * math.exp(-nu * (6.0 - kappa2)))
    # Satisfied: f = tanh(tau (beta - 1)) < 0 times delta < 0, beta grows towards one.
    up = beta * math.exp(nu * math.tanh(tau * (beta - 1)) * (1.0 - kappa2))
    assert feed(main(), 1.0) == pytest.approx(up)
    assert beta < up <= 1


def test_rewo_ends_at_one_and_one_is_a_fixed_point():
    schedule = Rewo(beta0=1e-3, kappa=math.sqrt(3.0), nu=5e-3, tau=3.0, alpha=0.0)
    steps = 0
    while feed(schedule, 1.0) < 0.99:
        steps += 1
    assert 790 < steps < 810  # models.md 4.3: 799 steps for delta = -2
    schedule = Rewo(beta0=1.0, kappa=2.0, alpha=0.0)
    assert feed(schedule, 1.0, 2.0, 3.0) == 1.0


def test_a_wild_batch_cannot_throw_beta_out_of_range():
    schedule = Geco(nu=1.0, alpha=0.0)
    assert feed(schedule, 1e6) == pytest.approx(math.exp(-1.0))
    assert feed(schedule, *[1e6] * 50) == pytest.approx(1e-6)
    rewo = Rewo(beta0=1.0, nu=1.0, alpha=0.0)
    rewo.main.fill_(True)
    assert feed(rewo, *[1e6] * 50) == pytest.approx(1e-8)


@pytest.mark.parametrize(("constraint", "factor"), [(6.0, math.exp(-1)), (0.0, math.e), (1.5, math.exp(-0.5))])
def test_geco_follows_its_formula_up_to_a_factor_e_a_step(constraint, factor):
    schedule = Geco(beta0=1.0, kappa=1.0, nu=1.0, alpha=0.0)
    assert feed(schedule, constraint) == pytest.approx(factor)  # the formula gives exp(1 - C)


def test_the_cap_stands_where_the_formula_is_printed():
    for schedule in (Geco, Rewo):
        summary = " ".join(schedule.__doc__.split("\n\n")[0].split())
        assert "at most by a factor e a step" in summary


def test_a_schedule_used_again_starts_afresh():
    rewo = Rewo(beta0=0.1, kappa=1.0, alpha=0.0)
    rewo.start(10)
    feed(rewo, 0.5, 0.5)
    assert not rewo.initial
    rewo.start(10)
    assert rewo.initial and rewo.beta.item() == 0.1 and rewo.average.isnan()
    warm = WarmUp(4)
    warm.start(10)
    feed(warm, 0.0, 0.0, 0.0, 0.0)
    warm.start(10)
    assert feed(warm, 0.0) == 0.25


def test_loading_an_initial_state_unlatches():
    early, late = Rewo(kappa=1.0), Rewo(kappa=1.0, alpha=0.0)
    feed(late, 0.5)
    assert not late.initial
    late.load_state_dict(early.state_dict())
    assert late.initial


@pytest.mark.parametrize("make", [WarmUp, Geco, lambda: Rewo(kappa=2.0)])
def test_state_dict_carries_on(make):
    a, b = make(), make()
    a.start(100)
    feed(a, 5.0, 1.0, 3.0)
    b.load_state_dict(a.state_dict())
    assert feed(a, 2.0, 6.0) == feed(b, 2.0, 6.0)
    assert a.initial == b.initial


@pytest.mark.parametrize(
    "make, what",
    [
        (lambda: Constant(0.0), "beta"),
        (lambda: WarmUp(0), "warmup"),
        (lambda: Geco(kappa=-1.0), "kappa"),
        (lambda: Rewo(alpha=1.5), "alpha"),
        (lambda: Rewo(beta0=2.0), "beta0"),
        (lambda: Geco(measure="mse"), "measure"),
    ],
)
def test_bad_constants_are_named(make, what):
    with pytest.raises(ConfigError, match=what):
        make()


def test_ramp_is_exponential_and_may_be_a_fraction_of_the_run():
    schedule = Ramp(2000)
    schedule.start(100)
    assert schedule.beta.item() == pytest.approx(1 - math.exp(-1 / 2000), rel=1e-12)  # of the first step
    values = [feed(schedule, 0.0) for _ in range(3)]
    assert values == pytest.approx([1 - math.exp(-t / 2000) for t in (1, 2, 3)], rel=1e-12)
    schedule = Ramp(0.1)
    schedule.start(50)
    assert [feed(schedule, 0.0) for _ in range(10)][-1] == pytest.approx(1 - math.exp(-2))
    schedule = Ramp(0.1)
    schedule.start(3)  # a fraction is one step at least
    assert feed(schedule, 0.0) == pytest.approx(1 - math.exp(-1))
    with pytest.raises(ConfigError, match="ramp must be positive"):
        Ramp(0)
