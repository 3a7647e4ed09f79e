"""Batches of few data, runs that end collapsed, the progress of `fit`, and the scale of losses under every schedule."""

import json
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from small_runs import CONFIG, At, data, vhp
from torch import nn
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae import recipes
from pyro_hvae.errors import ConfigError
from pyro_hvae.guides import BottomUp
from pyro_hvae.models import Chain
from pyro_hvae.schedules import Constant, Progressive
from pyro_hvae.training.session import Session


class Tells(At):
    def __init__(self):
        super().__init__()
        self.told = []

    def tell(self, message):
        self.told.append(message)


@pytest.mark.parametrize(("name", "options"), [("lvae", {}), ("vlae", {"norm": "batch", "dims": (2, 2), "width": 8})])
@pytest.mark.parametrize(("n", "batch_size"), [(1, 64), (5, 1)])
def test_a_batch_of_one_under_batch_normalisation(name, options, n, batch_size):
    x = torch.rand(n, 1, 8, 8)
    objective = recipes.build(name, x, options)[0].objective
    with pytest.raises(ConfigError, match="batch size of 1.*BatchNorm.*norm="):
        hv.fit(objective, x, hv.TrainConfig(steps=2, batch_size=batch_size), progress=False)
    two = torch.rand(2, 1, 8, 8)
    assert hv.fit(objective, two, hv.TrainConfig(steps=2, batch_size=2), trackers=[At()])  # the advice works


def test_other_errors_of_a_pair_are_its_own():
    objective = vhp()
    objective.guide.levels[0].forward = lambda x: (_ for _ in ()).throw(ValueError("mine"))
    with pytest.raises(ValueError, match="^mine$"):
        hv.fit(objective, data(), CONFIG, progress=False)


def test_a_lowered_batch_size_is_said():
    for size, lowered in ((20, []), (64, ["A batch has 30 data, all that there are, instead of 64."])):
        told = Tells()
        hv.fit(vhp(), data()[:30], hv.TrainConfig(steps=2, batch_size=size), trackers=[told])
        assert [text for text in told.told if text.startswith("A batch")] == lowered


class Fixed(nn.Module):
    """N(loc, 1) in `size` dimensions, whatever the parents; the location is trained."""

    def __init__(self, size, loc):
        super().__init__()
        self.loc = nn.Parameter(torch.full((size,), loc))

    def forward(self, *parents):
        shape = parents[0].shape[:-1] if parents else ()
        return dist.Normal(self.loc.expand(*shape, -1), 1.0).to_event(1)


class Prior(nn.Module):
    def forward(self):
        return dist.Normal(torch.zeros(2), 1.0).to_event(1)


@pytest.mark.parametrize(("loc", "collapsed"), [(0.1, True), (0.3, False)])  # a rate of loc^2 nats in two dimensions
def test_a_run_that_ends_collapsed_says_so_once(tmp_path, loc, collapsed):
    objective = hv.ELBO()(Chain(Prior(), [], Fixed(3, 0.0)), BottomUp([Fixed(2, loc)]))
    told = Tells()
    rows = hv.fit(objective, torch.randn(20, 3), hv.TrainConfig(steps=100, lr=1e-9), out=tmp_path / "run", trackers=[told])
    assert rows[-1]["rate.z1"] == pytest.approx(loc**2, rel=1e-4)
    said = [text for text in told.told if "collapsed" in text]
    assert len(said) == collapsed
    assert ("warning" in json.loads((tmp_path / "run/run.json").read_text())) == collapsed
    if collapsed:
        assert "collapsed: the rate of its code is 0.01 nats" in said[0]
        with pytest.warns(UserWarning, match="collapsed"):
            hv.fit(objective, torch.randn(20, 3), hv.TrainConfig(steps=100, lr=1e-9), progress=False)
        with warnings.catch_warnings(action="error"):  # it has had no time to learn a code
            hv.fit(objective, torch.randn(20, 3), hv.TrainConfig(steps=99, lr=1e-9), progress=False)


def test_fit_shows_its_progress_on_stderr_unless_told_otherwise(capsys):
    hv.fit(vhp(), data(), hv.TrainConfig(steps=6, log_every=1, batch_size=20))
    shown = capsys.readouterr()
    assert "step 6 of 6: loss" in shown.err and not shown.out
    hv.fit(vhp(), data(), hv.TrainConfig(steps=6, log_every=1, batch_size=20), progress=False)
    hv.fit(vhp(), data(), hv.TrainConfig(steps=6, log_every=1, batch_size=20), trackers=[At()])
    assert capsys.readouterr() == ("", "")


def test_a_warning_is_pythons_and_said_once_where_progress_is_shown(capsys):
    config = hv.TrainConfig(steps=4, batch_size=20)
    with pytest.warns(UserWarning, match="initial phase") as caught:
        hv.fit(vhp(), data(), config, hv.Rewo(beta0=0.05, kappa=1e-3))
    assert len(caught) == 1 and "initial phase" not in capsys.readouterr().err


def ladder():
    torch.manual_seed(0)
    options = {"dims": (2, 2), "width": 8, "network": "dense", "sigma": 1.0}
    return recipes.build("pro-vlae", torch.rand(40, 1, 4, 4), options)[0].objective


@pytest.mark.parametrize("engine", ["fit", "svi"])
@pytest.mark.parametrize("beta", [8.0, 1.0, 0.5])
def test_the_loss_is_that_of_constant_beta_under_a_progressive_schedule(engine, beta):
    """Both layers have entered and nothing fades: (C + beta F) / max(1, beta) under both, for the same pair and noise."""
    x, losses, norms = torch.rand(40, 1, 4, 4), [], []
    for schedule in (Progressive(beta=beta, gamma=beta, fade=0.0), Constant(beta)):
        objective = ladder()
        session = Session(objective, x, hv.TrainConfig(batch_size=40, engine=engine, grad_clip=1e-3), schedule, 2)
        if isinstance(schedule, Progressive):
            schedule.update()
        torch.manual_seed(1)
        with pyro.get_param_store().scope():
            session.step()
        losses.append(session.row()["loss"])
        norms.append(torch.stack([p.grad.norm() for p in objective.parameters() if p.grad is not None]).norm())
    assert_close(losses[0], losses[1], rtol=1e-5, atol=0)
    if engine == "svi":
        return  # it zeroes its gradients after the step
    assert_close(norms[0] / max(1.0, beta), norms[1], rtol=1e-4, atol=0)  # clipped at the same loss
    assert_close(norms[1], torch.tensor(1e-3), rtol=1e-3, atol=0)
