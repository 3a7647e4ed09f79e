"""A run on standardised data keeps their mean and scale, and is opened with these alone."""

import math

import numpy as np
import pytest
import torch

import pyro_hvae as hv
from pyro_hvae.data import Standardization
from pyro_hvae.errors import CheckpointError, ConfigError, DataError
from pyro_hvae.runs import load, open_run, read_toml, resolve
from pyro_hvae.runs.experiment import Experiment
from pyro_hvae.runs.run_directory import RunDirectory
from pyro_hvae.training import resume_experiment, train

OPTIONS = {"standardize": "true", "latent": "1", "hidden": "4", "steps": "4", "batch_size": "8"}


@pytest.fixture
def run(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 2)) * [1437, 4254] + [384, 2127]
    np.savez(tmp_path / "own.npz", x=x)
    train(resolve("vae", str(tmp_path / "own.npz"), options=OPTIONS), tmp_path / "run")
    return tmp_path / "run"


def test_the_run_keeps_mean_and_scale_and_shows_the_data_in_their_own_units(run):
    x = np.load(run.parent / "own.npz")["x"]
    train_rows = x[np.random.default_rng(0).permutation(60)[12:]]
    kept = read_toml(run / "config.toml")
    assert kept["data_options"]["standardize"] is True
    np.testing.assert_allclose(kept["standardization"]["mean"], train_rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(kept["standardization"]["scale"], train_rows.std(0), rtol=1e-12)
    opened = open_run(run)
    assert opened.space == "standardised data" and load(run).config.standardization == kept["standardization"]
    shown = opened.images(opened.dataset.test.x[:])
    np.testing.assert_allclose(shown, x[np.random.default_rng(0).permutation(60)[6:12]], rtol=1e-5)


def test_a_resumed_run_and_a_new_one_from_its_configuration(run):
    path, experiment = resume_experiment(run, {"steps": 6})
    assert train(experiment, path, resume=True).step == 6
    again = resolve(None, None, config=read_toml(run / "config.toml"))
    assert again.standardization is None and again.data_options["standardize"] is True


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"mean": [1.0, 2.0], "scale": [1.0, 1.0]}, "standardised by another mean"),
        ({"mean": [1.0]}, "no valid mean and scale"),
        ({"mean": "x", "scale": [1.0]}, "standardization.mean is a text, not a list"),
    ],
)
def test_another_scaling_is_refused(run, change, error):
    values = read_toml(run / "config.toml") | {"standardization": change}
    with pytest.raises((DataError, ConfigError), match=error):
        RunDirectory(run).write_config(Experiment.from_dict(values))
        open_run(run)


@pytest.mark.parametrize("holes", [False, True])
def test_data_that_are_handed_over_are_standardised_as_the_runs_own(run, tmp_path, holes):
    other = 3 * np.load(run.parent / "own.npz")["x"] + 40
    if holes:
        other[::2, 0] = np.nan
    np.savez(tmp_path / "other.npz", x=other)
    opened = open_run(run, dataset=str(tmp_path / "other.npz"), force=True)
    by = Standardization.from_dict(read_toml(run / "config.toml")["standardization"])
    held = other[np.random.default_rng(0).permutation(60)[6:12]]
    found = opened.dataset.test.x
    np.testing.assert_allclose(found.alone[:], (held - by.mean) / by.scale, rtol=1e-5)
    assert opened.dataset.standardization == by and found.incomplete == holes
    np.testing.assert_allclose(opened.images(found.alone[:]), held, rtol=1e-5)
    assert math.isfinite(hv.log_likelihood(opened.model, opened.guide, found, particles=20).mean())


def test_a_run_whose_option_was_edited_away_is_refused(run):
    values = read_toml(run / "config.toml")
    values["data_options"]["standardize"] = False
    RunDirectory(run).write_config(Experiment.from_dict(values))
    with pytest.raises(CheckpointError, match="trained with data_options.standardize = True"):
        open_run(run)


def test_other_runs_have_no_scaling(run, tmp_path):
    options = {**OPTIONS, "standardize": "false", "sigma": "2000"}
    opened = train(resolve("vae", str(tmp_path / "own.npz"), options=options), tmp_path / "plain")
    assert opened.space == "data" and "standardization" not in read_toml(tmp_path / "plain" / "config.toml")
    x = torch.ones(3, 2)
    assert opened.images(x) is x
