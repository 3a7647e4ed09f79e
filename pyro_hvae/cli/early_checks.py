"""Checks what was typed before torch is imported, which takes seconds.

The library checks again, by the same functions. A program that runs a command in its own process may have added entries to the
tables of the package, so nothing is checked here where torch has been imported already: there the library's checks are quick.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

from pyro_hvae.cli.source_tables import find_loader, read_chain_starts, read_metrics, source_tables
from pyro_hvae.errors import require_known
from pyro_hvae.runs import (
    TRACKERS,
    RunDirectory,
    TrainConfig,
    find_run,
    is_export,
    known_options,
    read_toml,
    resolve,
    share_options,
    split_program_spec,
    typed_options,
)


def _before_torch(check: Callable[..., None]) -> Callable[..., None]:
    @wraps(check)
    def run_check(*arguments: Any) -> None:
        if "torch" not in sys.modules:
            with suppress(OSError):  # where the package is installed without its source, the library's checks are the first
                check(*arguments)

    return run_check


@_before_torch
def check_experiment(
    recipe: str | None,
    dataset: str | None,
    schedule: str | None,
    options: Mapping[str, str],
    settings: Mapping[str, Any],
    config: Path | None,
    program: str | None,
) -> None:
    """Checks a new run of `train`: all but what recipe, schedule or data set make of their options."""
    file = read_toml(config) if config else {}
    resolve(recipe, dataset, schedule, options, settings, file, program, tables=source_tables())
    if program is not None:
        split_program_spec(program)


@_before_torch
def check_resumption(run: str, settings: Mapping[str, Any]) -> None:
    """Checks the run that `train --resume` goes on with, and the settings that it changes."""
    RunDirectory(find_run(run)).require_checkpoint()
    TrainConfig(**known_options(settings, TrainConfig))


@_before_torch
def check_runs(runs: Sequence[str], checkpoint: str | None = None) -> None:
    """Checks that runs are there, and their checkpoints where one is named."""
    for run in runs:
        directory = RunDirectory(find_run(run))
        if checkpoint and not is_export(directory.path):
            directory.require_checkpoint(checkpoint)


@_before_torch
def check_trackers(names: Sequence[str]) -> None:
    """Checks names of trackers."""
    for name in names:
        require_known("tracker", name, TRACKERS)


@_before_torch
def check_metrics(names: Sequence[str], options: Mapping[str, str]) -> None:
    """Checks names of metrics, and their options."""
    metrics = read_metrics()
    for name in names:
        require_known("metric", name, metrics)
    share_options(options, {name: metrics[name].measure for name in names})


@_before_torch
def check_chain_start(name: str) -> None:
    """Checks where Gibbs chains start."""
    require_known("init", name, read_chain_starts())


@_before_torch
def check_dataset(name: str, options: Mapping[str, str]) -> None:
    """Checks the name or path of a data set, and its options."""
    typed_options(options, find_loader(name), f"data set {name}")
