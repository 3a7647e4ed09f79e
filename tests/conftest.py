"""Every test starts from the same random state, in an empty directory, with its own parameter store, runs and cache folder."""

import os
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch reads it when it is imported; several test processes share the cores
if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:  # one folder of compiled code for all test processes, which inherit its name
    compiled_code = tempfile.TemporaryDirectory(prefix="pyro_hvae_tests_")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = compiled_code.name
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no pool of processes that each import torch

import pyro
import pytest
import torch
from command_line import TINY, train_once

from pyro_hvae.cli import main
from pyro_hvae.runtime.folders import CACHE_VARIABLE, DATA_VARIABLE


@pytest.fixture(autouse=True)
def _clean(tmp_path, monkeypatch):
    for name in ("PYRO_HVAE_RUNS", "PYRO_HVAE_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    pyro.clear_param_store()
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)


@pytest.fixture
def command(capsys):
    """Runs the command in this process and returns (exit code, stdout, stderr)."""

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return caught.value.code or 0, out, err

    return run


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty data folder, which the environment names."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv(DATA_VARIABLE, str(folder))
    return folder


@pytest.fixture(scope="session")
def triangle_runs(tmp_path_factory):
    """A run on features, with stages for texture and for the whole, and a run on pixels of the same data."""
    folder = tmp_path_factory.mktemp("triangles")
    small = "--dataset triangles -o size=40 -o hidden=2,2,2,2,8 --steps 12 --batch-size 8 -o log_every=2".split()
    # 64 patches an image, not 4096: quick.
    texture = "-o texture_hidden=8,8 -o overlap=false -o patch=8 -o texture_share=0.5".split()
    train_once(folder, "texture", *small, *texture, "--out", "texture")
    train_once(folder, "vae", *small, "--out", "vae")
    return folder / "texture", folder / "vae"


# Tiny trained runs that several tests share. A test that changes a run copies it first.


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
