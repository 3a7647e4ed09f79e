"""Training with captured steps: as eager, bit for bit with itself, through phases, growth, interruptions and mishaps."""

import json
import math
import os
import signal
from dataclasses import replace

import pytest
import torch
from cli import TINY
from test_training import At, data, equal, vhp
from torch import nn

import pyro_hvae as hv
from pyro_hvae import choosing, compiling, config, recipes, session
from pyro_hvae.capturing import Captured, capture
from pyro_hvae.checkpoints import load_checkpoint
from pyro_hvae.choosing import WORTHWHILE, decided
from pyro_hvae.config import TrainConfig
from pyro_hvae.errors import ConfigError, DivergenceError, Interrupted
from pyro_hvae.recipes import Stage
from pyro_hvae.session import Session
from pyro_hvae.watching import BLOCK

CPU = torch.device("cpu")
EAGER = TrainConfig(steps=60, batch_size=20, lr=1e-2, log_every=7, eval_every=20, save_every=25, seed=3, compile=False)
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


def rewo(kappa=4.2):
    return hv.Rewo(beta0=0.05, kappa=kappa, nu=2e-3, alpha=0.5)


# name -> what is trained, its schedules, its settings, how many graphs that takes, and where it is interrupted
RUNS = {
    "rewo": (vhp, lambda: rewo(3.6), {}, [2], 5),  # the initial phase, which 5 is in, leaves gradients out
    "growing": (ladder, lambda: hv.Progressive(fade=0.5), {"grad_clip": 5.0}, [4], 38),  # while the second layer fades in
    "iwae": (iwae, hv.Constant, {}, [1], 25),
    "stages": (two_stages, lambda: [rewo(), hv.Constant()], {}, [2, 1], 44),
}


def train(name, out=None, seed=0, **more):
    made, schedule, settings, _, _ = RUNS[name]
    settings = replace(more.pop("config", CONFIG), **settings)
    return hv.fit(made(seed), data(), settings, schedule(), out, validation=data(50), **more)


@pytest.mark.parametrize("name", RUNS)
def test_it_trains_as_it_does_eagerly_and_resumes_bit_for_bit(name, tmp_path, uncompiled):
    graphs, stop = RUNS[name][3:]
    eager, captured = train(name, config=EAGER), train(name, tmp_path / "whole")
    assert [c.graphs for c in uncompiled] == graphs and len(eager) == len(captured) > 8
    for one, two in zip(eager, captured, strict=True):
        assert one.keys() == two.keys()
        for key, value in one.items():
            assert two[key] == pytest.approx(value, rel=1e-4, abs=1e-5), (one["step"], key)
    with pytest.raises(Interrupted):
        train(name, tmp_path / "cut", trackers=[At(stop, lambda: os.kill(os.getpid(), signal.SIGINT))])
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
        running = Session(objective, data(), replace(CONFIG, steps=400, compile=compiled), rewo(3.6), 400)
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
    assert both[True][0] == both[False][0] > 5 and both[True][2] == both[False][2] == both[True][0]
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


def test_a_compiled_run_is_close_to_the_eager_one_and_says_what_it_is(tmp_path):
    """Compiled code in earnest, with a constraint that is watched in double precision."""
    objectives = {}
    for compiled in (False, True):
        objectives[compiled] = vhp()
        settings = replace(EAGER, compile=compiled)
        told = []
        tracker = At(-1, lambda: None)
        tracker.tell = told.append
        hv.fit(objectives[compiled], data(), settings, hv.Geco(), tmp_path / str(compiled), trackers=[tracker])
        assert bool([line for line in told if line.startswith("Compiled ")]) is compiled and not tracker.warnings
    for one, two in zip(*(o.parameters() for o in objectives.values()), strict=True):
        assert torch.allclose(one, two, rtol=1e-3, atol=1e-4)
    written = (tmp_path / "True/config.toml").read_text()
    assert "compile = true" in written and load_checkpoint(tmp_path / "True/checkpoints/last.pt")["compile"] is True
    assert "compile = false" in (tmp_path / "False/config.toml").read_text()


def test_the_flag_is_recorded_and_resuming_keeps_it_or_changes_it(tmp_path, command, uncompiled):
    run = tmp_path / "run"
    options = ["train", "vhp", "--dataset", "pendulum", *TINY, "--steps", "20", "--out", run]
    code, _, err = command(*options, "--compile")
    assert code == 0 and len(uncompiled) == 1, err
    assert "compile = true" in (run / "config.toml").read_text()
    assert load_checkpoint(run / "checkpoints/last.pt")["compile"] is True
    command("train", "--resume", run, "--steps", "30")
    assert len(uncompiled) == 2 and load_checkpoint(run / "checkpoints/last.pt")["compile"] is True
    code, _, err = command("train", "--resume", run, "--steps", "40", "--no-compile")
    assert code == 0 and len(uncompiled) == 2, err
    assert load_checkpoint(run / "checkpoints/last.pt")["compile"] is False
    assert "compile = false" in (run / "config.toml").read_text()


def test_a_short_run_says_in_one_line_that_it_is_eager(tmp_path, command, uncompiled):
    code, _, err = command("train", "vhp", "--dataset", "pendulum", *TINY, "--steps", "20", "--out", tmp_path / "run")
    assert code == 0 and not uncompiled and "compile = false" in (tmp_path / "run/config.toml").read_text()
    assert [line for line in err.splitlines() if "ompil" in line] == [
        "Training eagerly: 20 steps are too few for compiling to pay (--compile does it)."
    ]


def test_the_command_refuses_what_does_not_go_together(command):
    small = ["--dataset", "pendulum", "--steps", "5"]
    code, _, err = command("train", "vhp", *small, "--engine", "svi", "--compile")
    assert code == 2 and "neither compiles" in err
    code, _, err = command("train", "vhp", *small, "--precision", "fp16")
    assert code == 2 and "fp16" in err and "bf16" in err
    assert command("train", "vhp", *small, "--engine", "svi", "--precision", "bf16")[0] == 2
    assert TrainConfig(engine="svi", compile=False).compile is False


def test_bf16_from_the_command_line_is_recorded_and_trains(tmp_path, command, uncompiled):
    run = tmp_path / "run"
    options = ["--steps", "20", "--out", run, "--precision", "bf16", "--compile"]
    code, _, err = command("train", "vhp", "--dataset", "pendulum", *TINY, *options)
    assert code == 0 and 'precision = "bf16"' in (run / "config.toml").read_text(), err
    programs = load_checkpoint(run / "checkpoints/last.pt")["programs"][0]
    assert all(v.dtype != torch.bfloat16 for program in programs.values() for v in program.values())
    casts = [
        node
        for graph in uncompiled[0]._graphs.values()
        for node in graph.run.graph.graph.nodes
        if "bfloat16" in str((node.args, node.kwargs))
    ]
    assert casts and uncompiled[0].eager is None


def choose(steps=WORTHWHILE, device=CPU, **settings):
    chosen, line = decided(TrainConfig(**settings), steps, device)
    return chosen.compile, line


def test_whether_to_compile_is_decided_by_the_length_of_the_run(monkeypatch):
    monkeypatch.setattr(choosing, "compiler", lambda: "/usr/bin/g++")
    assert choose() == (True, "Compiling the training step, which pays from 5,000 steps (--no-compile).")
    assert choose(WORTHWHILE - 1)[0] is False and "4,999 steps are too few" in choose(WORTHWHILE - 1)[1]
    for asked in (True, False):
        assert choose(1 if asked else 10**6, compile=asked) == (asked, "")
    assert choose(10**6, engine="svi") == (False, "")
    assert choose(10**6, torch.device("mps"))[0] is False and "mps" in choose(10**6, torch.device("mps"))[1]
    assert choose(10**6, torch.device("cuda"))[0] is True
    monkeypatch.setattr(choosing, "compiler", lambda: None)
    assert choose(10**6)[0] is False and "no C++ compiler" in choose(10**6)[1]
    assert choose(10**6, torch.device("cuda"))[0] is True and choose(1, compile=True)[0] is True


def test_a_compiler_is_looked_for(monkeypatch, tmp_path):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compiling.compiler() is None
    mine = tmp_path / "c++"
    mine.write_text("#!/bin/sh\n")
    mine.chmod(0o755)
    assert compiling.compiler() == str(mine)


def test_the_shortest_stage_decides(uncompiled, monkeypatch):
    for worth, compiled in ((2, True), (3, False)):
        monkeypatch.setattr(choosing, "WORTHWHILE", worth)
        uncompiled.clear()
        hv.fit(two_stages(), data(), replace(CONFIG, compile=None, steps=6))  # of 4 and 2 steps
        assert len(uncompiled) == 2 * compiled


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
    settings = replace(CONFIG, steps=90, log_every=1000, save_every=1000, eval_every=1000)
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


def test_settings_are_refused_before_anything_runs():
    with pytest.raises(ConfigError, match="precision 'half'.*float32, bf16|half"):
        TrainConfig(precision="half")
    with pytest.raises(ConfigError, match="neither compiles nor changes precision"):
        TrainConfig(engine="svi", compile=True)
    assert config.TrainConfig().compile is None and isinstance(Session(vhp(), data(), CONFIG, rewo(), 9).captured, Captured)
    assert Session(vhp(), data(), EAGER, rewo(), 9).captured is None
