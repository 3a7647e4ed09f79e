"""The training loop: resume bit for bit, REWO's frozen phase, divergence, independence of models."""

import json
import math
import os
import re
import signal

import pytest
import torch
from small_runs import CONFIG, At, data, equal, rewo, vhp
from torch import nn
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae import recipes
from pyro_hvae.data import Batches
from pyro_hvae.errors import ConfigError, DivergenceError, Interrupted
from pyro_hvae.inference.sampling import ancestral
from pyro_hvae.objectives.elbo import ELBO
from pyro_hvae.runs.checkpoints import load_checkpoint
from pyro_hvae.runs.train_config import TrainConfig
from pyro_hvae.training.session import Session


def train(out, schedule=None, config=CONFIG, objective=None, **more):
    objective = objective or vhp()
    return hv.fit(objective, data(), config, schedule or rewo(), out, validation=data(50), **more)


@pytest.mark.parametrize("engine", ["fit", "svi"])
@pytest.mark.parametrize("stop", [1, 10, 24, 25, 59])
def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path, engine, stop):
    config = TrainConfig(**{**CONFIG.__dict__, "engine": engine})
    train(tmp_path / "whole", config=config)
    whole = load_checkpoint(tmp_path / "whole/checkpoints/last.pt")
    assert whole["session"]["schedule"]["main"]  # both phases are on the way

    sent = signal.SIGINT if stop % 2 else signal.SIGTERM
    with pytest.raises(Interrupted, match=f"stopped by {sent.name} at step {stop} of 60.*--resume") as caught:
        train(tmp_path / "cut", config=config, trackers=[At(stop, lambda: os.kill(os.getpid(), sent))])
    assert caught.value.exit_code == 128 + sent
    train(tmp_path / "cut", config=config, resume=True, objective=vhp(seed=99))
    cut = load_checkpoint(tmp_path / "cut/checkpoints/last.pt")
    assert equal(whole, cut)
    assert (tmp_path / "whole/metrics.jsonl").read_bytes() == (tmp_path / "cut/metrics.jsonl").read_bytes()
    best = [load_checkpoint(tmp_path / run / "checkpoints/best.pt") for run in ("whole", "cut")]
    assert equal(*best)


def test_killed_between_checkpoints_goes_on_from_the_last_one(tmp_path):
    class Killed(BaseException):
        pass

    def kill():
        raise Killed

    train(tmp_path / "whole")
    with pytest.raises(Killed):
        train(tmp_path / "cut", trackers=[At(40, kill)])
    with open(tmp_path / "cut/metrics.jsonl", "a") as file:
        file.write('{"step": 42, "lo')  # half a line
    train(tmp_path / "cut", resume=True)
    assert equal(*(load_checkpoint(tmp_path / run / "checkpoints/last.pt") for run in ("whole", "cut")))
    assert (tmp_path / "whole/metrics.jsonl").read_bytes() == (tmp_path / "cut/metrics.jsonl").read_bytes()


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    train(tmp_path / "a")
    before = (tmp_path / "a/metrics.jsonl").read_bytes()
    train(tmp_path / "a", resume=True)
    assert (tmp_path / "a/metrics.jsonl").read_bytes() == before


def test_a_run_may_be_made_longer(tmp_path):
    config = {**CONFIG.__dict__, "lr_decay": 0.0}
    train(tmp_path / "whole", hv.Geco(), TrainConfig(**config))
    train(tmp_path / "parts", hv.Geco(), TrainConfig(**{**config, "steps": 30}))
    train(tmp_path / "parts", hv.Geco(), TrainConfig(**config), resume=True)
    whole, parts = (load_checkpoint(tmp_path / run / "checkpoints/last.pt") for run in ("whole", "parts"))
    assert equal(whole["programs"], parts["programs"])


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


def test_both_engines_take_the_same_steps():
    """Stock SVI with our scheduled bound draws the same noise and lands on the same weights, up to rounding."""
    found = {}
    for engine in ("fit", "svi"):
        objective = vhp()
        hv.fit(objective, data(), TrainConfig(steps=80, batch_size=20, lr=1e-2, engine=engine), rewo())
        found[engine] = torch.cat([p.detach().flatten() for p in objective.parameters()])
    assert_close(found["fit"], found["svi"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("engine", ["fit", "svi"])
def test_two_models_in_one_process_do_not_touch_each_other(engine):
    config = TrainConfig(steps=30, batch_size=20, lr=1e-2, engine=engine)
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


def test_divergence_names_the_site_and_keeps_the_checkpoint(tmp_path):
    class Exploding(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model, self.calls = model, 0

        def forward(self, x=None, size=1):
            self.calls += 1
            scale = float("nan") if self.calls > 40 else 1.0
            self.model.likelihood.net[-1].bias.data.mul_(scale)
            return self.model(x, size)

    objective = vhp()
    objective = objective.elbo(Exploding(objective.model), objective.guide)
    with pytest.raises(DivergenceError, match=r"became nan at step \d+; worst site 'x'.*--lr") as caught:
        hv.fit(objective, data(), CONFIG, rewo(), tmp_path / "run")
    assert caught.value.exit_code == 4 and "last.pt" in str(caught.value)
    kept = load_checkpoint(tmp_path / "run/checkpoints/last.pt")
    assert kept["step"] == 25
    assert all(v.isfinite().all() for v in kept["programs"][0]["model"].values())
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "diverged"


def test_an_initial_phase_that_cannot_end_is_warned_about_during_the_run(tmp_path):
    watcher = At(-1, lambda: None)
    train(tmp_path / "run", schedule=hv.Rewo(beta0=0.05, kappa=1e-3), trackers=[watcher])
    (message,) = watcher.warnings
    assert "initial phase has not ended after 15 steps" in message and "-o kappa=" in message


def test_iwae_with_a_weighted_schedule_is_refused():
    torch.manual_seed(0)
    objective = recipes.build("iwae", data(), {"particles": 3})[0].objective
    with pytest.raises(ConfigError, match="does not commute with the log-mean-exp"):
        hv.fit(objective, data(), TrainConfig(steps=2, batch_size=20), hv.WarmUp(10))


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


def test_best_checkpoint_is_of_the_main_phase(tmp_path):
    rows = train(tmp_path / "run")
    best = load_checkpoint(tmp_path / "run/checkpoints/best.pt")
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


def test_weights_that_are_no_numbers_are_never_saved(tmp_path):
    objective = vhp()

    def poison():
        objective.model.levels[0].net[0].weight.data[0, 0] = float("nan")

    # Poisoned by the tracker of step 50, just before the checkpoint of step 50 would be written.
    with pytest.raises(DivergenceError, match="last good checkpoint is kept"):
        train(tmp_path / "run", objective=objective, trackers=[At(50, poison)])
    kept = load_checkpoint(tmp_path / "run/checkpoints/last.pt")
    assert kept["step"] == 25 and all(v.isfinite().all() for v in kept["programs"][0]["model"].values())


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
        hv.fit(stages(), data(), CONFIG, [hv.Geco(), hv.Constant()], tmp_path / out, validation=data(50), **more)
        return load_checkpoint(tmp_path / out / "checkpoints/last.pt")

    whole = run("whole")
    rows = [json.loads(line) for line in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    assert {row["stage"] for row in rows if row["step"] <= 40} == {0} and {
        row["stage"] for row in rows if row["step"] > 40
    } == {1}
    for stop in (15, 40, 50):
        with pytest.raises(Interrupted):
            run(f"cut{stop}", trackers=[At(stop, lambda: os.kill(os.getpid(), signal.SIGINT))])
        assert equal(run(f"cut{stop}", resume=True), whole)


def test_gradients_are_clipped_to_the_asked_norm():
    for clip in (0.0, 1e-3):
        objective = vhp()
        session = Session(objective, data(), TrainConfig(steps=2, batch_size=20, grad_clip=clip), hv.Constant(), 2)
        session.step()
        norm = torch.cat([p.grad.flatten() for p in objective.parameters()]).norm().item()
        assert norm == pytest.approx(1e-3, rel=1e-3) if clip else norm > 1


def test_a_warm_up_given_as_a_fraction_knows_the_length_of_the_run():
    rows = hv.fit(vhp(), data(), TrainConfig(steps=20, batch_size=20, log_every=1), hv.WarmUp(0.5))
    assert [row["beta"] for row in rows[:12]] == pytest.approx([min(1.0, t / 10) for t in range(1, 13)])


def test_a_finite_but_exploding_loss_stops_the_run():
    with pytest.raises(DivergenceError, match="the loss became"):
        hv.fit(vhp(), data(), TrainConfig(steps=50, batch_size=20, lr=1e6), hv.Constant())


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
            self.guide, self.seen = guide, set()

        def forward(self, x, size=1):
            self.seen.add((len(x), self.training))
            return self.guide(x)

    objective = vhp()
    guide = Watching(objective.guide)
    hv.fit(objective.elbo(objective.model, guide), data(), CONFIG, rewo(), validation=data(50))
    assert {mode for size, mode in guide.seen if size == 50} == {False}
    assert {mode for size, mode in guide.seen if size == 20} == {True}


def test_the_best_of_several_starts_is_trained_from_scratch(tmp_path):
    from pyro_hvae.runs.resolution import resolve
    from pyro_hvae.training.experiment_plan import plan
    from pyro_hvae.training.experiment_training import train
    from pyro_hvae.training.trial_starts import pick_start, trial_bound

    options = {"hidden": "8", "upper": "8", "particles": "2", "size": "200", "starts": "3", "kappa": "4", "alpha": "0.5"}
    experiment = resolve("vhp", "pendulum", options=options, train={"steps": "100", "batch_size": "20", "lr": "0.01"})
    told = []
    made = pick_start(experiment, told.append)
    bounds = [float(v) for v in re.findall(r"-\d+\.\d+", told[0])]
    chosen = bounds.index(max(bounds))
    assert len(set(bounds)) == 3 and f"training number {chosen + 1}" in told[0]
    expected = plan(experiment, chosen).stages[0].objective.state_dict()
    assert equal(dict(made.stages[0].objective.state_dict()), dict(expected))
    assert not equal(dict(expected), dict(plan(experiment, (chosen + 1) % 3).stages[0].objective.state_dict()))
    run = train(experiment, tmp_path / "run")
    first = load_checkpoint(tmp_path / "run/checkpoints/last.pt")
    assert first["step"] == 100 and run.step == 100
    # A trial takes the very steps of the run it tries: a tenth of it, on the same noise and order.
    again = plan(experiment, chosen)
    x, validation = again.dataset.train.x, again.dataset.validation.x
    assert trial_bound(again.stages[0], x, experiment.train, again.schedules[0], validation) == pytest.approx(
        max(bounds), abs=0.006
    )


def test_stages_need_as_many_schedules():
    from pyro_hvae.recipes import Stage

    stages = [Stage("a", vhp(seed=1)), Stage("b", vhp(seed=2))]
    with pytest.raises(ConfigError, match="2 stages need as many schedules, got 1"):
        hv.fit(stages, data(), TrainConfig(steps=4, batch_size=20), hv.Geco())
    hv.fit(stages, data(), TrainConfig(steps=4, batch_size=20))


def test_a_run_cannot_be_made_shorter_than_it_is(tmp_path):
    train(tmp_path / "a")
    with pytest.raises(ConfigError, match="at step 60 of 60"):
        train(tmp_path / "a", config=TrainConfig(**{**CONFIG.__dict__, "steps": 30}), resume=True)


def test_a_frozen_first_layer_is_said_under_rewo_and_fine_otherwise():
    objective = vhp()
    for p in [*objective.model.likelihood.parameters(), *objective.guide.levels[0].parameters()]:
        p.requires_grad_(False)
    with pytest.raises(ConfigError, match="nothing that reaches"):
        hv.fit(objective, data(), TrainConfig(steps=4, batch_size=20), rewo())
    hv.fit(objective, data(), TrainConfig(steps=4, batch_size=20), hv.Geco())
