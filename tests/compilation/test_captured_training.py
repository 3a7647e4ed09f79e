"""Training with captured steps: as eager, bit for bit with itself, through phases, growth, interruptions and mishaps."""

import json
import math
import os
import signal
from dataclasses import replace

import pytest
import torch
from small_runs import At, data, equal, vhp
from torch import nn

import pyro_hvae as hv
from pyro_hvae import recipes
from pyro_hvae.compilation.captured_loss import capture
from pyro_hvae.errors import DivergenceError, Interrupted
from pyro_hvae.recipes import Stage
from pyro_hvae.runs.checkpoints import load_checkpoint
from pyro_hvae.runs.train_config import TrainConfig
from pyro_hvae.training import session
from pyro_hvae.training.divergence import BLOCK
from pyro_hvae.training.session import Session

CPU = torch.device("cpu")
EAGER = TrainConfig(steps=40, batch_size=20, lr=1e-2, log_every=5, eval_every=20, save_every=15, seed=3, compile=False)
CONFIG = replace(EAGER, compile=True)


@pytest.fixture
def uncompiled(monkeypatch):
    """Graphs run as they were recorded; gives those that sessions have made."""
    made = []

    def recorded(module, **options):
        made.append(capture(module, **options, compile=False))
        return made[-1]

    monkeypatch.setattr(session, "capture", recorded)
    return made


def ladder(seed=0):
    torch.manual_seed(seed)
    return recipes.build("pro-vlae", data(), {"dims": (2, 2), "width": 8, "sigma": 1.0})[0].objective


def iwae(seed=0):
    torch.manual_seed(seed)
    return recipes.build("iwae", data(), {"levels": 2, "particles": 3, "hidden": (8,), "upper": (8,)})[0].objective


def two_stages(seed=0):
    first = vhp(seed)
    torch.manual_seed(seed + 1)
    pair = hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, 2, (8,), scale=0.5)), hv.BottomUp([hv.Gaussian(2, 2, (8,))])
    return [Stage("a", first, 2.0), Stage("b", hv.ELBO()(*pair), 1.0, lambda x: hv.latents(first.guide, x, mean=True)["z1"])]


def rewo():
    return hv.Rewo(beta0=0.05, kappa=3.7, nu=2e-3, alpha=0.5)


# name -> what is trained, its schedules, its settings, how many graphs that takes, and where it is interrupted
RUNS = {
    "rewo": (vhp, rewo, {}, [2], 3),  # the initial phase, which 3 is in, leaves gradients out
    "growing": (ladder, lambda: hv.Progressive(fade=0.5), {"grad_clip": 5.0}, [3], 24),  # while the second layer fades in
    "iwae": (iwae, hv.Constant, {}, [1], 15),
    "stages": (two_stages, lambda: [rewo(), hv.Constant()], {}, [2, 1], 33),
}


def train(name, out=None, seed=0, **more):
    made, schedule, settings, _, _ = RUNS[name]
    settings = replace(more.pop("config", CONFIG), **settings)
    return hv.fit(made(seed), data(), settings, schedule(), out, validation=data(50), **{"trackers": [At(-1, None)], **more})


@pytest.mark.parametrize("name", RUNS)
def test_it_trains_as_it_does_eagerly_and_resumes_bit_for_bit(name, tmp_path, uncompiled):
    graphs, stop = RUNS[name][3:]
    eager, captured = train(name, config=EAGER), train(name, tmp_path / "whole")
    assert [c.graphs for c in uncompiled] == graphs and len(eager) == len(captured) >= 8
    for one, two in zip(eager, captured, strict=True):
        assert one.keys() == two.keys()
        for key, value in one.items():
            assert two[key] == pytest.approx(value, rel=1e-4, abs=1e-5), (one["step"], key)
    with pytest.raises(Interrupted):
        train(name, tmp_path / "cut", trackers=[At(stop, lambda: os.kill(os.getpid(), signal.SIGINT))])
    if name == "rewo":
        assert not load_checkpoint(tmp_path / "cut/checkpoints/last.pt")["session"]["schedule"]["main"] and captured[-1]["main"]
    asked = replace(CONFIG, compile=None)  # the checkpoint knows
    train(name, tmp_path / "cut", seed=50, config=asked, resume=True)
    whole, cut = (load_checkpoint(tmp_path / run / "checkpoints/last.pt") for run in ("whole", "cut"))
    assert whole["compile"] is cut["compile"] is True and equal(whole, cut)
    assert (tmp_path / "whole/metrics.jsonl").read_bytes() == (tmp_path / "cut/metrics.jsonl").read_bytes()
    assert all(c.eager is None for c in uncompiled) and len(uncompiled) >= 3


def test_what_rewo_holds_back_has_no_adam_state_until_the_step_that_ends_its_phase(uncompiled):
    both = {}
    for compiled in (False, True):
        objective = vhp()
        prior = [*objective.model.levels.parameters(), *objective.guide.levels[1].parameters()]
        start = [p.detach().clone() for p in prior]
        torch.manual_seed(8)
        running = Session(objective, data(), replace(CONFIG, steps=400, compile=compiled), rewo(), 400)
        steps = 0
        while running.initial:
            assert not any(p in running.optimizer.state for p in prior) and all(p.requires_grad for p in prior)
            assert all(torch.equal(p, s) for p, s in zip(prior, start, strict=True))
            running.step()
            steps += 1
        assert running.entered_main and {running.optimizer.state[p]["step"].item() for p in prior} == {1.0}
        assert all(not torch.equal(p, s) for p, s in zip(prior, start, strict=True))
        both[compiled] = (
            steps,
            torch.get_rng_state(),
            running.schedule.t.item(),
            torch.cat([p.detach().flatten() for p in prior]),
        )
    assert both[True][0] == both[False][0] > 3 and both[True][2] == both[False][2] == both[True][0]
    assert torch.equal(both[True][1], both[False][1])
    assert torch.allclose(both[True][3], both[False][3], rtol=1e-4, atol=1e-6)


def test_gradients_are_clipped_and_evaluation_between_steps_makes_no_graph(uncompiled):
    objective = vhp()
    running = Session(objective, data(), replace(CONFIG, grad_clip=1e-3), hv.Constant(), 60)
    for _ in range(3):
        running.step()
        norm = torch.cat([p.grad.flatten() for p in objective.parameters()]).norm().item()
        assert norm == pytest.approx(1e-3, rel=1e-3)
        objective.eval()
        objective.estimate(data()[:7])
        objective.train()
    assert uncompiled[0].graphs == 1


def small(seed=0):
    torch.manual_seed(seed)
    model = hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, 256, (8,), scale=0.5))
    return hv.ELBO()(model, hv.BottomUp([hv.Gaussian(256, 2, (8,))]))


def test_a_compiled_run_is_close_to_the_eager_one_and_says_what_it_is(tmp_path):
    """Compiled code in earnest, with a constraint that is watched in double precision."""
    objectives = {}
    for compiled in (False, True):
        objectives[compiled] = small()
        settings = replace(EAGER, compile=compiled)
        told = []
        tracker = At(-1, lambda: None)
        tracker.tell = told.append
        hv.fit(objectives[compiled], data().flatten(1), settings, hv.Geco(), tmp_path / str(compiled), trackers=[tracker])
        assert bool([line for line in told if line.startswith("Compiled ")]) is compiled and not tracker.warnings
    for one, two in zip(*(o.parameters() for o in objectives.values()), strict=True):
        assert torch.allclose(one, two, rtol=1e-3, atol=1e-4)
    written = (tmp_path / "True/config.toml").read_text()
    assert "compile = true" in written and load_checkpoint(tmp_path / "True/checkpoints/last.pt")["compile"] is True
    assert "compile = false" in (tmp_path / "False/config.toml").read_text()


class Bad(nn.Module):
    """A model that sees other data from a step on."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.register_buffer("factor", torch.ones(()))

    def forward(self, x=None, size=1):
        return self.model(None if x is None else x * self.factor, size)


@pytest.mark.parametrize("at, value, word", [(37, math.nan, "nan"), (20, 1e12, r"\d")])
def test_a_loss_that_becomes_unusable_within_a_block_is_told_by_its_first_step(at, value, word, tmp_path, uncompiled):
    objective = vhp()
    model = Bad(objective.model)
    objective = objective.elbo(model, objective.guide)
    tracker = At(at - 1, lambda: model.factor.fill_(value))
    settings = replace(CONFIG, steps=50, log_every=1000, save_every=1000, eval_every=1000)
    assert settings.steps < BLOCK
    with pytest.raises(DivergenceError, match=rf"the loss became .*{word}.* at step {at}; worst site 'x'"):
        hv.fit(objective, data(), settings, hv.Constant(), tmp_path / "run", trackers=[tracker])
    written = json.loads((tmp_path / "run/run.json").read_text())
    assert (written["status"], written["step"]) == ("diverged", at) and uncompiled[0].eager is None


def test_a_run_that_cannot_be_captured_goes_on_and_says_so(tmp_path, uncompiled):
    class Branching(nn.Module):
        def __init__(self, guide):
            super().__init__()
            self.guide = guide

        def forward(self, x):
            return self.guide(x if x.sum() > 0 else x + 0)

    def made():
        objective = vhp()
        return objective.elbo(objective.model, Branching(objective.guide))

    trackers = [At(-1, lambda: None), At(-1, lambda: None)]
    found = [
        hv.fit(made(), data(), settings, rewo(), tmp_path / str(i), trackers=[trackers[i]])
        for i, settings in enumerate((EAGER, CONFIG))
    ]
    for one, two in zip(*found, strict=True):
        assert two == pytest.approx(one, rel=1e-4, abs=1e-5)
    (message,) = trackers[1].warnings
    assert "TrainingPass runs eagerly: " in message and not trackers[0].warnings
    assert json.loads((tmp_path / "1/run.json").read_text())["warning"] == message


def test_captured_steps_take_any_optimiser(uncompiled):
    config = replace(CONFIG, steps=6, lr=1e-4, optimizer="rmsprop")
    eager, captured = train("rewo", config=replace(config, compile=False)), train("rewo", config=config)
    assert len(uncompiled) == 1 and eager[-1]["loss"] == pytest.approx(captured[-1]["loss"], rel=1e-5)
