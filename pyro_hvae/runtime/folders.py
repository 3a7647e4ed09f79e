"""The folders of data files, of the cache and of runs, and the environment variables that set them."""

import os
import sys
from pathlib import Path

from pyro_hvae.errors import DataError

DATA_VARIABLE = "PYRO_HVAE_DATA"
CACHE_VARIABLE = "PYRO_HVAE_CACHE"
RUNS_VARIABLE = "PYRO_HVAE_RUNS"


def data_folder() -> Path:
    """The folder of all data files: `PYRO_HVAE_DATA`, else `pyro-hvae` in the platform's data folder.

    That is $XDG_DATA_HOME or ~/.local/share on Linux, ~/Library/Application Support on macOS, and %LOCALAPPDATA% on
    Windows. The folder need not exist. Only a download writes to it.
    """
    return _chosen_or_platform_folder(DATA_VARIABLE, "XDG_DATA_HOME", ".local/share", "Application Support", "pyro-hvae")


def cache_folder() -> Path:
    r"""The folder of files made from data files: `PYRO_HVAE_CACHE`, else `pyro-hvae` in the platform's cache folder.

    That is $XDG_CACHE_HOME or ~/.cache on Linux, and ~/Library/Caches on macOS; on Windows the folder is
    %LOCALAPPDATA%\pyro-hvae\cache. It may be emptied at any time.
    """
    return _chosen_or_platform_folder(CACHE_VARIABLE, "XDG_CACHE_HOME", ".cache", "Caches", "pyro-hvae/cache")


def runs_folder() -> Path:
    """The folder of runs: `PYRO_HVAE_RUNS`, else ./runs."""
    return Path(os.environ.get(RUNS_VARIABLE) or "runs")


def _chosen_or_platform_folder(variable: str, xdg_variable: str, linux: str, macos: str, windows: str) -> Path:
    if chosen := os.environ.get(variable):
        return Path(os.path.expanduser(chosen))
    try:
        if sys.platform == "win32":
            return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / windows
        if sys.platform == "darwin":
            return Path.home() / "Library" / macos / "pyro-hvae"
        return Path(os.environ.get(xdg_variable) or Path.home() / linux) / "pyro-hvae"
    except RuntimeError as error:  # neither HOME nor an entry among the users, as in some containers
        raise DataError(f"the home folder is unknown: HOME is not set. Set {variable} to a folder, or HOME.") from error
