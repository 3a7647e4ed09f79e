"""A training session: REWO's frozen phase, the order of a step, learning rate, clipping."""

import math

import pytest
import torch
from small_runs import data, rewo, vhp
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae.inference.sampling import ancestral
from pyro_hvae.runs.train_config import TrainConfig
from pyro_hvae.training.session import Session


def test_rewo_initial_phase_does_not_step_the_prior_nor_its_adam_state():
    objective = vhp()
    prior = [*objective.model.levels.parameters(), *objective.guide.levels[1].parameters()]
    start = [p.detach().clone() for p in prior]
    session = Session(objective, data(), TrainConfig(steps=400, lr=1e-2, batch_size=20), rewo(), 400)
    first = [p.detach().clone() for p in objective.guide.levels[0].parameters()]
    steps = 0
    while True:
        session.step()
        if not session.schedule.initial:
            break
        steps += 1
        assert all(torch.equal(p, s) for p, s in zip(prior, start, strict=True))
        assert not any(p in session.optimizer.state for p in prior)
    assert steps > 5
    assert session.entered_main
    assert all(not torch.equal(p, s) for p, s in zip(objective.guide.levels[0].parameters(), first, strict=True))
    # The step that ends the phase already trains everything (Algorithm 1), with a newborn Adam.
    assert all(not torch.equal(p, s) for p, s in zip(prior, start, strict=True))
    assert {session.optimizer.state[p]["step"].item() for p in prior} == {1.0}


def test_schedule_acts_before_the_step_of_the_same_batch():
    """Algorithm 1: C of the batch moves beta, and the loss of that very batch has the new beta."""
    objective, schedule = vhp(), hv.Geco(kappa=1.0, nu=0.01, alpha=0.0)
    session = Session(objective, data(), TrainConfig(steps=5, batch_size=20), schedule, 5)
    session.step()
    terms, beta = session.result.terms, schedule.beta.item()
    normal = ancestral(objective.model)["x"]["fn"].base_dist
    constraint = (terms.distortion() + normal.log_prob(normal.loc).sum()).item()  # less its constants
    assert beta == pytest.approx(math.exp(-min(1.0, 0.01 * (constraint - 1.0))), rel=1e-6)
    rate = (terms.terms["x"] - terms.bound_unweighted()).mean()
    assert_close(session.result.loss, (terms.distortion() + beta * rate) / max(1.0, beta))


def test_learning_rate_follows_its_cosine():
    objective = vhp()
    session = Session(objective, data(), TrainConfig(steps=4, batch_size=20, lr=1e-3, lr_decay=0.5), hv.Constant(), 4)
    seen = []
    for _ in range(4):
        before = objective.model.likelihood.net[-1].bias.detach().clone()
        session.step()
        seen.append(session.lr)
        if len(seen) == 1:  # Adam's first step has the size of the learning rate
            moved = (objective.model.likelihood.net[-1].bias - before).abs().max().item()
            assert moved == pytest.approx(1e-3, rel=1e-2)
    assert seen == pytest.approx([1e-3, 1e-3, 5e-4, 2e-5])


def test_gradients_are_clipped_to_the_asked_norm():
    for clip in (0.0, 1e-3):
        objective = vhp()
        session = Session(objective, data(), TrainConfig(steps=2, batch_size=20, grad_clip=clip), hv.Constant(), 2)
        session.step()
        norm = torch.cat([p.grad.flatten() for p in objective.parameters()]).norm().item()
        assert norm == pytest.approx(1e-3, rel=1e-3) if clip else norm > 1
