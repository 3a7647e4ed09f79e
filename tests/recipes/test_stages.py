"""Stages with data, settings and an end of their own: what is trained on what, and resumed bit for bit."""

import json
import os
import signal
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae import recipes
from pyro_hvae.data import Rows, rows
from pyro_hvae.data.generated import textures as textured
from pyro_hvae.data.rows import bernoulli
from pyro_hvae.errors import CheckpointError, Interrupted
from pyro_hvae.objectives.elbo import ELBO
from pyro_hvae.recipes import Stage, stage_lengths
from pyro_hvae.runs.checkpoints import load_checkpoint
from pyro_hvae.runs.resolution import resolve
from pyro_hvae.runs.run_loading import open_run
from pyro_hvae.runs.trackers import Progress, Tracker
from pyro_hvae.runs.train_config import TrainConfig
from pyro_hvae.runtime.random_state import fixed_seed
from pyro_hvae.schedules import Constant
from pyro_hvae.schedules.plateau import PlateauRule
from pyro_hvae.training.experiment_training import resume_experiment, train
from pyro_hvae.training.session import Session, learning_rate

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


class Told(Tracker):
    """What a tracker is told; does something at one step."""

    def __init__(self, at=0, action=None):
        self.at, self.action = at, action
        self.started, self.done, self.short, self.taken, self.stages = None, 0, 0, 0, []

    def start(self, steps, done):
        self.started, self.done = (steps, done), done

    def step(self, row):
        self.done, self.taken = self.done + 1, self.taken + 1
        if self.done == self.at:
            self.action()

    def stage(self, name, steps):
        self.stages.append((name, steps, self.taken))

    def shorten(self, steps):
        self.short += steps

    def warn(self, message):
        raise AssertionError(message)

    def close(self):
        pass


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def fit(out=None, stages=None, x=X, **more):
    return hv.fit(stages or make(), x, CONFIG, out=out, validation=HELD_OUT, **more)


def checkpoint(out):
    return load_checkpoint(out / "checkpoints/last.pt")


def equal(a, b):
    """Bitwise equality of nested checkpoints."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def assert_same_run(one, other):
    assert equal(checkpoint(one), checkpoint(other))
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    assert equal(*(load_checkpoint(run / "checkpoints/best.pt") for run in (one, other)))


def weights(stages):
    return [p.detach().clone() for stage in stages for p in stage.objective.parameters()]


def test_a_stage_ends_early_and_the_next_follows(tmp_path):
    assert stage_lengths(60, make()) == [45, 15]
    told = Told()
    found = fit(tmp_path / "a", trackers=[told])
    assert [(row["step"], row["stage"]) for row in found] == [(7, 0), (8, 0), (14, 1), (20, 1), (21, 1), (23, 1)]
    assert [row["step"] for row in found if "validation_elbo" in row] == [8, 20, 23]
    saved = checkpoint(tmp_path / "a")
    assert saved["lengths"] == LENGTHS and (saved["step"], saved["steps"], saved["stage"]) == (23, 60, 1)
    state = json.loads((tmp_path / "a/run.json").read_text())
    assert (state["status"], state["step"]) == ("finished", 23)
    assert told.started == (60, 0) and (told.taken, told.short) == (23, 37)


def test_without_a_rule_all_planned_steps_are_taken(tmp_path):
    told = Told()
    found = fit(tmp_path / "a", make(until=None), trackers=[told])
    assert (told.taken, told.short) == (60, 0) and found[-1]["step"] == 60
    assert checkpoint(tmp_path / "a")["lengths"] == [45, 15]


def test_a_loss_that_is_never_flat_takes_all_planned_steps():
    assert fit(stages=make(until=PlateauRule(epochs=1, tolerance=1e-12)))[-1]["step"] == 60


def test_the_last_stage_may_end_early_as_well(tmp_path):
    """Of 90 data in batches of 20: two epochs of four steps, their rest dropped."""
    stages = make()
    stages[1], told = replace(stages[1], until=ALWAYS), Told()
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
    assert [len(value) for value in judged if len(value) > 2] == [50, 50]
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
def test_interrupted_and_resumed_is_the_uninterrupted_run(tmp_path, stop):
    """In stage one, exactly at its early end, and in stage two."""
    fit(tmp_path / "whole")
    told = Told(stop, interrupt)
    with pytest.raises(Interrupted, match=f"stopped by SIGINT at step {stop} of 60"):
        fit(tmp_path / "cut", trackers=[told])
    assert checkpoint(tmp_path / "cut")["stage"] == (0 if stop <= END else 1)
    again = Told()
    fit(tmp_path / "cut", make(), resume=True, trackers=[again])
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    # What the bar of either was told adds up, wherever it was cut.
    assert again.started == (60 if stop <= END else 23, stop)
    assert again.taken == 23 - stop and again.started[0] - again.short == again.done == 23
    assert told.short == (0 if stop <= END else 37)


@pytest.mark.parametrize("stop", [6, 8, 17])
def test_all_weights_of_a_resumed_run_are_the_checkpoint_s(tmp_path, stop):
    """Also of a stage that has not begun, whose start may have been chosen among several."""
    fit(tmp_path / "whole")
    with pytest.raises(Interrupted):
        fit(tmp_path / "cut", trackers=[Told(stop, interrupt)])
    fit(tmp_path / "cut", make(seed=99), resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_killed_after_the_early_end_goes_on_from_there(tmp_path):
    class Killed(BaseException):
        pass

    def kill():
        raise Killed

    fit(tmp_path / "whole")
    with pytest.raises(Killed):
        fit(tmp_path / "cut", trackers=[Told(12, kill)])
    assert checkpoint(tmp_path / "cut")["step"] == END
    called = []
    stages = make()
    stages[1] = replace(stages[1], before=lambda: called.append(1))
    fit(tmp_path / "cut", stages, resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    assert called == [1]  # the second stage had not been saved, so it begins


def test_a_stage_that_has_begun_does_not_begin_again(tmp_path):
    with pytest.raises(Interrupted):
        fit(tmp_path / "cut", trackers=[Told(12, interrupt)])
    called = []
    stages = make(seed=99)
    stages[1] = replace(stages[1], before=lambda: called.append(1))
    fit(tmp_path / "cut", stages, resume=True)
    assert called == []


def test_resuming_a_finished_run_of_early_ends_changes_nothing(tmp_path):
    fit(tmp_path / "a")
    before = checkpoint(tmp_path / "a"), (tmp_path / "a/metrics.jsonl").read_bytes()
    told = Told()
    fit(tmp_path / "a", make(seed=99), resume=True, trackers=[told])
    assert equal(before[0], checkpoint(tmp_path / "a")) and before[1] == (tmp_path / "a/metrics.jsonl").read_bytes()
    assert told.started == (23, 23) and told.taken == told.short == 0


def test_the_bar_is_as_long_as_the_run(capsys, monkeypatch):
    for terminal in (False, True):
        bar = Progress(every=23)
        bar.tty = terminal
        fit(trackers=[bar])
        assert (bar.done, bar.bar.total) == (23, 23)
        err = capsys.readouterr().err
        assert ("23/23" in err) if terminal else ("step 23 of 23: loss" in err)


class Counted(Tracker):
    """A view that rounds nothing, and notes of how many data it is asked and when."""

    def __init__(self):
        self.sizes = []

    def __call__(self, x):
        self.sizes.append(len(x))
        return x[:, :2] * 2


def test_a_kept_view_is_made_once_and_trains_as_one_made_again(tmp_path):
    kept, lazy = Counted(), Counted()
    at_first_step = []

    class Watch(Told):
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
            run(tmp_path / f"cut{stop}", trackers=[Told(stop, interrupt)])
        run(tmp_path / f"cut{stop}", resume=True)
        assert_same_run(tmp_path / "whole", tmp_path / f"cut{stop}")


def test_held_rows_are_the_same_values_in_memory(monkeypatch):
    monkeypatch.setattr(rows, "PIECE_ROWS", 32)
    raw = torch.randint(0, 256, (90, 3, 2), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    calls = []

    def view(x):
        calls.append(len(x))
        return x.flatten(1) * 2

    for lazy in (Rows(raw).map(view), Rows(raw).take(torch.arange(70, 3, -1)).map(view), Rows(raw).take([5]).map(view)):
        expected = lazy[:]
        calls.clear()
        held = lazy.load_into_memory()
        assert sum(calls) == len(lazy) + 1 and max(calls) <= 32
        calls.clear()
        assert held.shape == lazy.shape and held.device == lazy.device and len(held) == len(lazy)
        assert torch.equal(held[:], expected) and torch.equal(held[0], expected[0])
        assert calls == [] and isinstance(held.store, torch.Tensor) and held.store.dtype == torch.float32
    assert torch.equal(Rows(raw).load_into_memory()[:], raw.float() / 255)


def test_random_rows_are_drawn_once_when_held():
    lazy = Rows(torch.full((50, 4), 128, dtype=torch.uint8), bernoulli)
    assert not torch.equal(lazy[:], lazy[:])
    held = lazy.load_into_memory()
    assert torch.equal(held[:], held[:]) and 0.3 < held[:].mean() < 0.7


def test_rows_that_take_more_than_there_is_stay_lazy(monkeypatch):
    lazy = Rows(torch.rand(90, 5)).map(lambda x: x * 2)
    monkeypatch.setattr(rows, "MEMORY_BYTES", 90 * 5 * 4)
    assert lazy.load_into_memory() is not lazy
    monkeypatch.setattr(rows, "MEMORY_BYTES", 90 * 5 * 4 - 1)
    assert lazy.load_into_memory() is lazy


def test_only_a_stage_that_keeps_its_view_holds_it():
    device = torch.device("cpu")
    stages = make()
    for keep in (True, False):
        stage = replace(stages[1], keep=keep)
        for found in (stage.training_data(X, device), stage.validation_data(X, device)):
            assert (found.store.shape == (90, 2)) is keep and found.shape == (90, 2)
    assert stages[0].training_data(X, device).store is OWN[0] and stages[0].validation_data(X, device).store is OWN[1]


TINY = {"hidden": (2, 2, 2, 2, 8), "texture_hidden": (8, 8), "texture_latent": 3, "latent": 2}
SHORT = TrainConfig(steps=12, batch_size=10, lr=1e-2, log_every=5, eval_every=100, save_every=100, seed=1, device="cpu")


@pytest.fixture(scope="module")
def drawn():
    """Few triangles, whose data set has few to validate on as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(textured, "HELD_OUT", (12, 12))
        yield textured.triangles(size=40, data_seed=17)


def texture(drawn, seed=0, **options):
    """Stages of the recipe; the texture encoder, whose map the global stage is about; and its parameters."""
    torch.manual_seed(seed)
    stages = recipes.build("texture", drawn.train.x[:], TINY | options, drawn.crops)
    guide = stages[1].pixels.guide
    return stages, guide.levels[0].encode


def fit_texture(stages, drawn, out=None, **more):
    return hv.fit(stages, drawn.train.x, SHORT, out=out, validation=drawn.validation.x, **more)


def snapshots(stages):
    """Fills itself with a copy of the first stage's programs when the second begins; and the stages that do so."""
    taken = {}

    def before():
        stages[1].before()
        taken.update({name: value.clone() for name, value in stages[0].objective.state_dict().items()})

    return taken, [stages[0], replace(stages[1], before=before)]


@pytest.mark.parametrize("joint", ["none", "features", "pixels"])
def test_what_the_global_stage_moves_of_the_texture_stage(drawn, joint):
    """Nothing when it is frozen, bit for bit; its encoder, end to end; and its decoder, where pixels tell of it."""
    stages, _ = texture(drawn, joint=joint)
    start = {name: value.clone() for name, value in stages[0].objective.state_dict().items()}
    before, stages = snapshots(stages)
    fit_texture(stages, drawn)
    after = stages[0].objective.state_dict()
    trained = {name for name, _ in stages[0].objective.named_parameters()}
    assert all(not torch.equal(start[name], before[name]) for name in trained)
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    sides = {"none": (), "features": ("guide",), "pixels": ("guide", "model")}[joint]
    assert moved == {name for name in trained if name.startswith(sides)}


@pytest.mark.parametrize("joint", ["none", "features", "pixels"])
def test_every_trained_weight_of_the_global_stage_has_a_gradient(drawn, joint):
    stages, encode = texture(drawn, joint=joint)
    stages[1].before()
    objective = stages[1].objective
    torch.manual_seed(0)
    objective.estimate(stages[1].view_of(drawn.train.x, torch.device("cpu"))[:10]).loss().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.parameters())
    assert all(p.grad.abs().max() > 0 for p in stages[1].pixels.guide.levels[0].q.parameters())
    ours = {id(p) for p in objective.parameters()}
    up, down = encode.q.parameters(), stages[0].objective.model.parameters()
    for side, when in ((up, ("features", "pixels")), (down, ("pixels",))):
        for p in side:
            assert (id(p) in ours) is (joint in when)
            assert joint not in when or p.grad.abs().max() > 0


@pytest.mark.parametrize("joint", ["none", "features"])
def test_the_global_stage_begins_where_features_lie(drawn, joint):
    """Mean and variance of the codes that the trained texture encoder gives; both stay while the encoder moves."""
    stages, encode = texture(drawn, joint=joint)
    q, noted = stages[1].pixels.guide.levels[0].q, {}

    def before():
        stages[1].before()
        with torch.no_grad():
            codes = encode.q(encode.patches.cut(drawn.train.x[:])).mean  # (n, rows, columns, latents)
        noted["mean"] = codes.movedim(-1, 1).mean(0).flatten()
        noted["spread"] = codes.double().flatten(0, 2).var(0, correction=0).sum().float()

    assert encode.spread == 0 and q.input_mean.abs().max() == 0
    fit_texture([stages[0], replace(stages[1], before=before)], drawn)
    assert q.input_mean.abs().max() > 1e-3
    assert_close(q.input_mean, noted["mean"], atol=1e-5, rtol=1e-5)
    assert_close(encode.spread, noted["spread"], atol=0, rtol=1e-4)
    x = drawn.train.x[:]
    if joint == "none":
        assert stages[1].pixels.variance is None
    else:
        now, then = stages[1].pixels.variance(x)
        assert then == encode.spread.item() and now == encode.variance_over_patches(x).item() != then


@pytest.mark.parametrize("joint", ["none", "features"])
def test_the_global_stage_begins_on_the_device_of_its_weights(drawn, joint):
    """`meta` stands for any that is not the data's."""
    stages, encode = texture(drawn, joint=joint)
    for stage in stages:
        stage.objective.to("meta")
    stages[1].before()
    assert encode.spread.is_meta and stages[1].pixels.guide.levels[0].q.input_mean.is_meta


def test_the_global_stage_begins_with_at_most_256_images():
    x = torch.rand(300, 1, 8, 8)
    x[256:] = 7  # unlike the others
    stages = recipes.build("texture", x, {"hidden": (2, 2, 8), "texture_hidden": (8,), "patch": 3})
    stages[1].before()
    guide = stages[1].pixels.guide.levels[0]
    with torch.no_grad():
        codes = guide.encode.q(guide.encode.patches.cut(x[:256])).mean.movedim(-1, 1)
    assert_close(guide.q.input_mean, codes.mean(0).flatten(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("joint", ["none", "features"])
def test_textures_interrupted_and_resumed_are_the_uninterrupted_run(tmp_path, drawn, joint):
    """Of twelve steps two are the global stage's; what it began with is kept."""
    assert stage_lengths(SHORT.steps, texture(drawn)[0]) == [10, 2]
    fit_texture(texture(drawn, joint=joint)[0], drawn, tmp_path / "whole")
    for stop in (4, 10, 11):
        with pytest.raises(Interrupted):
            fit_texture(texture(drawn, joint=joint)[0], drawn, tmp_path / f"cut{stop}", trackers=[Told(stop, interrupt)])
        fit_texture(texture(drawn, joint=joint)[0], drawn, tmp_path / f"cut{stop}", resume=True)
        assert_same_run(tmp_path / "whole", tmp_path / f"cut{stop}")


def test_a_run_still_in_its_first_stage_cannot_be_opened_and_says_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(textured, "HELD_OUT", (12, 12))
    options = {"size": "40", "data_seed": "18", "hidden": "2,2,2,2,8", "texture_hidden": "8,8", "texture_share": "0.8"}
    options |= {"texture_latent": "3"}
    experiment = resolve("texture", "triangles", options=options, train={"steps": "12", "batch_size": "10", "device": "cpu"})
    out = tmp_path / "run"
    for stop, resume in ((4, False), (10, True)):
        with pytest.raises(Interrupted):
            train(experiment, out, resume, [Told(stop, interrupt)])
        with pytest.raises(CheckpointError) as caught:
            open_run(out)
        said = str(caught.value)
        assert "still in stage 1 of 2, 'texture'; the last stage, 'global', has not begun" in said
    remedy = said.split("Go on with it: ")[1]
    assert remedy == f"pyro-hvae train --resume {out}" and caught.value.exit_code == 3
    _, again = resume_experiment(remedy.split()[-1], {})
    train(again, out, resume=True)
    opened = open_run(out)
    assert opened.step == 12 and opened.stage.name == "global"
    x = opened.dataset.test.x[:3]
    assert hv.reconstruct(opened.model, opened.guide, x).shape == (3, 3, 64, 64)
    assert opened.view_of(Rows.of(x)).shape == (3, 3, 64, 64)  # codes of three latents
    assert opened.stage.pixels.reconstruct(x).shape == x.shape


def test_trackers_are_told_of_stages_as_they_begin(tmp_path):
    told = Told()
    fit(trackers=[told])
    assert told.stages == [("first", 45, 0), ("second", 15, END)]
    stopped = Told(at=END + 3, action=interrupt)
    with pytest.raises(Interrupted):
        fit(tmp_path / "run", trackers=[stopped])
    again = Told()
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
