"""What is handed over to open a run, a program or data, compared with what the run recorded."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyro_hvae.data import DATASETS, find_source, is_path
from pyro_hvae.errors import ConfigError
from pyro_hvae.runs.experiment import Experiment
from pyro_hvae.runs.options import absolute_path, known_options, parameters, split_names, typed_options
from pyro_hvae.runs.program_record import find_other_program, find_other_settings
from pyro_hvae.runs.run_directory import RunDirectory
from pyro_hvae.runs.user_program import Program


def has_known_data(experiment: Experiment) -> bool:
    """Whether the data of an experiment can be read again: a data set by name or path, not those of a user's script."""
    return experiment.dataset in DATASETS or is_path(experiment.dataset)


def check_program(directory: RunDirectory, experiment: Experiment, spec: str, record: Mapping[str, Any], force: bool) -> None:
    """Compares FILE.py:FUNCTION with the `record` of a run, before any of it runs. An older run recorded no more than a name.

    Raises:
        ConfigError: where they differ, unless it is forced.
    """
    other = find_other_program(spec, experiment.program, record) if experiment.program else None
    _refuse_other_program(directory.path, other, force, "use --force")


def check_pair(directory: RunDirectory, pair: Program, record: Mapping[str, Any], force: bool) -> None:
    """Compares classes and settings of a pair with those that a run recorded, if it did; raises as `check_program`."""
    other = find_other_settings(*pair[:2], record)
    _refuse_other_program(directory.path, other, force, "force it (--force on the command line, force=True in Python)")


def _refuse_other_program(run: Path, difference: str | None, force: bool, how: str) -> None:
    """Raises `ConfigError` for a difference, unless it is forced."""
    if difference and not force:
        raise ConfigError(
            f"this is not the program of the run '{run}': {difference}. The weights would mean something else, and results "
            f"would replace the run's own. Hand over the program that it was trained with, or {how} if this one is meant."
        )


def require_program(
    directory: RunDirectory, experiment: Experiment, program: Program | str | None, known: bool | None = None
) -> None:
    """Raises `ConfigError` for a program that a run does not take, and where its program, or its data, have to be given.

    Arguments:
        known: whether its data, or a description of them, are at hand; None asks the experiment.
    """
    if experiment.recipe is not None:
        if program is not None:
            raise ConfigError(f"the run '{directory.path}' is of the recipe {experiment.recipe}. Leave the program out.")
        return
    known = has_known_data(experiment) if known is None else known
    if program is None or (isinstance(program, str) and not known):
        which, data = experiment.program or "the pair of a script", "" if known else ", on data that only the script has"
        raise ConfigError(
            f"the run '{directory.path}' is of a user's own program ({which}), which is never imported from the run{data}. "
            f"Hand over {'it' if known else 'both'}: --program FILE.py:FUNCTION{'' if known else ' --dataset NAME|PATH'} on "
            "the command line, hv.load(RUN, program=(model, guide)) in Python."
        )


def replace_data(
    directory: RunDirectory,
    experiment: Experiment,
    dataset: str,
    typed: Mapping[str, str],
    force: bool | None,
    exported: bool = False,
) -> Experiment:
    """The experiment on data that are handed over, with the run's own options where the same loader reads them.

    Arguments:
        typed: options of the data as typed, with `condition` and `size_factor` for a run that a script has trained, which does
            not know its own.
        force: take others; None where the caller cannot.
        exported: it is an exported model, of which results replace nothing: other data are no mistake. The same data with other
            options may have another split.

    Raises:
        ConfigError: for other data than the run recorded, unless it is forced; for a condition of a run that knows its own.
    """
    typed = dict(typed)
    condition, size_factor = split_names(typed.pop("condition", "")), typed.pop("size_factor", None)
    if size_factor and has_known_data(experiment):
        raise ConfigError(
            f"the run '{directory.path}' knows its own size factor ({experiment.size_factor or 'none'}), so size_factor= is no "
            "option of other data. Leave it out."
        )
    if condition and has_known_data(experiment):
        raise ConfigError(
            f"the run '{directory.path}' knows its own conditions ({', '.join(experiment.condition) or 'none'}), so "
            "condition= is no option of other data. Leave it out."
        )
    name = absolute_path(dataset) if is_path(dataset) else dataset
    source = find_source(name)
    before, known = known_options(experiment.data_options, source.load), has_known_data(experiment)
    alike = name == experiment.dataset or (is_path(name) and known and is_path(experiment.dataset))
    defaults = {key: parameter.default for key, parameter in parameters(source.load).items()}
    options = defaults | (before if alike else {}) | typed_options(typed, source.load, f"data set {dataset}")
    identity = source.identify() if source.identify else None
    same = name == experiment.dataset
    if experiment.data_identity and identity:  # an older version recorded the beginning of the identity
        same = identity.startswith(experiment.data_identity)
    if known and not force and (same or not exported) and not (same and options == defaults | before):
        mine = defaults | before
        differ = [key for key in options | mine if options.get(key) != mine.get(key)]
        own, others = ({key: held[key] for key in differ if key in held} for held in (mine, options))
        which = f"the run '{directory.path}' is of {experiment.dataset}{_list_options(own)}, not of {dataset}"
        if force is None:
            raise ConfigError(f"{which}{_list_options(others)}. Name the data that it was trained on, which may have moved.")
        raise ConfigError(
            f"{which}{_list_options(others)}: its test data may have been training data, and results would replace the run's "
            f"own. Leave {'--data-option' if exported else '--dataset'} out, or use --force."
        )
    beside: dict[str, Any] = {"condition": condition or experiment.condition}
    beside["size_factor"] = size_factor or experiment.size_factor
    return replace(experiment, dataset=name, data_options=options, data_identity=identity, **beside)


def _list_options(options: Mapping[str, Any]) -> str:
    return f" ({', '.join(f'{key}={value}' for key, value in options.items())})" if options else ""
