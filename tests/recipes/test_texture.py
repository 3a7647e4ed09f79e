"""The recipe `texture` as a user meets it: two stages, pixels beside features, ablations, and what is refused."""

import contextlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae import recipes
from pyro_hvae.cli import main
from pyro_hvae.data.generated import textures
from pyro_hvae.errors import ConfigError
from pyro_hvae.evaluation.degenerate_features import degeneracy, feature_state
from pyro_hvae.evaluation.factor_probes import regression
from pyro_hvae.metrics import constant_probe
from pyro_hvae.runs.resolution import resolve
from pyro_hvae.runs.run_data import _last
from pyro_hvae.runs.run_loading import open_run
from pyro_hvae.schedules.plateau import PlateauRule
from pyro_hvae.training.experiment_plan import plan

TINY = ["--dataset", "triangles", "-o", "size=60", "-o", "hidden=2,2,2,2,8", "-o", "texture_hidden=8,8", "--batch-size", "8"]
# Side by side there are 64 patches, around every pixel 4,096.
TINY += ["-o", "patch=8", "-o", "overlap=false"]


@pytest.fixture(scope="module", autouse=True)
def few_held_out():
    """The data sets of triangles have few images to validate and test on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(textures, "HELD_OUT", (60, 200))
        _last.clear()
        yield
    _last.clear()


def train(folder, *options):
    """Trains a run and returns what the command prints."""
    with pytest.raises(SystemExit) as caught, contextlib.redirect_stdout(io.StringIO()) as out:
        main(["train", "texture", *TINY, "--steps", "12", "--out", str(folder), *options])
    assert not caught.value.code
    return out.getvalue()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texture") / "run"
    train(folder)
    return folder


@pytest.fixture(scope="module")
def joint_and_text(tmp_path_factory):
    """A run that trains the texture encoder in its second stage, and what the command prints."""
    folder = tmp_path_factory.mktemp("texture") / "joint"
    return folder, train(folder, "-o", "joint=features")


@pytest.fixture(scope="module")
def joint(joint_and_text):
    return joint_and_text[0]


def test_a_loaded_run_is_a_pair_over_pixels(run):
    model, guide, config = hv.load(run)
    assert config.recipe == "texture"
    x = open_run(run).dataset.test.x[:5]
    codes = hv.latents(guide, x, mean=True)
    assert list(codes) == ["z2"] and codes["z2"].shape == (5, 16)
    again = hv.generate(model, 5, fixed=codes)["x"]
    assert again.shape == x.shape and (again >= 0).all() and (again <= 1).all()
    assert_close(again, hv.reconstruct(model, guide, x))


def test_pixels_go_through_both_encoders_and_both_decoders():
    data = hv.DATASETS["triangles"](size=20)
    x = data.test.x[:2]
    first, last = recipes.build("texture", data.train.x[:], {"hidden": (2, 2, 2, 2, 8), "texture_hidden": (8, 8)}, data.crops)
    last.before()
    pair, inner, outer = last.pixels, first.objective, last.objective
    codes = hv.latents(pair.guide, x, mean=True)
    again = hv.generate(pair.model, 2, fixed=codes)["x"]
    patches = torch.nn.functional.unfold(x, 7, padding=3).transpose(1, 2).reshape(2, 4096, 3, 7, 7)
    z1 = inner.guide.levels[0](patches).mean.transpose(1, 2).reshape(2, 16, 64, 64)
    assert_close(codes["z2"], outer.guide.levels[0](z1).mean, rtol=1e-4, atol=1e-5)

    def decoded(maps):
        flat = inner.model.likelihood(maps.flatten(2).transpose(1, 2)).mean.flatten(2).transpose(1, 2)
        over = torch.nn.functional.fold(torch.ones_like(flat), (64, 64), 7, padding=3)
        return torch.nn.functional.fold(flat, (64, 64), 7, padding=3) / over

    assert_close(again, decoded(outer.model.likelihood(codes["z2"]).mean), rtol=1e-4, atol=1e-5)
    assert_close(pair.reconstruct(x), decoded(z1), rtol=1e-4, atol=1e-5)


def test_the_likelihood_is_of_features_and_says_so(run, command):
    code, out, _ = command("evaluate", run, "--particles", 2, "--limit", 2)
    assert code == 0
    assert "nats per datum of features, not of pixels (z1, the codes of 8 x 8 patches, 16 each)" in out
    values = json.loads((run / "eval" / "likelihood.json").read_text())
    assert list(values["rate"]) == ["z2"]
    # The distortion is of 16 x 8 x 8 features under N(., 1/2 I).
    assert values["distortion"] > 1_024 / 2 * np.log(np.pi)


def test_gibbs_chains_through_averaged_patches_are_refused(run, command):
    code, _, err = command("gibbs", run, "--steps", 2)
    assert code == 2 and "patches, which have no bound" in err and "Use 'sample'" in err


@pytest.mark.parametrize("name", ["sample", "traverse", "interpolate"])
def test_pictures_are_of_pixels(run, command, name):
    code, out, err = command(name, run)
    # Twelve steps teach nothing: that a traversal has nothing to show is said in so many words.
    assert code == 0 and "Picture:" in out or name == "traverse" and code == 2 and "has collapsed" in err


def test_the_probe_reads_the_code_of_pixels(run):
    opened = open_run(run)
    found = regression(opened, train=60, test=50)
    truth = [np.stack([s.factors[n].numpy() for n in ("x", "y")], 1) for s in (opened.dataset.train, opened.dataset.test)]
    assert found["controls"]["constant"]["rmse"]["position"] == pytest.approx(
        constant_probe(truth[0], truth[1], ["x", "y"], {"position": ["x", "y"]}).rmse["position"], rel=0.2
    )
    assert found["rmse"]["size"] > 0 and found["n_train"] == 60


def test_features_that_are_fixed_cannot_degenerate(run, command):
    code, _, err = command("metrics", run, "degeneracy")
    assert code == 2 and "trains no features while it predicts them" in err and "joint=features" in err


def test_degeneracy_is_seen(joint):
    opened = open_run(joint)
    x = opened.dataset.test.x
    sound = degeneracy(opened, images=20, train=60, test=50)
    assert not sound["degenerate"] and 0.001 < sound["ratio"] < 10 and sound["images"] == 20
    encode = opened.guide.levels[0].encode
    chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:20]
    maps = encode(x[chosen]).detach().transpose(0, 1).flatten(1).double()
    assert sound["variance"] == pytest.approx(maps.var(1, correction=0).sum().item())
    assert sound["ratio"] == pytest.approx(sound["variance"] / encode.spread.item())
    with torch.no_grad():
        encode.q.net[-1].weight.zero_()
    dead = degeneracy(opened, images=20, train=60, test=50)
    assert dead["ratio"] < 1e-9 and dead["rmse_position"] == pytest.approx(dead["constant"], rel=0.1)
    assert dead["rate"] > 0.1 and not dead["degenerate"]  # constant features, but a code that is not the prior's
    q = opened.guide.levels[0].q.net[-1]
    with torch.no_grad():
        q.weight.zero_()
        q.bias.zero_()
    silent = feature_state(opened, images=20)
    assert silent["degenerate"] and abs(silent["rate"]) < 1e-6
    with pytest.raises(ConfigError, match="images=0"):
        feature_state(opened, 0)
    encode.spread.zero_()
    with pytest.raises(ConfigError, match="no variance to begin with"):
        feature_state(opened, 20)


def test_the_first_variance_is_remembered(joint):
    """It is that of the encoder which stage one left, and survives saving and opening."""
    saved = torch.load(joint / "checkpoints" / "last.pt", weights_only=True)["programs"][1]["guide"]
    assert open_run(joint).guide.levels[0].encode.spread == saved["levels.0.encode.spread"] > 0


def test_training_end_to_end_tells_of_its_features(tmp_path, joint_and_text, monkeypatch):
    out = joint_and_text[1]
    assert "Features: variance over patches" in out and "degenerate" not in out
    monkeypatch.setattr(
        "pyro_hvae.reports.training_report.feature_state", lambda run: {"ratio": 1e-5, "rate": 0.01, "degenerate": True}
    )
    out = train(tmp_path / "b", "-o", "joint=pixels")
    assert "1e-05" in out and "The run is degenerate" in out and "-o joint=none" in out


def test_patches_side_by_side_keep_the_depth_of_the_network():
    x = torch.rand(20, 3, 64, 64)
    near, apart = (recipes.build("texture", x, o)[-1] for o in ({}, {"overlap": False, "patch": 8}))
    assert near.view_of(x[:2], x.device).shape == (2, 16, 64, 64) and apart.view_of(x[:2], x.device).shape == (2, 16, 8, 8)

    def kinds(stage):
        return [type(m).__name__ for m in stage.objective.guide.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]

    assert kinds(near) == kinds(apart) == ["Conv2d"] * 4 + ["Linear"] * 2


def test_images_that_know_no_textures_are_cut_themselves():
    x = torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 1, 8, 8).contiguous() / 4
    first = recipes.build("texture", x, {"patch": 3, "hidden": (2, 4), "texture_hidden": (4,)})[0]
    crops = first.data[0]
    assert crops.shape == (60_000, 1, 3, 3)
    values, counts = crops[:].amax((1, 2, 3)).unique(return_counts=True)
    assert values.tolist() == [0, 0.25, 0.5, 0.75] and counts.min() > 14_000
    assert torch.equal(crops[:].amin((1, 2, 3)), crops[:].amax((1, 2, 3)))


def test_triangles_give_their_own_textures():
    data = hv.DATASETS["triangles"](size=10, names=("stripes", "faint"))
    crops = data.crops(5)
    assert crops.train.x.shape == (40_000, 3, 5, 5) and crops.counts == {"textures": 2}
    same = hv.DATASETS["textures"](crop=5, names=("stripes", "faint"))
    assert torch.equal(crops.train.x[:100], same.train.x[:100])


@pytest.mark.parametrize(
    "options, message",
    [
        (["-o", "joint=both"], "'both'"),
        (["-o", "overlap=true"], "-o patch=7, or -o overlap=false"),
        (["-o", "patch=7"], "Use -o patch=8"),
        (["-o", "patch=99"], "99"),
        (["-o", "join=center"], "average or centre"),
        (["-o", "texture_share=1.5"], "texture_share"),
        (["--schedule", "rewo"], "kappa"),
        (["-o", "textur_share=0.5"], "Did you mean 'texture_share'"),
    ],
)
def test_bad_options(command, tmp_path, options, message):
    code, _, err = command("train", "texture", *TINY, "--steps", 4, "--out", tmp_path / "run", *options)
    assert code == 2 and message in err and "Traceback" not in err and not (tmp_path / "run").exists()


def images(folder, width, height, count=30):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def test_images_that_are_not_square(command, tmp_path):
    np.save(tmp_path / "wide.npy", np.random.default_rng(0).random((30, 3, 16, 32), dtype=np.float32))
    code, _, err = command("train", "texture", "--dataset", tmp_path / "wide.npy", "--steps", 4)
    assert code == 2 and "square images" in err and "(3, 16, 32)" in err
    np.save(tmp_path / "odd.npy", np.random.default_rng(0).random((30, 3, 15, 15), dtype=np.float32))
    code, _, err = command("train", "texture", "--dataset", tmp_path / "odd.npy", "--steps", 4)
    assert code == 2 and "a side of 4, 8, 16, 32" in err
    code, _, err = command("train", "texture", "--dataset", "cmu-mocap", "--steps", 4)
    assert code in (2, 3) and "Traceback" not in err


def test_texture_folders(command, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, err = command("train", "texture", *TINY, "--steps", 4, "-o", f"textures={tmp_path / 'empty'}")
    assert code == 3 and "empty" in err
    small = images(tmp_path / "small", 30, 30, 3)
    code, _, err = command("train", "texture", *TINY, "--steps", 4, "-o", f"textures={small}")
    assert code == 3 and "64" in err
    large = images(tmp_path / "large", 90, 70, 3)
    code, out, _ = command("train", "texture", *TINY, "--steps", 4, "-o", f"textures={large}", "--dry-run")
    assert code == 0 and "global" in out


def test_own_images(command, tmp_path):
    folder = images(tmp_path / "photos", 32, 32)
    options = ["-o", "size=16", "-o", "hidden=2,2,8", "-o", "patch=3", "-o", "texture_hidden=4", "--steps", 6]
    code, out, _ = command("train", "texture", "--dataset", folder, *options, "--batch-size", 4, "--out", tmp_path / "run")
    assert code == 0 and "reconstructions.png" in out


def test_both_densities_make_sums_of_squares():
    """N(mean, 1/2 I) in both stages and in pixels: -log p is the squared error and D / 2 log pi."""
    x = torch.rand(20, 1, 8, 8)
    first, last = recipes.build("texture", x, {"patch": 3, "hidden": (2, 4), "texture_hidden": (4,)})
    z1 = last.view_of(x[:4], x.device)[:]
    for stage, data in ((first, first.data[0][:4]), (last, z1)):
        site = stage.objective.estimate(data).x
        error = (site["fn"].mean - data).square().flatten(1).sum(1)
        assert_close(-site["fn"].log_prob(data), error + data[0].numel() / 2 * np.log(np.pi))
    model = last.pixels.model.likelihood(torch.zeros(4, 16))
    assert_close(-model.log_prob(model.mean), torch.full((4,), 32 * np.log(np.pi), dtype=torch.float32))


def test_the_standard_vae_is_of_equal_size():
    """Of the Global and the Standard VAE: networks, code, likelihood, images, steps, batches and learning rate."""
    for preset in ("cpu", "paper"):
        both = [resolve(name, "triangles", options={"preset": preset}) for name in ("texture", "vae")]
        ours, theirs = (e.recipe_options for e in both)
        assert all(ours[key] == theirs[key] for key in ("latent", "hidden", "network", "activation"))
        assert theirs["sigma"] == pytest.approx(0.5**0.5) and theirs["squash"] and theirs["likelihood"] == "gaussian"
        assert both[0].data_options == both[1].data_options and both[0].schedule == both[1].schedule == "constant"
        lengths = plan(both[0]).describe()["steps_at_most"]
        assert lengths == {"texture": 12_000, "global": both[1].train.steps}
        assert replace(both[0].train, steps=1) == replace(both[1].train, steps=1)
    first = plan(both[0]).stages[0]
    assert first.settings == {"lr": 1e-3, "batch_size": 256, "lr_decay": 0.0} and first.until == PlateauRule(5, 1e-3)


def test_epochs_are_of_the_last_stage(command):
    code, out, _ = command("train", "texture", *TINY, "--epochs", 3, "--dry-run", "--json")
    lengths = json.loads(out)["steps_at_most"]
    assert code == 0 and lengths["global"] == 3 * (60 // 8)


def test_features_have_no_bits(run):
    assert json.loads((run / "eval" / "likelihood.json").read_text())["bits_per_dim"] is None


def test_densities_of_features_are_not_compared_with_those_of_pixels(run, tmp_path, command):
    options = ["-o", "size=60", "-o", "hidden=2,2,2,2,8", "--batch-size", "8", "--steps", 4]
    assert command("train", "vae", "--dataset", "triangles", *options, "--out", tmp_path / "vae")[0] == 0
    assert command("evaluate", tmp_path / "vae", "--particles", 2, "--limit", 2)[0] == 0
    code, out, err = command("compare", run, tmp_path / "vae", "--metric", "likelihood")
    assert code == 0 and "space=z1, the codes of 8 x 8 patches" in (out + err).replace("\n", " ")
