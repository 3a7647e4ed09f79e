"""Opens trained runs: their configuration, data, stages, model and guide."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyro_hvae import recipes
from pyro_hvae.data import Batch, Condition, Dataset, Rows, find_source, given_of, is_path, x_of
from pyro_hvae.errors import CheckpointError, ConfigError, DataError, HVAEError, require_known
from pyro_hvae.objectives import ELBO, Objective
from pyro_hvae.recipes import RECIPES, Stage
from pyro_hvae.runs.checkpoint_content import explain_misfit, read_checkpoint, refuse_larger_pairs, restore_pair
from pyro_hvae.runs.experiment import Experiment, read_toml
from pyro_hvae.runs.fixed_settings import require_same_settings
from pyro_hvae.runs.handed_over import check_pair, check_program, has_known_data, replace_data, require_program
from pyro_hvae.runs.options import known_options
from pyro_hvae.runs.run_data import load_dataset, measure_conditions, read_conditions
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
    def conditions(self) -> tuple[Condition, ...]:
        """What the programs are given beside x."""
        return read_conditions(self.experiment)

    @property
    def device(self) -> torch.device:
        return next(self.objective.parameters()).device


def build_stages(
    experiment: Experiment, data: Dataset | None, program: Program | None, x: Tensor | Batch | None = None
) -> list[Stage]:
    """The stages of a recipe, sized by the data, or by a sample x, or the stage of a user's program, which needs none."""
    if experiment.recipe is not None and data is not None:
        sample = data.train.x.sample() if x is None else x
        if likelihood := experiment.recipe_options.get("likelihood"):  # here names of columns are known
            recipes.check_values(likelihood, sample, data.columns, data.standardization is not None)
        return recipes.build(experiment.recipe, sample, experiment.recipe_options, data.crops)
    if program is None:
        raise ConfigError("there is no recipe and no program to build.")
    model, guide, *elbo = program
    return [Stage("program", (elbo[0] if elbo else ELBO())(model, guide))]


def read_config(path: Path) -> Experiment:
    """The experiment of a run as its config.toml has it; raises `CheckpointError` where that is missing or damaged."""
    file = path / "config.toml"
    if not file.is_file():
        raise CheckpointError(f"'{path}' is not a run directory: it has no config.toml.")
    with _explain_config(file):
        experiment = Experiment.from_dict(read_toml(file))
        if schedule := SCHEDULES.get(experiment.schedule):
            known_options(experiment.schedule_options, schedule)
        read_conditions(experiment)
        return experiment


@contextmanager
def _explain_config(file: Path) -> Iterator[None]:
    """Turns a `ConfigError` about the configuration of a run, which nobody typed, into a `CheckpointError`."""
    try:
        yield
    except ConfigError as error:
        raise CheckpointError(f"the configuration '{file}' cannot be used: {error}") from error


def read_experiment(path: Path) -> Experiment:
    """The experiment of a run, from its config.toml, its options validated against today's signatures."""
    experiment, file = read_config(path), path / "config.toml"
    with _explain_config(file):
        return _with_known_options(experiment, file)


def _with_known_options(experiment: Experiment, file: Path) -> Experiment:
    for kind, table in (("recipe", RECIPES), ("schedule", SCHEDULES)):
        if experiment.recipe:
            require_known(f"{kind} of '{file}'", getattr(experiment, kind), table)
    # Data of a user's own script are unknown here, and files may have moved; `load_dataset` raises where they are needed.
    here = not is_path(experiment.dataset) or os.path.exists(experiment.dataset)
    source = find_source(experiment.dataset) if here and (experiment.recipe or has_known_data(experiment)) else None
    schedule = SCHEDULES.get(experiment.schedule)
    return replace(
        experiment,
        recipe_options=known_options(experiment.recipe_options, RECIPES[experiment.recipe].build) if experiment.recipe else {},
        schedule_options=known_options(experiment.schedule_options, schedule) if schedule else {},
        data_options=known_options(experiment.data_options, source.load) if source else experiment.data_options,
    )


def open_run(
    run: str | PathLike[str],
    checkpoint: str = "last",
    program: Program | str | None = None,
    device: str = "cpu",
    *,
    dataset: str | None = None,
    data_options: Mapping[str, str] | None = None,
    force: bool = False,
) -> OpenRun:
    """Opens a trained run by path, unique prefix or `last`.

    Arguments:
        checkpoint: `last`, or `best` by validation bound.
        program: for runs of a user's own pair: (model, guide[, ELBO]), or FILE.py:FUNCTION as typed by the user.
        dataset, data_options: data by name or path instead of those that the run names, with options as typed. The
            experiment of the opened run names them.
        force: take another program or other data than the run recorded.

    Raises:
        DataError, CheckpointError, ConfigError: see the errors' texts.
    """
    directory = RunDirectory(find_run(run))
    saved = read_checkpoint(file := directory.require_checkpoint(checkpoint))
    require_same_settings(saved, read_config(directory.path), directory.path)
    experiment = read_experiment(directory.path)
    if dataset is not None:
        experiment = measure_conditions(replace_data(directory, experiment, dataset, data_options or {}, force))
    elif data_options:
        raise ConfigError("--data-option is of the data that --dataset names. Give both, or neither.")
    require_program(directory, experiment, program)
    if isinstance(program, str):
        check_program(directory, experiment, program, force)

    def build(x: Any) -> tuple[Any, list[Stage]]:
        # With a program by name there are data; a finished pair needs none.
        pair: Any = program_from_file(program, x) if isinstance(program, str) and x is not None else program
        with refuse_larger_pairs(saved, file) if experiment.recipe else nullcontext():
            return pair, build_stages(experiment, data, pair, x)

    with fixed_seed(experiment.train.seed):  # for what a pair of one's own draws beside its weights
        known = experiment.recipe or dataset is not None or isinstance(program, str)
        data = load_dataset(experiment, dataset is not None) if known else None
        pair, stages = build(data.train.x.sample() if data else None)
    if (number := saved["stage"]) < len(stages) - 1:
        raise CheckpointError(
            f"'{directory.path}' is still in stage {number + 1} of {len(stages)}, '{stages[number].name}'; the last stage, "
            f"'{stages[-1].name}', has not begun. Go on with it: pyro-hvae train --resume {directory.path}"
        )
    try:
        _restore(stages, saved, file)
    except CheckpointError as error:
        if dataset is None or data is None:
            raise
        try:  # a guide of incomplete data reads the mask, and serves complete data, too; and the other way round
            with fixed_seed(experiment.train.seed):
                pair, stages = build(_other_kind(data.train.x.sample()))
            _restore(stages, saved, file)
        except HVAEError:
            raise DataError(
                f"the weights of '{directory.path}' do not fit a pair for data of shape {data.shape}, as {dataset} has them: "
                f"{error.__cause__ or error} Hand over data of the shape that the run was trained on."
            ) from error
    if pair and (experiment.program is None or not isinstance(program, str)):  # of a file its source was compared
        check_pair(directory, pair, force)
    for stage in stages:
        stage.objective.to(pick_device(device))
    if isinstance(program, str):
        experiment = replace(experiment, program=program)
    return OpenRun(directory, experiment, stages, saved["step"], data if dataset is not None else None)


def _restore(stages: list[Stage], saved: Mapping[str, Any], file: Path) -> None:
    with explain_misfit(file):
        pairs = list(zip(stages, saved["programs"], strict=True))
    for stage, programs in pairs:
        restore_pair(stage.objective, programs, file)


def _other_kind(x: Tensor | Batch) -> Tensor | Batch:
    """The same data with a mask of their entries, which are all known, where they had none; else without their mask."""
    observed = None if isinstance(x, Batch) and x.observed is not None else torch.ones_like(x_of(x), dtype=torch.bool)
    given = given_of(x)
    return x_of(x) if observed is None and not given else Batch(x_of(x), given, observed)


def load(
    run: str | PathLike[str],
    checkpoint: str = "last",
    program: Program | None = None,
    device: str = "cpu",
    *,
    force: bool = False,
) -> LoadedPair:
    """Model, guide and configuration of a run: `model, guide, config = hv.load("last")`.

    Arguments:
        program: (model, guide) for runs of a user's own program. force: take another pair than the run recorded.
    """
    opened = open_run(run, checkpoint, program, device, force=force)
    return LoadedPair(opened.model, opened.guide, opened.experiment)
