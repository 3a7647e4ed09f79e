"""Early stopping: when it may begin to count, what it keeps, and that a resumed run stops where the whole one does."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from small_runs import CONFIG, At, Killed, assert_same_run, checkpoint, data, equal, interrupt, kill, rewo, vhp

import pyro_hvae as hv
from pyro_hvae.errors import ConfigError, Interrupted
from pyro_hvae.runs.run_directory import RunDirectory
from pyro_hvae.training.early_stopping import EarlyStopping, describe_idle_patience

# The learning rate is far too large, so that the bound soon falls.
STOPS = replace(CONFIG, steps=60, lr=0.5, lr_decay=0.0, eval_every=2, save_every=5, patience=3)


def train(out=None, config=STOPS, schedule=None, **more):
    return hv.fit(vhp(), data(), config, schedule or hv.Constant(), out, validation=data(50), progress=False, **more)


def bounds(rows):
    return {row["step"]: row["validation_elbo"] for row in rows if "validation_elbo" in row}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("early") / "run"
    return out, train(out)


def test_it_stops_after_so_many_evaluations_without_a_better_bound(whole):
    out, history = whole
    found, end = bounds(history), history[-1]["step"]
    best = max(found, key=lambda step: found[step])
    assert end == best + 3 * 2 < 60
    assert (
        f"Stopped early at step {end} of 60" in history.ending and f"{found[best]:.3f} nats at step {best}." in history.ending
    )
    state = RunDirectory(out).read_json("run.json")
    assert (state["status"], state["step"], state["stopped_early"]) == ("finished", end, history.ending)
    assert checkpoint(out)["step"] == end and checkpoint(out, "best")["step"] == best
    watcher = At()
    train(trackers=[watcher])
    assert watcher.short == 60 - end


def test_at_the_last_step_nothing_ended_early(whole):
    steps = whole[1][-1]["step"]
    history = train(config=replace(STOPS, steps=steps))
    assert history == whole[1] and whole[1].ending and history.ending == ""


def test_a_patience_that_no_training_waits_for_is_said(tmp_path):
    config = replace(STOPS, steps=8)  # evaluations at 2, 4 and 6; a fourth at 8 would end nothing
    with pytest.warns(UserWarning, match=r"patience=3 cannot end a training of 8 steps: .* it takes 9 or more") as caught:
        train(tmp_path / "run", config)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert "cannot end" in RunDirectory(tmp_path / "run").read_json("run.json")["warning"]
    for enough in (replace(config, steps=9), replace(config, patience=2), replace(config, eval_every=1)):  # the advice
        assert describe_idle_patience(enough, enough.steps) == ""


@pytest.mark.parametrize("stop", [3, 6, 7])
def test_an_interrupted_run_stops_where_the_whole_one_does(tmp_path, whole, stop):
    with pytest.raises((Interrupted, Killed)):
        train(tmp_path / "cut", trackers=[At(stop, interrupt if stop % 2 else kill)])
    train(tmp_path / "cut", resume=True)
    assert_same_run(whole[0], tmp_path / "cut")


def test_a_run_that_has_stopped_goes_on_with_more_patience_only(tmp_path):
    first = train(tmp_path / "run")
    assert train(tmp_path / "run", resume=True) == first
    longer = train(tmp_path / "run", replace(STOPS, patience=5), resume=True)
    assert longer[: len(first) - 1] == first[:-1] and longer[-1]["step"] > first[-1]["step"]


def test_without_a_run_the_pair_has_its_best_weights(whole):
    objective = vhp()
    hv.fit(objective, data(), STOPS, hv.Constant(), validation=data(50), progress=False)
    best = checkpoint(whole[0], "best")["programs"][0]
    assert equal(dict(objective.model.state_dict()), best["model"]) and equal(dict(objective.guide.state_dict()), best["guide"])


@pytest.mark.parametrize("schedule, from_step", [(hv.WarmUp(20), 20), (hv.Cyclical(2, 0.5), 45), (hv.Ramp(8), 24)])
def test_no_evaluation_counts_before_the_schedule_has_settled(schedule, from_step):
    history = train(config=replace(STOPS, patience=1), schedule=schedule)
    found = bounds(history)
    falls = [step for step, value in found.items() if value < max(v for s, v in found.items() if s <= step)]
    assert falls[0] < from_step <= history[-1]["step"]  # it fell before, and that ended nothing
    assert history[-1]["step"] == next(step for step in falls if step >= from_step)


def test_the_initial_phase_of_rewo_is_waited_for():
    with pytest.warns(UserWarning, match="the initial phase has not ended"):
        history = train(config=replace(STOPS, patience=1, lr=0.1, steps=40), schedule=hv.Rewo(beta0=0.05, kappa=1e-3))
    found = [*bounds(history).values()]
    assert any(after < before for before, after in pairwise(found))
    assert history[-1]["step"] == 40 and not history[-1]["main"]
    schedule = rewo()
    assert not schedule.settled


def test_layers_that_fade_in_are_waited_for():
    schedule = hv.Progressive(fade=3)
    schedule.start(20, ["z2", "z1"])
    found = []
    for _ in range(20):
        schedule.update()
        found.append(schedule.settled)
    assert found == [False] * 13 + [True] * 7


def test_validation_data_are_needed():
    with pytest.raises(ConfigError, match="patience=3 waits for a better bound of validation data, and there are none"):
        hv.fit(vhp(), data(), STOPS, progress=False)
    with pytest.raises(ConfigError, match="patience must not be negative, got -1"):
        hv.TrainConfig(patience=-1)


def test_a_bound_that_is_equal_is_no_better_one():
    stopping = EarlyStopping(2)
    assert [stopping.add(-1.0, step, True) for step in range(3)] == [True, False, False] and stopping.reached
    old = EarlyStopping(2)
    old.load_state_dict({"best": -1.0})  # as a checkpoint of an older version has it
    assert not old.reached and not old.add(-1.5, 9, True) and old.best == -1.0
    assert torch.tensor(EarlyStopping(0).best).isinf() and not EarlyStopping(0).reached
