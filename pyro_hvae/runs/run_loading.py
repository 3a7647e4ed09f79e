"""Opens trained runs: their configuration, data, stages, model and guide."""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyro_hvae import recipes
from pyro_hvae.data import DATASETS, Dataset, Rows, Standardization, find_source, is_path
from pyro_hvae.errors import CheckpointError, ConfigError, DataError, require_known
from pyro_hvae.objectives import ELBO, Objective
from pyro_hvae.recipes import RECIPES, Stage
from pyro_hvae.runs.checkpoints import load_checkpoint
from pyro_hvae.runs.experiment import Experiment, read_toml
from pyro_hvae.runs.options import known_options
from pyro_hvae.runs.run_directory import RunDirectory, find_run
from pyro_hvae.runs.user_program import Program, program_from_file
from pyro_hvae.runtime import fixed_seed, pick_device
from pyro_hvae.schedules import SCHEDULES


class LoadedPair(NamedTuple):
    """The trained pair of a run, in evaluation mode, and the configuration of the run."""

    model: nn.Module
    guide: nn.Module
    config: Experiment


@dataclass(frozen=True, eq=False)
class OpenRun:
    """A trained run with its data, for evaluation; puts the objectives of its stages in evaluation mode."""

    directory: RunDirectory
    experiment: Experiment
    stages: list[Stage]
    step: int
    held: Dataset | None = None  # the data it was trained on, where they are at hand

    def __post_init__(self) -> None:
        for stage in self.stages:
            stage.objective.eval()

    @property
    def stage(self) -> Stage:
        """The last stage."""
        return self.stages[-1]

    @cached_property
    def dataset(self) -> Dataset:
        return self.held or load_dataset(self.experiment)

    def images(self, x: Tensor) -> Tensor:
        """Images of data: x in its own units, or the pictures of its data set (stick figures for joint angles)."""
        return self.dataset.draw(x)

    @property
    def space(self) -> str:
        """What the densities of the trained pair are of: the data, standardised data, or a stage's features."""
        return self.stage.pixels.space if self.stage.pixels else self.dataset.space

    def view_of(self, x: Rows) -> Rows:
        """The view of x on which the objective was trained: x itself, or features of x."""
        return self.stage.view_of(x, self.device)

    @property
    def objective(self) -> Objective:
        """The trained pair and its bound."""
        return self.stage.objective

    @property
    def model(self) -> nn.Module:
        """The model of x: the trained one, or for a stage trained on features the one over pixels."""
        return self.stage.pixels.model if self.stage.pixels else self.objective.model

    @property
    def guide(self) -> nn.Module:
        return self.stage.pixels.guide if self.stage.pixels else self.objective.guide

    @property
    def device(self) -> torch.device:
        return next(self.objective.parameters()).device


def build_stages(experiment: Experiment, data: Dataset | None, program: Program | None) -> list[Stage]:
    """The stages of a recipe, sized by the data, or the one stage of a user's program, which needs no data."""
    if experiment.recipe is not None and data is not None:
        return recipes.build(experiment.recipe, data.train.x.sample(), experiment.recipe_options, data.crops)
    if program is None:
        raise ConfigError(
            f"this run is of a user's own program ({experiment.program or 'unnamed'}), which is never imported from the run. "
            "Hand it over: --program FILE.py:FUNCTION on the command line, hv.load(RUN, program=(model, guide)) in Python."
        )
    model, guide, *elbo = program
    return [Stage("program", (elbo[0] if elbo else ELBO())(model, guide))]


def load_dataset(experiment: Experiment) -> Dataset:
    """The data of an experiment; raises `DataError` where they are no longer those of its run."""
    if experiment.dataset not in DATASETS and not is_path(experiment.dataset):
        raise ConfigError(
            f"this run was trained on '{experiment.dataset}', which only the script that made it has. "
            "Use hv.load(RUN, program=(model, guide)) there."
        )
    state = find_source(experiment.dataset).state()
    data = _load_dataset(experiment.dataset, tuple(sorted(experiment.data_options.items())), state)
    # An older version recorded the beginning of the identity.
    if experiment.data_identity and not data.identity.startswith(experiment.data_identity):
        raise DataError(
            f"the data at {experiment.dataset} are no longer those of this run: {data.identity} instead of "
            f"{experiment.data_identity}. Test data may have become training data; restore them, or train anew."
        )
    if experiment.standardization:
        by = Standardization.from_dict(experiment.standardization)
        by.require_equal(data.standardization, f"the run on {experiment.dataset}")
    return data


@lru_cache(maxsize=1)  # trial starts, training and evaluation of one run share the data, while their files stay the same
def _load_dataset(name: str, options: tuple[tuple[str, Any], ...], state: str) -> Dataset:
    return find_source(name).load(**dict(options))


def read_experiment(path: Path) -> Experiment:
    """The experiment of a run, from its config.toml, its options validated against today's signatures."""
    file = path / "config.toml"
    if not file.is_file():
        raise CheckpointError(f"'{path}' is not a run directory: it has no config.toml.")
    experiment = Experiment.from_dict(read_toml(file))
    for kind, table in (("recipe", RECIPES), ("schedule", SCHEDULES)):
        if experiment.recipe:
            require_known(f"{kind} of '{file}'", getattr(experiment, kind), table)
    # Data of a user's own script are unknown here; `load_dataset` raises where they are needed.
    known = experiment.recipe is not None or experiment.dataset in DATASETS or is_path(experiment.dataset)
    source = find_source(experiment.dataset) if known else None
    schedule = SCHEDULES.get(experiment.schedule)
    return replace(
        experiment,
        recipe_options=known_options(experiment.recipe_options, RECIPES[experiment.recipe].build) if experiment.recipe else {},
        schedule_options=known_options(experiment.schedule_options, schedule) if schedule else {},
        data_options=known_options(experiment.data_options, source.load) if source else {},
    )


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
        data = load_dataset(experiment) if experiment.recipe or isinstance(program, str) else None
        # With a program by name there are data; a finished pair needs none.
        pair = program_from_file(program, data.train.x.sample()) if isinstance(program, str) and data else program
        stages = build_stages(experiment, data, pair)  # pyright: ignore[reportArgumentType]
    try:
        if (number := saved["stage"]) < len(stages) - 1:
            raise CheckpointError(
                f"'{directory.path}' is still in stage {number + 1} of {len(stages)}, '{stages[number].name}'; the last stage, "
                f"'{stages[-1].name}', has not begun. Go on with it: pyro-hvae train --resume {directory.path}"
            )
        for stage, programs in zip(stages, saved["programs"], strict=True):
            stage.objective.model.load_state_dict(programs["model"])
            stage.objective.guide.load_state_dict(programs["guide"])
    except (RuntimeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"checkpoint of '{directory.path}' does not fit its configuration: {reason}") from error
    for stage in stages:
        stage.objective.to(pick_device(device))
    return OpenRun(directory, experiment, stages, saved["step"])


def load(run: str | PathLike[str], checkpoint: str = "last", program: Program | None = None, device: str = "cpu") -> LoadedPair:
    """Model, guide and configuration of a run: `model, guide, config = hv.load("last")`."""
    opened = open_run(run, checkpoint, program, device)
    return LoadedPair(opened.model, opened.guide, opened.experiment)
