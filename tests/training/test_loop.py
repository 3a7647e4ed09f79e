"""The training loop: resuming bit for bit, both engines, independence of models, messages."""

import json
import shutil
import signal
from dataclasses import replace

import pytest
import torch
from small_runs import CONFIG, At, Killed, assert_same_run, checkpoint, data, equal, interrupt, kill, rewo, vhp
from torch import nn
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae import recipes
from pyro_hvae.data import Batches
from pyro_hvae.errors import ConfigError, Interrupted
from pyro_hvae.objectives.elbo import ELBO
from pyro_hvae.runs.run_directory import RunDirectory
from pyro_hvae.runs.train_config import TrainConfig


def train(out, schedule=None, config=CONFIG, objective=None, **more):
    objective = objective or vhp()
    return hv.fit(objective, data(), config, schedule or rewo(), out, validation=data(50), **more)


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory):
    """Engine -> an uninterrupted run."""
    runs = {engine: tmp_path_factory.mktemp(engine) / "run" for engine in ("fit", "svi")}
    for engine, run in runs.items():
        train(run, config=replace(CONFIG, engine=engine))
    return runs


@pytest.mark.parametrize("engine", ["fit", "svi"])
@pytest.mark.parametrize("stop", [1, 10, 24, 25, 59])
def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path, whole_runs, engine, stop):
    config, whole = replace(CONFIG, engine=engine), whole_runs[engine]
    assert checkpoint(whole)["session"]["schedule"]["main"]  # both phases are on the way

    sent = signal.SIGINT if stop % 2 else signal.SIGTERM
    with pytest.raises(Interrupted, match=f"stopped by {sent.name} at step {stop} of 60.*--resume") as caught:
        train(tmp_path / "cut", config=config, trackers=[At(stop, lambda: interrupt(sent))])
    assert caught.value.exit_code == 128 + sent
    train(tmp_path / "cut", config=config, resume=True, objective=vhp(seed=99))
    assert_same_run(whole, tmp_path / "cut")


def test_killed_between_checkpoints_goes_on_from_the_last_one(tmp_path, whole_runs):
    with pytest.raises(Killed):
        train(tmp_path / "cut", trackers=[At(40, kill)])
    with open(tmp_path / "cut/metrics.jsonl", "a") as file:
        file.write('{"step": 42, "lo')  # half a line
    train(tmp_path / "cut", resume=True)
    assert_same_run(whole_runs["fit"], tmp_path / "cut")


def test_resuming_a_finished_run_changes_nothing(tmp_path, whole_runs):
    shutil.copytree(whole_runs["fit"], tmp_path / "a")
    before = (tmp_path / "a/metrics.jsonl").read_bytes()
    train(tmp_path / "a", resume=True)
    assert (tmp_path / "a/metrics.jsonl").read_bytes() == before


def test_a_run_may_be_made_longer(tmp_path):
    config = replace(CONFIG, lr_decay=0.0, steps=24)
    train(tmp_path / "whole", hv.Geco(), config)
    train(tmp_path / "parts", hv.Geco(), replace(config, steps=12))
    train(tmp_path / "parts", hv.Geco(), config, resume=True)
    whole, parts = (checkpoint(tmp_path / run) for run in ("whole", "parts"))
    assert equal(whole["programs"], parts["programs"])


def test_both_engines_take_the_same_steps(whole_runs):
    """Stock SVI with our scheduled bound draws the same noise and lands on the same weights, up to rounding."""
    fit, svi = ([p for role in checkpoint(run)["programs"][0].values() for p in role.values()] for run in whole_runs.values())
    assert len(fit) == len(svi)
    for ours, stock in zip(fit, svi, strict=True):
        assert_close(ours, stock, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("engine", ["fit", "svi"])
def test_two_models_in_one_process_do_not_touch_each_other(engine):
    config = TrainConfig(steps=10, batch_size=20, lr=1e-2, engine=engine)
    alone = vhp(seed=1)
    hv.fit(alone, data(), config, hv.Geco())
    first, second = vhp(seed=1), vhp(seed=2)
    frozen = {k: v.clone() for k, v in second.state_dict().items()}
    hv.fit(first, data(), config, hv.Geco())
    assert equal(dict(alone.state_dict()), dict(first.state_dict()))
    assert equal(dict(second.state_dict()), frozen)
    kept = {k: v.clone() for k, v in first.state_dict().items()}
    hv.fit(second, data(), config, hv.Geco())
    assert equal(dict(first.state_dict()), kept)
    assert not equal(dict(second.state_dict()), frozen)


@pytest.mark.parametrize("engine", ["fit", "svi"])
def test_frozen_parts_stay_frozen(engine):
    objective = vhp()
    for p in objective.model.likelihood.parameters():
        p.requires_grad_(False)
    before = [p.clone() for p in objective.model.likelihood.parameters()]
    hv.fit(objective, data(), TrainConfig(steps=10, batch_size=20, engine=engine))
    after = list(objective.model.likelihood.parameters())
    assert all(torch.equal(a, b) and not b.requires_grad for a, b in zip(before, after, strict=True))


def test_fit_leaves_the_callers_random_stream_and_threads_alone():
    threads, state = torch.get_num_threads(), None
    objective, x = vhp(), data()
    state = torch.get_rng_state()
    hv.fit(objective, x, TrainConfig(steps=3, batch_size=20, threads=1), hv.Geco())
    assert torch.equal(state, torch.get_rng_state()) and torch.get_num_threads() == threads


def test_seeds_decide_and_repeat():
    def run(seed):
        objective = vhp()
        rows = hv.fit(objective, data(), TrainConfig(steps=8, batch_size=20, seed=seed, log_every=1))
        return [row["loss"] for row in rows]

    assert run(1) == run(1) != run(2)


def test_an_initial_phase_that_cannot_end_is_warned_about_during_the_run(tmp_path):
    watcher = At(-1, lambda: None)
    config = replace(CONFIG, steps=20)
    train(tmp_path / "run", schedule=hv.Rewo(beta0=0.05, kappa=1e-3), config=config, trackers=[watcher])
    (message,) = watcher.warnings
    assert "initial phase has not ended after 5 steps" in message and "Raise kappa to " in message


def test_iwae_with_a_weighted_schedule_is_refused():
    torch.manual_seed(0)
    objective = recipes.build("iwae", data(), {"particles": 3})[0].objective
    with pytest.raises(ConfigError, match="does not commute with the log-mean-exp"):
        hv.fit(objective, data(), TrainConfig(steps=2, batch_size=20), hv.WarmUp(10))


def test_batches_cover_every_epoch_once_and_continue_from_their_state():
    x = torch.arange(10.0)
    batches = Batches(x, 3, seed=1)
    seen = torch.cat([batches.next() for _ in range(3)])
    assert len(seen.unique()) == 9
    state = batches.state_dict()
    expected = [batches.next() for _ in range(7)]
    other = Batches(x, 3, seed=77)
    other.load_state_dict(state)
    assert all(torch.equal(a, other.next()) for a in expected)
    with pytest.raises(ConfigError, match="a batch of 11"):
        Batches(x, 11, seed=1)


def test_best_checkpoint_is_of_the_main_phase(whole_runs):
    rows = RunDirectory(whole_runs["fit"]).rows()
    best = checkpoint(whole_runs["fit"], "best")
    values = {row["step"]: row["validation_elbo"] for row in rows if "validation_elbo" in row and row["main"]}
    assert best["step"] == max(values, key=values.get)


def test_default_fit_of_an_own_pair_is_the_readmes():
    model = hv.Chain(hv.StandardNormal(2), [], hv.Bernoulli(2, 256))
    guide = hv.BottomUp([hv.Gaussian(256, 2)])
    x = data().flatten(1).round()
    rows = hv.fit(ELBO()(model, guide), x, TrainConfig(steps=300, lr=1e-3), schedule=hv.WarmUp(50), out="runs/mine")
    assert rows[-1]["elbo"] > rows[0]["elbo"] + 5
    fresh = hv.Chain(hv.StandardNormal(2), [], hv.Bernoulli(2, 256)), hv.BottomUp([hv.Gaussian(256, 2)])
    loaded = hv.load("runs/mine", program=fresh)
    assert loaded.model is fresh[0] and equal(dict(loaded.model.state_dict()), dict(model.state_dict()))
    with pytest.raises(ConfigError, match="program="):
        hv.load("runs/mine")


def test_a_run_on_own_data_cannot_be_opened_by_commands_but_says_how():
    from pyro_hvae.runs.run_loading import open_run

    model, guide = vhp().model, vhp().guide
    hv.fit(ELBO()(model, guide), data(), TrainConfig(steps=2, batch_size=20), out="runs/mine")
    opened = open_run("runs/mine", program=(model, guide))
    with pytest.raises(ConfigError, match="hv.load"):
        _ = opened.dataset


def test_two_stages_run_one_after_the_other_and_resume(tmp_path):
    """The second stage sees the first one's frozen features; an interruption in either goes on bit for bit."""
    from pyro_hvae.recipes import Stage

    def stages():
        first = vhp(seed=1)
        torch.manual_seed(2)
        second = hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, 2, (8,), scale=0.5)), hv.BottomUp([hv.Gaussian(2, 2, (8,))])

        def view(x):
            return hv.latents(first.guide, x, mean=True)["z1"]

        return [Stage("first", first, 2.0), Stage("second", ELBO()(*second), 1.0, view)]

    def run(out, **more):
        config = replace(CONFIG, steps=30, save_every=12)
        hv.fit(stages(), data(), config, [hv.Geco(), hv.Constant()], tmp_path / out, validation=data(50), **more)
        return checkpoint(tmp_path / out)

    whole = run("whole")
    rows = [json.loads(line) for line in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    assert {row["stage"] for row in rows if row["step"] <= 20} == {0} and {
        row["stage"] for row in rows if row["step"] > 20
    } == {1}
    for stop in (8, 20, 25):
        with pytest.raises(Interrupted):
            run(f"cut{stop}", trackers=[At(stop, interrupt)])
        assert equal(run(f"cut{stop}", resume=True), whole)


def test_a_warm_up_given_as_a_fraction_knows_the_length_of_the_run():
    rows = hv.fit(vhp(), data(), TrainConfig(steps=20, batch_size=20, log_every=1), hv.WarmUp(0.5))
    assert [row["beta"] for row in rows[:12]] == pytest.approx([min(1.0, t / 10) for t in range(1, 13)])


def test_every_datum_of_an_epoch_is_used_when_the_batch_divides_it():
    batches = Batches(torch.arange(12.0), 4, seed=0)
    for _ in range(3):
        assert sorted(torch.cat([batches.next() for _ in range(3)]).tolist()) == list(range(12))
    first, second = (torch.cat([batches.next() for _ in range(3)]) for _ in range(2))
    assert not torch.equal(first, second)


def test_modules_are_evaluated_in_evaluation_mode_and_trained_in_training_mode():
    class Watching(nn.Module):
        def __init__(self, guide):
            super().__init__()
            self.guide, self.seen = guide, []

        def forward(self, x, size=1):
            self.seen.append((len(x), self.training))
            return self.guide(x)

    objective = vhp()
    guide = Watching(objective.guide)
    config = replace(CONFIG, steps=20)
    hv.fit(objective.elbo(objective.model, guide), data(), config, rewo(), validation=data(50), trackers=[At()])
    assert {mode for size, mode in guide.seen if size == 50} == {False}
    checks = [mode for size, mode in guide.seen if size == 20][:2]  # before the first step the pair is looked at
    assert checks == [False, False] and [mode for size, mode in guide.seen if size == 20][2:] == [True] * 20


def test_stages_need_as_many_schedules():
    from pyro_hvae.recipes import Stage

    stages = [Stage("a", vhp(seed=1)), Stage("b", vhp(seed=2))]
    with pytest.raises(ConfigError, match="2 stages need as many schedules, got 1"):
        hv.fit(stages, data(), TrainConfig(steps=4, batch_size=20), hv.Geco())
    hv.fit(stages, data(), TrainConfig(steps=4, batch_size=20))


def test_a_run_cannot_be_made_shorter_than_it_is(whole_runs):
    with pytest.raises(ConfigError, match="at step 60 of 60"):
        train(whole_runs["fit"], config=replace(CONFIG, steps=30), resume=True)


def test_a_frozen_first_layer_is_said_under_rewo_and_fine_otherwise():
    objective = vhp()
    for p in [*objective.model.likelihood.parameters(), *objective.guide.levels[0].parameters()]:
        p.requires_grad_(False)
    with pytest.raises(ConfigError, match="nothing that reaches"):
        hv.fit(objective, data(), TrainConfig(steps=4, batch_size=20), rewo())
    hv.fit(objective, data(), TrainConfig(steps=4, batch_size=20), hv.Geco())
