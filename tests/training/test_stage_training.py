"""Training in stages, with data, settings and an end of their own, and resumed bit for bit."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from small_runs import At, Killed, assert_same_run, checkpoint, equal, interrupt, kill
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae.data import Rows
from pyro_hvae.data.rows import bernoulli
from pyro_hvae.errors import Interrupted
from pyro_hvae.objectives.elbo import ELBO
from pyro_hvae.recipes import Stage, stage_lengths
from pyro_hvae.runs.trackers import Progress
from pyro_hvae.runs.train_config import TrainConfig
from pyro_hvae.runtime.random_state import fixed_seed
from pyro_hvae.schedules import Constant
from pyro_hvae.schedules.plateau import PlateauRule
from pyro_hvae.training.optimizers import learning_rate
from pyro_hvae.training.session import Session

CONFIG = TrainConfig(steps=60, batch_size=20, lr=1e-2, log_every=7, eval_every=20, save_every=25, seed=3, device="cpu")
ALWAYS = PlateauRule(epochs=1, tolerance=1e6)  # the second epoch is as the first, whatever the losses
END, LENGTHS = 8, [8, 15]  # of 100 data in batches of 25: two epochs, of the 45 and 15 steps that are planned


def numbers(n, features=3, seed=0):
    return torch.randn(n, features, generator=torch.Generator().manual_seed(seed))


OWN = (numbers(100, 4, 1), numbers(30, 4, 2))
X, HELD_OUT = numbers(90, 4, 3), numbers(50, 4, 4)


def pair(features, seed):
    torch.manual_seed(seed)
    model = hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, features, (8,), scale=0.5))
    return ELBO()(model, hv.BottomUp([hv.Gaussian(features, 2, (8,))]))


def make(seed=0, until=ALWAYS, **second):
    """Two stages: the first on data of its own, the second on the first one's codes."""
    first, last = pair(4, seed), pair(2, seed + 1)

    def view(x):
        return hv.latents(first.guide, x, mean=True)["z1"]

    settings = {"lr": 5e-3, "batch_size": 25, "lr_decay": 0.0}
    return [
        Stage("first", first, 3.0, data=OWN, settings=settings, until=until),
        Stage("second", last, 1.0, **{"view": view, "keep": True, **second}),
    ]


def fit(out=None, stages=None, x=X, trackers=(), **more):
    try:
        return hv.fit(stages or make(), x, CONFIG, out=out, validation=HELD_OUT, trackers=trackers, **more)
    finally:
        assert not any(tracker.warnings for tracker in trackers if isinstance(tracker, At))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    run = tmp_path_factory.mktemp("stages") / "whole"
    fit(run)
    return run


def weights(stages):
    return [p.detach().clone() for stage in stages for p in stage.objective.parameters()]


@pytest.mark.parametrize("shares", [(0.9, 0.1), (0.1, 0.9), (1, 1, 1), (0.98, 0.01, 0.01), (0.01, 0.01, 0.98)])
def test_the_lengths_of_stages_add_up_however_few_the_steps(shares):
    stages = [replace(make()[0], share=share) for share in shares]
    for steps in range(len(shares), 40):
        lengths = stage_lengths(steps, stages)
        assert sum(lengths) == steps and min(lengths) >= 1
    long = stage_lengths(100_000, stages)
    assert long == pytest.approx([100_000 * share / sum(shares) for share in shares], abs=1)


def test_a_stage_ends_early_and_the_next_follows(tmp_path):
    assert stage_lengths(60, make()) == [45, 15]
    told = At()
    found = fit(tmp_path / "a", trackers=[told])
    assert [(row["step"], row["stage"]) for row in found] == [(7, 0), (8, 0), (14, 1), (20, 1), (21, 1), (23, 1)]
    assert [row["step"] for row in found if "validation_elbo" in row] == [8, 20, 23]
    saved = checkpoint(tmp_path / "a")
    assert saved["lengths"] == LENGTHS and (saved["step"], saved["steps"], saved["stage"]) == (23, 60, 1)
    state = json.loads((tmp_path / "a/run.json").read_text())
    assert (state["status"], state["step"]) == ("finished", 23)
    assert told.started == (60, 0) and (told.taken, told.short) == (23, 37)


def test_without_a_rule_all_planned_steps_are_taken(tmp_path):
    told = At()
    found = fit(tmp_path / "a", make(until=None), trackers=[told])
    assert (told.taken, told.short) == (60, 0) and found[-1]["step"] == 60
    assert checkpoint(tmp_path / "a")["lengths"] == [45, 15]


def test_a_loss_that_is_never_flat_takes_all_planned_steps():
    assert fit(stages=make(until=PlateauRule(epochs=1, tolerance=1e-12)))[-1]["step"] == 60


def test_the_last_stage_may_end_early_as_well(tmp_path):
    """Of 90 data in batches of 20: two epochs of four steps, their rest dropped."""
    stages = make()
    stages[1], told = replace(stages[1], until=ALWAYS), At()
    found = fit(tmp_path / "a", stages, trackers=[told])
    assert found[-1]["step"] == 8 + 8 and "validation_elbo" in found[-1]
    assert checkpoint(tmp_path / "a")["step"] == 16 and (told.taken, told.short) == (16, 44)
    assert json.loads((tmp_path / "a/run.json").read_text())["step"] == 16


def test_each_stage_has_its_own_data_and_settings():
    stages = make()
    seen = {0: [], 1: []}

    def watch(number, objective):
        def note(module, inputs):
            seen[number].append((module.training, inputs[0].detach().clone()))

        return objective.guide.register_forward_pre_hook(note)

    hooks = [watch(number, stage.objective) for number, stage in enumerate(stages)]
    found = fit(stages=stages)
    for hook in hooks:
        hook.remove()
    codes = hv.latents(stages[0].objective.guide, X, mean=True)["z1"]
    for number, (batch, x) in enumerate(((25, OWN[0]), (20, codes))):
        batches = [value for training, value in seen[number] if training and len(value) == batch]
        assert len(batches) == LENGTHS[number]
        distances = torch.cdist(torch.cat(batches), x, compute_mode="donot_use_mm_for_euclid_dist")
        assert distances.min(1).values.max() < 1e-6
    judged = [value for training, value in seen[0] if not training and len(value) == 30]
    assert len(judged) == 1 and torch.equal(judged[0], OWN[1])
    judged = [value for training, value in seen[1] if not training]
    assert [len(value) for value in judged] == [20, 50, 50]  # before the first step the pair is looked at
    assert_close(judged[-1], hv.latents(stages[0].objective.guide, HELD_OUT, mean=True)["z1"])
    assert [row["lr"] for row in found if row["stage"] == 0] == [5e-3, 5e-3]
    expected = [learning_rate(1e-2, CONFIG.lr_decay, row["step"] - 8, 15) for row in found if row["stage"] == 1]
    assert [row["lr"] for row in found if row["stage"] == 1] == expected and expected[-1] == pytest.approx(2e-4)


def test_a_run_is_its_stages_one_after_the_other():
    """The loop adds nothing to two sessions on one stream of noise, the second of which sees the first one's codes."""
    stages, begun = make(), []
    stages[1] = replace(stages[1], before=lambda: begun.append(weights(stages[:1])))
    fit(stages=stages)
    by_hand = make()
    with fixed_seed(CONFIG.seed):
        settings = replace(CONFIG, **by_hand[0].settings)
        first = Session(by_hand[0].objective, OWN[0], settings, Constant(), 45, ALWAYS)
        while not first.done:
            first.step()
        second = Session(by_hand[1].objective, by_hand[1].view(X), CONFIG, Constant(), 15)
        for _ in range(15):
            second.step()
    assert first.t == END
    assert equal(weights(stages), weights(by_hand))
    assert len(begun) == 1 and equal(begun[0], weights(by_hand[:1]))  # called once, when the first was trained


@pytest.mark.parametrize("stop", [1, 6, 8, 9, 17, 22])
def test_interrupted_and_resumed_is_the_uninterrupted_run(tmp_path, whole, stop):
    """In stage one, exactly at its early end, and in stage two."""
    told = At(stop, interrupt)
    with pytest.raises(Interrupted, match=f"stopped by SIGINT at step {stop} of 60"):
        fit(tmp_path / "cut", trackers=[told])
    assert checkpoint(tmp_path / "cut")["stage"] == (0 if stop <= END else 1)
    again = At()
    fit(tmp_path / "cut", make(), resume=True, trackers=[again])
    assert_same_run(whole, tmp_path / "cut")
    # What the bar of either was told adds up, wherever it was cut.
    assert again.started == (60 if stop <= END else 23, stop)
    assert again.taken == 23 - stop and again.started[0] - again.short == again.done == 23
    assert told.short == (0 if stop <= END else 37)


@pytest.mark.parametrize("stop", [6, 8, 17])
def test_all_weights_of_a_resumed_run_are_the_checkpoint_s(tmp_path, whole, stop):
    """Also of a stage that has not begun, whose start may have been chosen among several."""
    with pytest.raises(Interrupted):
        fit(tmp_path / "cut", trackers=[At(stop, interrupt)])
    fit(tmp_path / "cut", make(seed=99), resume=True)
    assert_same_run(whole, tmp_path / "cut")


def test_killed_after_the_early_end_goes_on_from_there(tmp_path, whole):
    with pytest.raises(Killed):
        fit(tmp_path / "cut", trackers=[At(12, kill)])
    assert checkpoint(tmp_path / "cut")["step"] == END
    called = []
    stages = make()
    stages[1] = replace(stages[1], before=lambda: called.append(1))
    fit(tmp_path / "cut", stages, resume=True)
    assert_same_run(whole, tmp_path / "cut")
    assert called == [1]  # the second stage had not been saved, so it begins


def test_a_stage_that_has_begun_does_not_begin_again(tmp_path):
    with pytest.raises(Interrupted):
        fit(tmp_path / "cut", trackers=[At(12, interrupt)])
    called = []
    stages = make(seed=99)
    stages[1] = replace(stages[1], before=lambda: called.append(1))
    fit(tmp_path / "cut", stages, resume=True)
    assert called == []


def test_resuming_a_finished_run_of_early_ends_changes_nothing(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "a")
    before = checkpoint(tmp_path / "a"), (tmp_path / "a/metrics.jsonl").read_bytes()
    told = At()
    fit(tmp_path / "a", make(seed=99), resume=True, trackers=[told])
    assert equal(before[0], checkpoint(tmp_path / "a")) and before[1] == (tmp_path / "a/metrics.jsonl").read_bytes()
    assert told.started == (23, 23) and told.taken == told.short == 0


def test_the_bar_is_as_long_as_the_run(capsys, monkeypatch):
    for terminal in (False, True):
        bar = Progress(every=23)
        bar.shown = terminal
        fit(trackers=[bar])
        assert (bar.done, bar.bar.total) == (23, 23)
        err = capsys.readouterr().err
        assert ("23/23" in err) if terminal else ("step 23 of 23: loss" in err)


class Counted:
    """A view that rounds nothing, and notes of how many data it is asked and when."""

    def __init__(self):
        self.sizes = []

    def __call__(self, x):
        self.sizes.append(len(x))
        return x[:, :2] * 2


def test_a_kept_view_is_made_once_and_trains_as_one_made_again(tmp_path):
    kept, lazy = Counted(), Counted()
    at_first_step = []

    class Watch(At):
        def step(self, row):
            super().step(row)
            if self.taken == END + 1:
                at_first_step.append(len(kept.sizes))

    fit(tmp_path / "kept", make(view=kept), trackers=[Watch()])
    fit(tmp_path / "lazy", make(view=lazy, keep=False))
    assert_same_run(tmp_path / "kept", tmp_path / "lazy")
    assert len(kept.sizes) == at_first_step[0] and kept.sizes.count(90) == kept.sizes.count(50) == 1
    assert sum(kept.sizes) <= 90 + 50 + 4  # one datum each tells a shape
    assert lazy.sizes.count(20) >= 15


def test_random_data_that_are_kept_resume_bit_for_bit(tmp_path):
    """Dynamically binarised data are drawn once when they are kept, and the same again when the run goes on."""
    raw = torch.randint(0, 256, (90, 4), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    data = {"x": Rows(raw, bernoulli), "validation": Rows(raw[:50], bernoulli)}

    def run(out, **more):
        hv.fit(make(view=lambda x: x[:, :2]), data["x"], CONFIG, out=out, validation=data["validation"], **more)

    run(tmp_path / "whole")
    for stop in (6, 17):
        with pytest.raises(Interrupted):
            run(tmp_path / f"cut{stop}", trackers=[At(stop, interrupt)])
        run(tmp_path / f"cut{stop}", resume=True)
        assert_same_run(tmp_path / "whole", tmp_path / f"cut{stop}")


def test_only_a_stage_that_keeps_its_view_holds_it():
    device = torch.device("cpu")
    stages = make()
    for keep in (True, False):
        stage = replace(stages[1], keep=keep)
        for found in (stage.training_data(X, device), stage.validation_data(X, device)):
            assert (found.store.shape == (90, 2)) is keep and found.shape == (90, 2)
    assert stages[0].training_data(X, device).store is OWN[0] and stages[0].validation_data(X, device).store is OWN[1]


def test_trackers_are_told_of_stages_as_they_begin(tmp_path):
    told = At()
    fit(trackers=[told])
    assert told.stages == [("first", 45, 0), ("second", 15, END)]
    stopped = At(END + 3, interrupt)
    with pytest.raises(Interrupted):
        fit(tmp_path / "run", trackers=[stopped])
    again = At()
    fit(tmp_path / "run", trackers=[again], resume=True)
    assert again.stages == [("second", 15, 0)]


def test_a_loss_is_flat_without_the_constants_of_a_density():
    """Half the log of 2 pi sigma^2, whatever sigma: what is compared is minus the bound less D times that."""
    objective = pair(4, 0)
    session = Session(objective, Rows.of(X), CONFIG, Constant(), 60, PlateauRule(epochs=1, tolerance=1e-9))
    session.step()
    terms = session.result.terms
    constant = 4 * 0.5 * torch.tensor(2 * torch.pi * 0.5**2).log()
    expected = -terms.bound_unweighted().mean() - constant
    assert_close(session.flatness.sum, expected, rtol=1e-5, atol=1e-5)


def test_a_stage_does_not_end_in_the_middle_of_a_warm_up():
    """Weights that move make another loss of it: only what comes after them can be flat."""
    session = Session(pair(4, 0), Rows.of(X), CONFIG, hv.WarmUp(20), 60, ALWAYS)
    while not session.done:
        session.step()
    # From step 20 on beta is 1; then it takes two epochs of four batches.
    assert session.schedule.log()["beta"] == 1 and session.t == 19 + 2 * (90 // 20)
