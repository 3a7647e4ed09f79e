"""Vectors in real units: standardised, warned about, and drawn on their own scale."""

import json
import math

import numpy as np
import pytest
from command_line import train_once

from pyro_hvae import generate
from pyro_hvae.plots.image_grid import plot_samples
from pyro_hvae.runs.run_loading import open_run
from pyro_hvae.runtime import fixed_seed

COLUMNS = ["depth (m)", "height (m)"]
TINY = "-o hidden=4 -o latent=1 --steps 30 --batch-size 8".split()


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "own.npz"
    x = np.random.default_rng(0).normal(size=(60, 2)) * [1437, 4254] + [384, 2127]
    np.savez(path, x=x, columns=np.array(COLUMNS))
    return path


@pytest.fixture(scope="module")
def standardised(table):
    """A run on standardised data, and what was printed."""
    out = table.parent / "standardised"
    options = ["vae", "--dataset", table, "-o", "standardize=true", *TINY, "--out", out]
    return out, *train_once(table.parent, *options)


def test_the_bound_is_said_to_be_of_standardised_data_under_its_likelihood(standardised):
    _, out, _ = standardised
    line = next(line for line in out.splitlines() if line.startswith("Bound: "))
    assert "nats per datum of standardised data (Gaussian, sigma 0.2; 6 validation data), beta 1" in line


def test_the_likelihood_of_standardised_data_is_also_that_of_the_data(standardised, table, command):
    run = standardised[0]
    code, out, err = command("evaluate", run, "--particles", 10, "--json")
    assert code == 0, err
    values = json.loads(out)
    assert values["space"] == "standardised data"
    kept = np.load(table)["x"][np.random.default_rng(0).permutation(60)[12:]]
    jacobian = sum(math.log(s) for s in kept.std(0))
    assert values["log_likelihood_own_units"] == pytest.approx(values["log_likelihood"] - jacobian, abs=1e-9)
    code, out, _ = command("evaluate", run, "--particles", 10)
    assert f"in own units  {values['log_likelihood_own_units']:.4f}" in out
    assert "nats per datum of standardised data; likelihood Gaussian, sigma 0.2" in out


def test_errors_are_of_standardised_data(standardised, command):
    run = standardised[0]
    code, out, err = command("reconstruct", run, "--json")
    assert code == 0 and json.loads(out)["runs"][0]["space"] == "standardised data", err
    assert "RMS error per value of standardised data " in command("reconstruct", run)[1]
    code, out, _ = command("metrics", run, "reconstruction", "--json")
    assert json.loads(out)["space"] == "standardised data"


def test_real_units_are_warned_about_and_the_advice_works(standardised, table):
    """The warning names both numbers; its remedies leave nothing to warn about."""
    options = ["vae", "--dataset", table, *TINY]
    out, err = train_once(table.parent, *options, "--out", table.parent / "raw")
    line = next(line for line in err.splitlines() if line.startswith("Warning: the training data"))
    assert "the sigma of their Gaussian likelihood, 0.2" in line and "standardize=true" in line
    assert "nats per datum (Gaussian, sigma 0.2; 6 validation data)" in out
    assert "standard deviation" not in standardised[2]
    sigma = line.split("such as ")[1].split(",")[0]
    more = ["-o", sigma, "-o", "learn_sigma=true", "--out", table.parent / "advised"]
    out, err = train_once(table.parent, *options, *more)
    learned = float(out.split("(Gaussian, sigma ")[1].split(";")[0])
    assert (
        "standard deviation" not in err and learned == pytest.approx(float(sigma[6:]), rel=0.1) and f"={learned}" != sigma[5:]
    )


def test_pictures_have_the_names_and_the_units_of_the_data(standardised, table):
    """The scale of every picture is the range of the data as they are in the file."""
    run = open_run(standardised[0])
    figure = plot_samples(run, 5)
    axis = figure.axes[0]
    kept = np.load(table)["x"][np.random.default_rng(0).permutation(60)[12:]]
    assert [label.get_text() for label in axis.get_xticklabels()] == COLUMNS
    largest = abs(kept).max()
    np.testing.assert_allclose(axis.get_images()[0].get_clim(), (-largest, largest), rtol=1e-6)
    with fixed_seed(0):
        drawn = run.images(generate(run.model, 5)["x"])
    shown = np.asarray(axis.get_images()[0].get_array())[6::13][:, [12, 36]]
    np.testing.assert_allclose(shown, drawn, rtol=1e-5)


def test_what_is_said_of_the_data(table, command, tmp_path):
    code, out, err = command("data", "info", table, "-o", "standardize=true")
    assert code == 0 and "  columns  depth (m), height (m)\n" in out and "standardised by mean" in out, err
    np.save(tmp_path / "i.npy", np.zeros((9, 4, 4)))
    code, _, err = command("data", "info", "i.npy", "-o", "standardize=true")
    assert code == 2 and "standardize=true is for vectors" in err
