"""The two stages of the texture recipe: what each trains, where the second begins, and resuming."""

import functools
from dataclasses import replace

import pytest
import torch
from small_runs import At, assert_same_run, interrupt
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae import recipes
from pyro_hvae.data import Rows
from pyro_hvae.data.generated import textures as textured
from pyro_hvae.errors import CheckpointError, Interrupted
from pyro_hvae.recipes import stage_lengths
from pyro_hvae.runs.resolution import resolve
from pyro_hvae.runs.run_loading import open_run
from pyro_hvae.runs.train_config import TrainConfig
from pyro_hvae.training.experiment_training import resume_experiment, train

# Side by side there are 64 patches; around every pixel there are 4,096.
TINY = {"overlap": False, "patch": 8, "hidden": (2, 2, 2, 2, 8), "texture_hidden": (8, 8), "texture_latent": 3, "latent": 2}
SHORT = TrainConfig(steps=12, batch_size=10, lr=1e-2, log_every=5, eval_every=100, save_every=100, seed=1, device="cpu")


@pytest.fixture(scope="module")
def drawn():
    """Few triangles, whose data set has few to validate on as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(textured, "HELD_OUT", (12, 12))
        data = textured.triangles(size=40, data_seed=17)
        yield replace(data, crops=functools.cache(data.crops))


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
            fit_texture(texture(drawn, joint=joint)[0], drawn, tmp_path / f"cut{stop}", trackers=[At(stop, interrupt)])
        fit_texture(texture(drawn, joint=joint)[0], drawn, tmp_path / f"cut{stop}", resume=True)
        assert_same_run(tmp_path / "whole", tmp_path / f"cut{stop}")


def test_a_run_still_in_its_first_stage_cannot_be_opened_and_says_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(textured, "HELD_OUT", (12, 12))
    options = {"size": "40", "data_seed": "18", "hidden": "2,2,2,2,8", "texture_hidden": "8,8", "texture_share": "0.8"}
    options |= {"texture_latent": "3", "overlap": "false", "patch": "8"}
    experiment = resolve("texture", "triangles", options=options, train={"steps": "12", "batch_size": "10", "device": "cpu"})
    out = tmp_path / "run"
    for stop, resume in ((4, False), (10, True)):
        with pytest.raises(Interrupted):
            train(experiment, out, resume, [At(stop, interrupt)])
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
    assert opened.view_of(Rows.of(x)).shape == (3, 3, 8, 8)  # codes of three latents
    assert opened.stage.pixels.reconstruct(x).shape == x.shape
