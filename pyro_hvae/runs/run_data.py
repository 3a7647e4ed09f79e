"""The data of an experiment, with the conditions that stand beside x."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pyro_hvae.data import (
    Condition,
    Dataset,
    Standardization,
    choose_columns,
    condition_on,
    find_source,
    give_conditions,
    is_path,
    read_condition,
)
from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.runs.experiment import Experiment
from pyro_hvae.runs.handed_over import has_known_data
from pyro_hvae.runtime import fixed_seed

# What was asked for last: name and options -> the state of its files, and the data.
_last: dict[tuple[str, str], tuple[str, Dataset]] = {}


def load_dataset(experiment: Experiment, handed_over: bool = False, columns: Sequence[str] = ()) -> Dataset:
    """The data of an experiment with its conditions beside x.

    Arguments:
        handed_over: whether they are others than the run was trained on: these are standardised as the run's own.
        columns: of x as the run learned them, which are chosen by name where the data have names.

    Raises:
        ConfigError: for a condition that the data do not have.
        DataError: where the data are no longer those of the run, lack a column, or have a class that the run does not know.
    """
    data = _load_alone(experiment)
    if columns and data.columns:  # conditions that are numbers are columns of x, too, until they are given beside it
        beside = [c.name for c in read_conditions(experiment) if c.name in data.columns and c.name not in columns]
        data = choose_columns(data, [*columns, *beside])
    if experiment.conditions:
        data = give_conditions(data, read_conditions(experiment))
    elif experiment.condition or experiment.size_factor:
        data, _ = condition_on(data, experiment.condition, experiment.size_factor)
    if experiment.standardization:
        by = Standardization.from_dict(experiment.standardization)
        if handed_over and data.standardization and len(data.standardization.mean) == len(by.mean):
            data = _rescale(data, by, data.standardization)
        by.require_equal(data.standardization, experiment.dataset)
    return data


def _rescale(data: Dataset, by: Standardization, other: Standardization) -> Dataset:
    splits = {
        name: split.with_x(by.rescale(split.x, other))
        for name, split in {"train": data.train, "validation": data.validation, "test": data.test}.items()
    }
    return replace(data, **splits, standardization=by, inverse=by.undo)


def measure_conditions(experiment: Experiment) -> Experiment:
    """The experiment with the classes, or mean and scale, that its conditions have in its training data."""
    if not (experiment.condition or experiment.size_factor) or experiment.conditions:
        return experiment
    _, conditions = condition_on(_load_alone(experiment), experiment.condition, experiment.size_factor)
    return replace(experiment, conditions=[condition.to_dict() for condition in conditions])


def read_conditions(experiment: Experiment) -> tuple[Condition, ...]:
    """The conditions of a run, in their order; raises `ConfigError` for what is none."""
    return tuple(read_condition(values) for values in experiment.conditions or ())


def _load_alone(experiment: Experiment) -> Dataset:
    """The data without conditions."""
    if not has_known_data(experiment):
        raise ConfigError(
            f"this run was trained on '{experiment.dataset}', which only the script that made it has. Hand data over: "
            "--dataset NAME|PATH on the command line. In Python, hv.load(RUN, program=(model, guide)) opens it without data."
        )
    if is_path(experiment.dataset) and not os.path.exists(experiment.dataset):
        raise DataError(
            f"the data of this run are no longer at '{experiment.dataset}'. Put them back, or say where they are: --dataset."
        )
    data = _load_by_name(experiment.dataset, experiment.data_options)
    # An older version recorded the beginning of the identity.
    if experiment.data_identity and not data.identity.startswith(experiment.data_identity):
        raise DataError(
            f"the data at {experiment.dataset} are no longer those of this run: {data.identity} instead of "
            f"{experiment.data_identity}. Test data may have become training data; restore them, or train anew."
        )
    return data


def _load_by_name(name: str, options: Mapping[str, Any]) -> Dataset:
    """The data, or those of the last call where nothing has changed since: trial starts, training and evaluation share them."""
    source = find_source(name)
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    asked = name, repr(sorted(options.items()))
    if asked in _last and _last[asked][0] == source.state():
        return _last[asked][1]
    state = "" if source.identify else source.state()  # that of own data takes time, and is their identity
    with fixed_seed(0):  # for data sets of one's own that draw: the same data for every seed
        data = source.load(**options)
    _last.clear()
    _last[asked] = data.identity or state, data
    return data
