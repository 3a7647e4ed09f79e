"""Opens trained runs: their configuration, data, stages, model and guide."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyro_hvae import recipes
from pyro_hvae.data import SAMPLE_VALUES, Batch, Dataset, find_source, given_of, is_path, refuse_bits, x_of
from pyro_hvae.errors import CheckpointError, ConfigError, DataError, HVAEError, python_advice, require_known
from pyro_hvae.objectives import ELBO
from pyro_hvae.recipes import RECIPES, Stage
from pyro_hvae.runs.checkpoint_content import explain_misfit, refuse_larger_pairs, restore_pair
from pyro_hvae.runs.experiment import Experiment, read_toml
from pyro_hvae.runs.export_format import is_export, read_export_config
from pyro_hvae.runs.handed_over import check_pair, check_program, has_known_data, replace_data, require_program
from pyro_hvae.runs.loaded_pair import LoadedPair
from pyro_hvae.runs.opened_run import OpenRun
from pyro_hvae.runs.options import known_options
from pyro_hvae.runs.run_data import load_dataset, measure_conditions, read_conditions
from pyro_hvae.runs.run_directory import RunDirectory, find_run
from pyro_hvae.runs.saved_pair import SavedPair, read_export, read_run
from pyro_hvae.runs.user_program import Program, program_from_file
from pyro_hvae.runtime import fixed_seed, pick_device
from pyro_hvae.schedules import SCHEDULES


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
    if is_export(path):
        raise ConfigError(f"'{path}' is an exported model, not a run. Name the run that it was exported from.")
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


def has_recipe(path: Path) -> bool:
    """Whether a run or an export is of one of the library's recipes, and not of a user's own program."""
    if is_export(path):
        return read_export_config(path)["experiment"].get("recipe") is not None
    return read_experiment(path).recipe is not None


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
    """Opens a trained run by path, unique prefix or `last`, or an exported model by its folder.

    An export holds no data: its `dataset` has all but the rows, until data are handed over.

    Arguments:
        checkpoint: `last`, or `best` by validation bound.
        program: for runs of a user's own pair: (model, guide[, ELBO]), or FILE.py:FUNCTION as typed by the user.
        dataset, data_options: data by name or path instead of those that the run names, with options as typed. The
            experiment of the opened run names them.
        force: take another program or other data than the run recorded.

    Raises:
        DataError, CheckpointError, ConfigError: see the errors' texts.
    """
    saved = read_saved(find_run(run), checkpoint)
    directory, experiment, described = saved.directory, saved.experiment, saved.described
    if dataset is not None:
        handed = replace_data(directory, experiment, dataset, data_options or {}, force, saved.exported)
        experiment = measure_conditions(handed)
    elif data_options:
        raise ConfigError("--data-option is of the data that --dataset names. Give both, or neither.")
    require_program(directory, experiment, program, described is not None or has_known_data(experiment))
    if isinstance(program, str):
        check_program(directory, experiment, program, saved.record, force)

    def build(x: Any) -> tuple[Any, list[Stage]]:
        # With a program by name there are data; a finished pair needs none.
        pair: Any = program_from_file(program, x) if isinstance(program, str) and x is not None else program
        with _refuse_huge_pairs(saved) if experiment.recipe else nullcontext():
            return pair, build_stages(experiment, data, pair, x)

    with fixed_seed(experiment.train.seed):  # for what a pair of one's own draws beside its weights
        if described:
            data, x = _describe_data(saved), _stand_in(saved)
        else:
            known = experiment.recipe or dataset is not None or isinstance(program, str)
            data = load_dataset(experiment, dataset is not None) if known else None
            x = data.train.x.sample() if data else None
        pair, stages = build(x)
    if (number := saved.stage) < len(stages) - 1:
        raise CheckpointError(
            f"'{directory.path}' is still in stage {number + 1} of {len(stages)}, '{stages[number].name}'; the last stage, "
            f"'{stages[-1].name}', has not begun. Go on with it: pyro-hvae train --resume {directory.path}"
        )
    try:
        _restore(stages, saved)
    except CheckpointError as error:
        if dataset is None or data is None or described:
            raise
        try:  # a guide of incomplete data reads the mask, and serves complete data, too; and the other way round
            with fixed_seed(experiment.train.seed):
                pair, stages = build(_other_kind(data.train.x.sample()))
            _restore(stages, saved)
        except HVAEError:
            raise DataError(
                f"the weights of '{directory.path}' do not fit a pair for data of shape {data.shape}, as {dataset} has them: "
                f"{error.__cause__ or error} Hand over data of the shape that the run was trained on."
            ) from error
    # Of a file its source was compared; without the data that it was built of, what it makes of them is, too.
    if pair and (experiment.program is None or not isinstance(program, str) or saved.exported):
        check_pair(directory, pair, saved.record, force)
    for stage in stages:
        stage.objective.to(pick_device(device))
    if isinstance(program, str):
        experiment = replace(experiment, program=program)
    if described:
        held = _load_handed(experiment, data) if dataset is not None else data
    else:
        held = data if dataset is not None else None
    return OpenRun(directory, experiment, stages, saved.step, held)


def read_saved(path: Path, checkpoint: str = "last") -> SavedPair:
    """The weights of the run or the export in a folder, and what they are of; errors are those of `open_run`."""
    if is_export(path):
        return read_export(path, checkpoint)
    RunDirectory(path).require_checkpoint(checkpoint)
    return read_run(path, read_experiment(path), read_config(path), checkpoint)


def _describe_data(saved: SavedPair) -> Dataset:
    """The data of an export without their rows."""
    name = saved.experiment.dataset
    assert saved.described is not None
    return saved.described.dataset(
        f"'{saved.directory.path}' is an exported model, which holds no data, and this takes some. Hand data over: --dataset "
        f"NAME|PATH (it was trained on {name})."
    )


def _stand_in(saved: SavedPair) -> Tensor | Batch:
    """Data of the shape and the range that sized the pair of an export, as many as its prior takes."""
    assert saved.described is not None
    count = saved.experiment.recipe_options.get("components", 2)
    weights = sum(value.numel() for programs in saved.programs for state in programs.values() for value in state.values())
    with _explain_export(saved):
        return saved.described.stand_in(count, max(SAMPLE_VALUES, weights))


def _load_handed(experiment: Experiment, described: Dataset | None) -> Dataset:
    """Data that are handed over to an export; raises `DataError` where their shape or columns are others than it learned."""
    data = load_dataset(experiment, handed_over=True, columns=described.columns if described else ())
    if described and described.train.x.grey and isinstance(data.train.x.store, Tensor) and not data.train.x.grey:
        refuse_bits(experiment.dataset, data.train.x.store.numpy().dtype, data.train.x.store.numpy())
    if described and data.shape != described.shape:
        raise DataError(
            f"{experiment.dataset} has data of shape {data.shape}, but the model learned {described.shape}. Hand over data of "
            "that shape."
        )
    if described and data.columns and described.columns and tuple(data.columns) != tuple(described.columns):
        names = ",".join(described.columns)  # of motions, which have no conditions
        raise DataError(
            f"the columns of {experiment.dataset} are {','.join(data.columns)}, but the model learned {names}. Choose these, "
            f"in this order: --data-option columns={names}."
        )
    return data


@contextmanager
def _refuse_huge_pairs(saved: SavedPair) -> Iterator[None]:
    with refuse_larger_pairs({"programs": saved.programs}, saved.file):
        if not saved.exported:
            yield
            return
        with _explain_export(saved):
            yield


@contextmanager
def _explain_export(saved: SavedPair) -> Iterator[None]:
    """Turns what a configuration that nobody typed, and that does not fit its weights, raises into a `CheckpointError`."""
    try:
        with explain_misfit(saved.file):
            yield
    except ConfigError as error:
        raise CheckpointError(f"the configuration of '{saved.directory.path}' does not fit its weights: {error}") from error


def _restore(stages: list[Stage], saved: SavedPair) -> None:
    with explain_misfit(saved.file):
        pairs = list(zip(stages, saved.programs, strict=True))
    for stage, programs in pairs:
        restore_pair(stage.objective, programs, saved.file)


def _other_kind(x: Tensor | Batch) -> Tensor | Batch:
    """The same data with a mask of their entries, which are all known, where they had none; else without their mask."""
    observed = None if isinstance(x, Batch) and x.observed is not None else torch.ones_like(x_of(x), dtype=torch.bool)
    given = given_of(x)
    return x_of(x) if observed is None and not given else Batch(x_of(x), given, observed)


@python_advice()
def load(
    run: str | PathLike[str],
    checkpoint: str = "last",
    program: Program | None = None,
    device: str = "cpu",
    *,
    force: bool = False,
) -> LoadedPair:
    """Model, guide and configuration of a run or an exported model: `model, guide, config = hv.load("last")`.

    Arguments:
        run: its path, unique prefix or `last`; the folder of an export, which needs neither the run nor its data.
        program: (model, guide) for runs of a user's own program. force: take another pair than the run recorded.
    """
    return LoadedPair(open_run(run, checkpoint, program, device, force=force))
