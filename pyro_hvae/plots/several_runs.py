"""Runs side by side in one picture: of the same data, each called by its name, drawn into one file."""

from collections.abc import Sequence
from pathlib import Path

from pyro_hvae.errors import ConfigError
from pyro_hvae.plots.figures import check_picture, run_name
from pyro_hvae.runs.run_loading import OpenRun

__all__ = ["called", "place"]


def place(runs: Sequence[OpenRun], picture: Path | None, name: str) -> Path:
    """Where runs are drawn: a file of the caller's, or the one of this name in the first run's figures.

    Raises:
        ConfigError: for a name of another kind of file, and for runs of different data.
    """
    if picture:
        check_picture(picture)
    first, *others = runs
    for other in others:
        if _data_of(other) != _data_of(first):
            raise ConfigError(
                f"runs side by side show the same test data, but {first.directory.path} has other data ({_data_of(first)}) "
                f"than {other.directory.path} ({_data_of(other)}). Draw them one by one."
            )
    return picture or first.directory.path / "figures" / name


def called(run: OpenRun) -> dict[str, str]:
    """Which run it is, as the reports of pictures of several say it."""
    return {"run": str(run.directory.path), "name": run_name(run)}


def _data_of(run: OpenRun) -> str:
    """Which data a run has: their name, options and identity."""
    e = run.experiment
    return ", ".join([e.dataset, *(f"{k}={v}" for k, v in sorted(e.data_options.items())), *filter(None, [e.data_identity])])
