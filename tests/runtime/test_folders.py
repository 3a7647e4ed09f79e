"""The folders of data, cache and runs on every platform."""

import subprocess
import sys
from pathlib import Path

import pytest

from pyro_hvae.errors import DataError
from pyro_hvae.runtime.folders import (
    CACHE_VARIABLE,
    DATA_VARIABLE,
    RUNS_VARIABLE,
    cache_folder,
    data_folder,
    runs_folder,
)

DATA = {
    "linux": ".local/share/pyro-hvae",
    "darwin": "Library/Application Support/pyro-hvae",
    "win32": "AppData/Local/pyro-hvae",
}
CACHE = {"linux": ".cache/pyro-hvae", "darwin": "Library/Caches/pyro-hvae", "win32": "AppData/Local/pyro-hvae/cache"}


@pytest.mark.parametrize(
    "variable, folder, defaults, xdg, below",
    [
        (DATA_VARIABLE, data_folder, DATA, "XDG_DATA_HOME", "pyro-hvae"),
        (CACHE_VARIABLE, cache_folder, CACHE, "XDG_CACHE_HOME", "pyro-hvae/cache"),
    ],
)
def test_a_folder_follows_its_variable_and_else_the_platform(monkeypatch, tmp_path, variable, folder, defaults, xdg, below):
    monkeypatch.setenv(variable, str(tmp_path))
    assert folder() == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(variable, "~/here")
    assert folder() == tmp_path / "here"
    monkeypatch.setenv(variable, "")
    monkeypatch.delenv(xdg, raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    for platform, default in defaults.items():
        monkeypatch.setattr(sys, "platform", platform)
        assert folder() == tmp_path / default
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert folder() == tmp_path / "local" / below
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv(xdg, str(tmp_path / "xdg"))
    assert folder() == tmp_path / "xdg/pyro-hvae"


def test_runs_lie_below_the_current_folder_by_default(monkeypatch):
    assert runs_folder() == Path("runs")
    monkeypatch.setenv(RUNS_VARIABLE, "elsewhere")
    assert runs_folder() == Path("elsewhere")


def test_folders_files_and_signals_import_no_torch():
    code = (
        "import sys; from pyro_hvae.runtime import atomic_files, folders, signals; from pyro_hvae.runtime import data_folder\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_user_without_a_home_is_told_which_variable_to_set(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("HOME", DATA_VARIABLE, "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # as in a container that runs under a number
    with pytest.raises(DataError, match=f"the home folder is unknown: HOME is not set. Set {DATA_VARIABLE}"):
        data_folder()
    monkeypatch.setenv(DATA_VARIABLE, "~nobody-of-that-name/data")
    assert data_folder() == Path("~nobody-of-that-name/data")
