"""Likelihoods of 8-bit images by name: in every recipe and network, trained, evaluated in bits, and refused for other data."""

import json
import math
from inspect import signature

import numpy as np
import pytest
import torch
from command_line import train_once

import pyro_hvae as hv
from pyro_hvae import recipes
from pyro_hvae.conditionals.grey_levels import GREY_LEVELS
from pyro_hvae.runs import RunDirectory

SMALL = {"hidden": (4,)}
DEEP = {**SMALL, "dims": (3, 2), "upper": (4,)}
LADDER = {"dims": (2, 2), "width": 2}
# Every recipe that has the option, and every kind of network.
ROWS = [
    ("vae", SMALL),
    ("beta-vae", {"hidden": (2, 3), "network": "conv"}),
    ("vae", {"hidden": (2, 3, 4), "network": "conv-dense", "activation": "elu"}),
    ("vae", {"hidden": (2, 4), "network": "conv-4x4", "activation": "elu"}),
    ("iwae", {**SMALL, "levels": 2, "latent2": 2, "upper": (4,), "particles": 2}),
    ("vhp", {**SMALL, "particles": 2, "network": "gated-conv", "hidden": (2, 3)}),
    ("vampprior", {**SMALL, "components": 5}),
    ("hvae", DEEP),
    ("ar-hvae", DEEP),
    ("lvae", {"dims": (3, 2), "widths": (4, 4)}),
    ("vlae", LADDER),
    ("vlae", {**LADDER, "network": "vlae-mnist"}),
    ("vlae", {**LADDER, "network": "vlae-svhn"}),
    ("pro-vlae", {**LADDER, "network": "pro-shapes"}),
    ("teacher-student", {**SMALL, "dims": (2, 2)}),
]
LIKELIHOODS = {"discretised-logistic": hv.DiscretisedLogistic, "logistic-mixture": hv.LogisticMixture}
TINY = "-o hidden=16 -o latent=2 -o sigma=0.1 -o activation=relu --lr 5e-3 --steps 600 --batch-size 32".split()


def images(n=120):
    """Bright squares of two sides at random places on a dark and noisy ground, bytes of shape (n, 1, 8, 8)."""
    random = np.random.default_rng(0)
    x = random.integers(0, 12, (n, 1, 8, 8))
    for image, (row, column), side in zip(x, random.integers(0, 5, (n, 2)), random.integers(2, 4, n), strict=True):
        image[0, row : row + side, column : column + side] += 200
    return x.astype(np.uint8)


def test_every_recipe_with_a_likelihood_is_here():
    having = {name for name, recipe in recipes.RECIPES.items() if "likelihood" in signature(recipe.build).parameters}
    assert {name for name, _ in ROWS} == having


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize(("recipe", "options"), ROWS)
def test_every_recipe_and_network(recipe, options, likelihood):
    torch.manual_seed(0)
    x = torch.from_numpy(images(20)).float() / 255
    objective = recipes.build(recipe, x, {**options, "likelihood": likelihood})[-1].objective
    part = objective.model.likelihood
    assert isinstance(part, LIKELIHOODS[likelihood]) and part.event == (1, 8, 8)
    loss = objective(x)
    loss.backward()
    gradients = [p.grad for p in part.parameters()]
    assert loss.isfinite() and all(g is not None and g.isfinite().all() for g in gradients)
    drawn = hv.generate(objective.model, 3, mean=False)["x"]
    assert drawn.shape == (3, 1, 8, 8) and GREY_LEVELS.check(drawn).all()
    assert hv.reconstruct(objective.model, objective.guide, x).shape == x.shape


def test_a_discretised_logistic_has_one_learned_scale_a_channel():
    # Scales from the network grow where images vary before the locations are learned, which then stay constant.
    x = torch.from_numpy(images(20)).float().expand(-1, 3, -1, -1) / 255
    part = recipes.build("vae", x, {**SMALL, "likelihood": "discretised-logistic", "sigma": 0.2})[-1].objective.model.likelihood
    assert part.raw_scale.shape == (3, 1, 1) and part.raw_scale.requires_grad
    torch.testing.assert_close(part(torch.zeros(2, 2)).base_dist.scale, torch.full((2, 3, 8, 8), 0.2))


def test_a_missing_entry_and_a_condition_stand_beside_x():
    torch.manual_seed(0)
    x, known = torch.from_numpy(images(20)).float() / 255, torch.rand(20, 1, 8, 8) > 0.2
    data = hv.Batch.of(x.where(known, 0.0), {"y": torch.eye(3)[torch.arange(20) % 3]}, known)
    for recipe, options in (("hvae", DEEP), ("vlae", LADDER)):
        objective = recipes.build(recipe, data, {**options, "likelihood": "discretised-logistic"})[-1].objective
        assert objective(data.x, y=data.given["y"], observed=known).isfinite()
        filled = hv.impute(objective.model, objective.guide, data, particles=3, draws=2)
        assert filled.shape == (2, 20, 1, 8, 8) and GREY_LEVELS.check(filled).all()


@pytest.fixture(scope="module", params=LIKELIHOODS)
def run(request, tmp_path_factory):
    """A run on bytes."""
    folder = tmp_path_factory.mktemp(request.param)
    np.save(folder / "bytes.npy", images())
    train_once(folder, "vae", "--dataset", "bytes.npy", "-o", f"likelihood={request.param}", *TINY, "--out", "run")
    return folder / "run"


def test_training_lowers_the_loss(run):
    losses = [row["loss"] for row in RunDirectory(run).rows() if "loss" in row]
    assert losses[-1] < losses[0] - 20


def test_evaluate_prints_bits_per_dimension(run, command):
    code, out, err = command("evaluate", run, "--particles", 50, "--json")
    assert code == 0, err
    values = json.loads(out)
    assert values["bits_per_dim"] == pytest.approx(-values["log_likelihood"] / (64 * math.log(2)), rel=1e-12)
    assert 0 < values["bits_per_dim"] < 8 and values["bits_per_dim_of"] == "discrete data"
    assert values["likelihood"] in {kind.__name__ for kind in LIKELIHOODS.values()}
    code, out, _ = command("evaluate", run, "--particles", 50)
    assert code == 0 and f"bits per dim    {values['bits_per_dim']:.4f} (of discrete data)" in out


def test_a_run_draws_and_reconstructs_pictures(run, command):
    for name in ("sample", "reconstruct"):
        code, out, err = command(name, run)
        assert code == 0, err


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_data_that_are_no_bytes_are_refused(likelihood, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    np.save("grey.npy", np.random.default_rng(0).random((40, 6), dtype=np.float32))
    code, out, err = command("train", "vae", "--dataset", "grey.npy", "-o", f"likelihood={likelihood}", "--steps", 2)
    assert code == 3 and "at the grey levels v / 255 of bytes v only" in err and "or use another likelihood" in err
