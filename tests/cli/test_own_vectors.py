"""Vectors in real units: standardised, warned about, and drawn on their own scale."""

import json
import math

import numpy as np
import pytest
from command_line import train_once

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
    assert "nats per datum of standardised data (Gaussian, sigma 0.2; validation), beta 1" in line


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
