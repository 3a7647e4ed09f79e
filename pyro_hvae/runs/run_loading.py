"""Trained runs, opened: the configuration, data and stages of one, and what the tools look at."""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyro_hvae import recipes
from pyro_hvae.data import DATASETS, Dataset, Rows, find_source, is_path
from pyro_hvae.errors import CheckpointError, ConfigError, DataError, unknown_name
from pyro_hvae.objectives.elbo import ELBO, Objective
from pyro_hvae.recipes import RECIPES, Stage
from pyro_hvae.runs.checkpoints import load_checkpoint
from pyro_hvae.runs.experiment import Experiment, read_toml
from pyro_hvae.runs.options import coerce, parameters
from pyro_hvae.runs.run_directory import RunDirectory, find_run
from pyro_hvae.runs.user_program import Program, program_from_file
from pyro_hvae.runtime.devices import pick_device
from pyro_hvae.runtime.random_state import fixed_seed
from pyro_hvae.schedules import SCHEDULES

__all__ = ["Loaded", "OpenRun", "as_opened", "build_stages", "load", "load_data", "open_run", "read_experiment"]


class Loaded(NamedTuple):
    """What `load` gives back: the trained pair, in evaluation mode, and the configuration of its run."""

    model: nn.Module
    guide: nn.Module
    config: Experiment


@dataclass(frozen=True, eq=False)
class OpenRun:
    """A trained run with its data, for evaluation.

    Attributes:
        directory: where it lives. stages: all of them, their objectives on their device and in evaluation mode.
    """

    directory: RunDirectory
    experiment: Experiment
    stages: list[Stage]
    step: int

    @property
    def stage(self) -> Stage:
        """The last one, which there is to look at."""
        return self.stages[-1]

    @cached_property
    def dataset(self) -> Dataset:
        return load_data(self.experiment)

    def images(self, x: Tensor) -> Tensor:
        """Data as images to look at: themselves, unless their set has a picture of them (stick figures for joint angles)."""
        return self.dataset.picture(x) if self.dataset.picture else x

    def seen(self, x: Rows) -> Rows:
        """Data as the objective's pair has them: themselves, unless it was trained on features of them."""
        return self.stage.sees(x, self.device)

    @property
    def objective(self) -> Objective:
        """The pair that was trained, and its bound."""
        return self.stage.objective

    @property
    def model(self) -> nn.Module:
        """The model of the data: the one that was trained, or the one of pixels that goes with features."""
        return self.stage.pixels.model if self.stage.pixels else self.objective.model

    @property
    def guide(self) -> nn.Module:
        return self.stage.pixels.guide if self.stage.pixels else self.objective.guide

    @property
    def device(self) -> torch.device:
        return next(self.objective.parameters()).device


def build_stages(experiment: Experiment, data: Dataset | None, program: Program | None) -> list[Stage]:
    """The stages of a recipe, which are sized by the data, or of a finished pair, which needs none."""
    if experiment.recipe is not None and data is not None:
        return recipes.build(experiment.recipe, data.train.x.sample(), experiment.recipe_options, data.crops)
    if program is None:
        raise ConfigError(
            f"this run is of a user's own program ({experiment.program or 'unnamed'}), which is never imported from the run. "
            "Hand it over: --program FILE.py:FUNCTION on the command line, hv.load(RUN, program=(model, guide)) in Python."
        )
    model, guide, *elbo = program
    return [Stage("program", (elbo[0] if elbo else ELBO())(model, guide))]


def load_data(experiment: Experiment) -> Dataset:
    if experiment.dataset not in DATASETS and not is_path(experiment.dataset):
        raise ConfigError(
            f"this run was trained on '{experiment.dataset}', which only the script that made it has. "
            "Use hv.load(RUN, program=(model, guide)) there."
        )
    data = _built(experiment.dataset, tuple(sorted(experiment.data_options.items())))
    if experiment.data_identity and data.identity != experiment.data_identity:
        raise DataError(
            f"the data at {experiment.dataset} are no longer those of this run: {data.identity} instead of "
            f"{experiment.data_identity}. Test data may have become training data; restore them, or train anew."
        )
    return data


@lru_cache(maxsize=1)  # trial starts, training and evaluation of one run look at the same, never modified, tensors
def _built(name: str, options: tuple[tuple[str, Any], ...]) -> Dataset:
    return find_source(name).load(**dict(options))


def read_experiment(path: Path) -> Experiment:
    """The experiment of a run, from its config.toml, its options validated against today's signatures."""
    file = path / "config.toml"
    if not file.is_file():
        raise CheckpointError(f"'{path}' is not a run directory: it has no config.toml.")
    experiment = Experiment.from_dict(read_toml(file))
    for kind, table in (("recipe", RECIPES), ("schedule", SCHEDULES)):
        if experiment.recipe and (name := getattr(experiment, kind)) not in table:
            raise unknown_name(f"{kind} of '{file}'", name, table)
    # What only a user's own script has stays unknown, and is told when it is asked for.
    known = experiment.recipe is not None or experiment.dataset in DATASETS or is_path(experiment.dataset)
    source = find_source(experiment.dataset) if known else None
    return replace(
        experiment,
        recipe_options=_typed(experiment.recipe_options, RECIPES[experiment.recipe].build) if experiment.recipe else {},
        schedule_options=_typed(experiment.schedule_options, SCHEDULES.get(experiment.schedule)),
        data_options=_typed(experiment.data_options, source and source.load),
    )


def _typed(options: dict[str, Any], function: Any) -> dict[str, Any]:
    known = parameters(function) if function else {}
    return {k: coerce(k, v, known[k].annotation) for k, v in options.items() if k in known}


def as_opened(directory: RunDirectory, experiment: Experiment, stages: list[Stage], step: int) -> OpenRun:
    for stage in stages:
        stage.objective.eval()
    return OpenRun(directory, experiment, stages, step)


def open_run(
    run: str | PathLike[str], checkpoint: str = "last", program: Program | str | None = None, device: str = "cpu"
) -> OpenRun:
    """Opens a trained run by path, unique prefix or `last`.

    Arguments:
        checkpoint: `last`, or `best` by validation bound.
        program: for runs of a user's own pair: (model, guide[, ELBO]), or FILE.py:FUNCTION as typed by the user.

    Raises:
        DataError, CheckpointError, ConfigError: see the errors' texts.
    """
    directory = RunDirectory(find_run(run))
    saved = load_checkpoint(directory.require_checkpoint(checkpoint))
    experiment = read_experiment(directory.path)
    with fixed_seed(0):
        data = load_data(experiment) if experiment.recipe or isinstance(program, str) else None
        # With a program by name there are data; a finished pair needs none.
        pair = program_from_file(program, data.train.x.sample()) if isinstance(program, str) and data else program
        stages = build_stages(experiment, data, pair)  # pyright: ignore[reportArgumentType]
    try:
        _require_last(saved["stage"], stages, directory)
        for stage, programs in zip(stages, saved["programs"], strict=True):
            stage.objective.model.load_state_dict(programs["model"])
            stage.objective.guide.load_state_dict(programs["guide"])
    except (RuntimeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"checkpoint of '{directory.path}' does not fit its configuration: {reason}") from error
    for stage in stages:
        stage.objective.to(pick_device(device))
    return as_opened(directory, experiment, stages, saved["step"])


def _require_last(stage: int, stages: list[Stage], directory: RunDirectory) -> None:
    """Raises `CheckpointError` for a run in an earlier stage than the last."""
    if stage < len(stages) - 1:
        raise CheckpointError(
            f"'{directory.path}' is still in stage {stage + 1} of {len(stages)}, '{stages[stage].name}'; '{stages[-1].name}', "
            f"which there is to look at, has not begun. Go on with it: pyro-hvae train --resume {directory.path}"
        )


def load(run: str | PathLike[str], checkpoint: str = "last", program: Program | None = None, device: str = "cpu") -> Loaded:
    """Model, guide and configuration of a run: `model, guide, config = hv.load("last")`."""
    opened = open_run(run, checkpoint, program, device)
    return Loaded(opened.model, opened.guide, opened.experiment)
