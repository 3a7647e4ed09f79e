"""Every test starts from the same random state, in an empty directory, with its own parameter store, runs and cache folder."""

import pyro
import pytest
import torch
from command_line import train_once

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
