"""Tiny trained runs that all tests of the command line share. A test that changes a run copies it first."""

import pytest
from command_line import TINY, train_once


@pytest.fixture(scope="session")
def pendulum_training(tmp_path_factory):
    """A VHP on the pendulum: run directory, stdout and stderr of its training."""
    folder = tmp_path_factory.mktemp("pendulum")
    out, err = train_once(folder, "vhp", "--dataset", "pendulum", *TINY, "--steps", 60, "-o", "kappa=4")
    return folder / "runs" / "vhp-pendulum-rewo-seed0", out, err


@pytest.fixture(scope="session")
def pendulum_run(pendulum_training):
    return pendulum_training[0]


@pytest.fixture(scope="session")
def hvae_run(tmp_path_factory):
    """A Markov hierarchy on digits, trained long enough to have dimensions in use."""
    folder = tmp_path_factory.mktemp("hvae")
    options = "--dataset digits -o hidden=12 -o upper=12 -o dims=3,2 --steps 300 -o log_every=100 -o lr=0.01 -o warmup=1"
    train_once(folder, "hvae", *options.split(), "--out", "run")
    return folder / "run"


@pytest.fixture(scope="session")
def ar_hvae_run(tmp_path_factory):
    """A hierarchy on digits whose x depends on all layers."""
    folder = tmp_path_factory.mktemp("ar-hvae")
    options = "--dataset digits -o hidden=12 -o upper=12 -o dims=3,2 --steps 60 -o log_every=30"
    train_once(folder, "ar-hvae", *options.split(), "--out", "run")
    return folder / "run"


@pytest.fixture(scope="session")
def vae_run(tmp_path_factory):
    """A VAE on 100 pendulum images after six steps."""
    folder = tmp_path_factory.mktemp("vae")
    options = "--dataset pendulum -o hidden=8 -o size=100 --steps 6 --batch-size 10"
    train_once(folder, "vae", *options.split(), "--out", "run")
    return folder / "run"
