"""Trains and resumes an experiment in a run directory."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from pyro_hvae.errors import ConfigError
from pyro_hvae.runs import (
    RESUMABLE,
    Experiment,
    OpenRun,
    RunDirectory,
    Tracker,
    TrainConfig,
    check_program,
    describe_edits,
    find_run,
    has_known_data,
    known_options,
    read_checkpoint,
    read_config,
    read_experiment,
    record_program,
    require_program,
    require_same_settings,
    shared_run,
)
from pyro_hvae.runtime import fail_together, pick_device
from pyro_hvae.training.experiment_plan import plan
from pyro_hvae.training.loop import fit
from pyro_hvae.training.trial_starts import pick_start


def train(
    experiment: Experiment,
    out: str | PathLike[str],
    resume: bool = False,
    trackers: Sequence[Tracker] = (),
    tell: Callable[[str], Any] = lambda text: None,
) -> OpenRun:
    """Trains a resolved experiment into the run directory `out` and opens it; see `fit` for what can go wrong.

    Arguments:
        tell: called with a line about the trial starts, where several are asked for (see `TrainConfig.starts`).
    """
    pick_device(experiment.train.device)
    if experiment.train.starts > 1 and not resume:
        with fail_together():
            shared_run(out).require_empty()
        built = pick_start(experiment, tell)
    else:
        built = plan(experiment)
    by = built.dataset.standardization
    experiment = replace(
        built.experiment, data_identity=built.dataset.identity or None, standardization=by.to_dict() if by else None
    )
    if resume and experiment.program:  # another one may have been forced, and older runs have no record
        pair = built.stages[0].objective.model, built.stages[0].objective.guide
        shared_run(out).write_json("program.json", record_program(experiment.program, *pair))
    rows = fit(
        built.stages,
        built.dataset.train.x,
        experiment.train,
        built.schedules,
        out,
        validation=built.dataset.validation.x,
        resume=resume,
        trackers=trackers,
        experiment=experiment,
    )
    return OpenRun(RunDirectory(out), experiment, built.stages, rows[-1]["step"], built.dataset)


def resume_experiment(
    run: str | PathLike[str], changes: dict[str, Any], program: str | None = None, force: bool = False
) -> tuple[Path, Experiment]:
    """The path and experiment of a run to resume, with changed training settings; only those in `RESUMABLE` may change.

    Arguments:
        program: FILE.py:FUNCTION, for a run that was started so. force: take it though it is another than the run recorded.

    Raises:
        ConfigError: for a change that would make another experiment of it.
    """
    path = find_run(run)
    directory = RunDirectory(path)
    saved = read_checkpoint(directory.require_checkpoint())
    require_same_settings(saved, written := read_config(path), path)
    if edits := describe_edits(saved, written):
        warnings.warn(
            f"'{path / 'config.toml'}' has changed since the last checkpoint, and is followed: {edits}.", stacklevel=2
        )
    experiment = read_experiment(path)
    if experiment.recipe is None and not has_known_data(experiment):
        raise ConfigError(
            f"'{path}' was trained in a script, on data that only the script has. Go on there: hv.fit(..., out={str(path)!r}, "
            "resume=True)."
        )
    if experiment.recipe is None and program is None:
        raise ConfigError(f"this run is of a user's own program, started with --program {experiment.program}. Give it again.")
    require_program(directory, experiment, program)
    if program is not None:
        check_program(directory, experiment, program, directory.read_json("program.json"), force)
    for key, value in changes.items():
        before = getattr(experiment.train, key)
        if key not in RESUMABLE and value != before:
            raise ConfigError(f"the run was started with {key} = {before}; it cannot go on with {value}. Start a new run.")
    settings = known_options(changes, TrainConfig)
    if settings.get("steps", done := saved["step"]) < done:
        raise ConfigError(f"the run is at step {done} already; it cannot go back to --steps {settings['steps']}.")
    return path, replace(experiment.replace_train(**settings), program=program)
