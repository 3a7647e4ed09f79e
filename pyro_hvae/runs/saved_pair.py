"""What a trained pair is restored from: the checkpoint of a run, or an exported model."""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from pyro_hvae.data import DATASETS, Description, is_path
from pyro_hvae.errors import CheckpointError, ConfigError, HVAEError, require_known
from pyro_hvae.recipes import RECIPES
from pyro_hvae.runs.checkpoint_content import read_checkpoint
from pyro_hvae.runs.experiment import Experiment
from pyro_hvae.runs.export_format import EXPORT_CONFIG, EXPORT_WEIGHTS, read_export_config, results_of_export
from pyro_hvae.runs.fixed_settings import require_same_settings
from pyro_hvae.runs.handed_over import has_known_data
from pyro_hvae.runs.options import check_recipe_options, known_options
from pyro_hvae.runs.run_data import read_conditions
from pyro_hvae.runs.run_directory import CHECKPOINTS, RunDirectory
from pyro_hvae.runtime import read_blocks
from pyro_hvae.schedules import SCHEDULES

_NAME = re.compile(r"stages\.(\d{1,4})\.(model|guide)\.(.+)", re.DOTALL)


@dataclass(frozen=True)
class SavedPair:
    """Weights with what they are of.

    Attributes:
        directory: of the run or export. file: of the weights, for errors.
        programs: for each stage "model" and "guide" with their states. stage: the last one that was trained, by number.
        record: of a user's own program (see `record_program`).
        exported: whether it is an export, whose data are `described` where they were known.
    """

    directory: RunDirectory
    file: Path
    programs: list[dict[str, Any]]
    step: int
    stage: int
    experiment: Experiment
    record: Mapping[str, Any]
    exported: bool = False
    described: Description | None = None


def tensor_name(stage: int, program: str, key: str) -> str:
    """The name in an export of a tensor of a stage's model or guide."""
    return f"stages.{stage}.{program}.{key}"


def read_run(path: Path, experiment: Experiment, written: Experiment, checkpoint: str) -> SavedPair:
    """The weights of a run, whose configuration was read with today's options and as it was `written`."""
    directory = RunDirectory(path)
    saved = read_checkpoint(file := directory.require_checkpoint(checkpoint))
    require_same_settings(saved, written, path)
    record = directory.read_json("program.json")
    return SavedPair(directory, file, saved["programs"], saved["step"], saved["stage"], experiment, record)


def read_export(path: Path, checkpoint: str = "last") -> SavedPair:
    """An exported model, from its files alone, of which nothing is run.

    Arguments:
        checkpoint: the one that it is of; "last" also stands for whichever it holds.

    Raises:
        CheckpointError: for a folder that is no export, or one that is damaged, was edited, or does not fit together.
        ConfigError: for another checkpoint.
    """
    values, file = read_export_config(path), path / EXPORT_WEIGHTS
    require_known("checkpoint", checkpoint, CHECKPOINTS)
    if checkpoint not in ("last", values["checkpoint"]):
        raise ConfigError(
            f"the export '{path}' holds one checkpoint, '{values['checkpoint']}', not '{checkpoint}'. Leave --checkpoint out."
        )
    programs = _read_programs(file, values)
    try:
        experiment = _read_experiment(values["experiment"])
        described = Description.from_dict(values["data"]) if values["data"] else None
        conditions = read_conditions(experiment)
        given = {condition.key: condition.width for condition in conditions}
        if (
            described
            and (experiment.recipe or given)
            and (
                given != described.given
                or experiment.standardization != described.standardization
                or any(len(getattr(c, "means", ())) not in (0, math.prod(described.shape)) for c in conditions)
            )
        ):
            raise ConfigError("its conditions or its scaling are not those of its data.")
        if not described and (experiment.recipe or has_known_data(experiment)):
            raise ConfigError("it does not describe its data.")
    except ConfigError as error:
        raise CheckpointError(f"'{path / EXPORT_CONFIG}' cannot be used: {error}") from error
    directory = RunDirectory(path, results_of_export(path))
    step, stage = values["step"], len(programs) - 1
    return SavedPair(directory, file, programs, step, stage, experiment, values["program"] or {}, True, described)


def _read_experiment(values: Mapping[str, Any]) -> Experiment:
    experiment = Experiment.from_dict(values)
    name = experiment.dataset.rstrip("/")
    if ".." in name or "/" in name or "\\" in name:
        raise ConfigError(f"its data are called '{experiment.dataset}', which is a path, not a name.")
    schedule = SCHEDULES.get(experiment.schedule)
    if experiment.recipe:
        require_known("recipe", experiment.recipe, RECIPES)
        require_known("schedule", experiment.schedule, SCHEDULES)
    options = known_options(experiment.recipe_options, RECIPES[experiment.recipe].build) if experiment.recipe else {}
    check_recipe_options(options)
    return replace(
        experiment,
        recipe_options=options,
        schedule_options=known_options(experiment.schedule_options, schedule) if schedule else {},
    )


def _read_programs(file: Path, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The states of all stages; raises `CheckpointError` for a file of weights that is not the one of the configuration."""
    again = "It was not loaded. Get the folder again, or export the run again."
    if not file.is_file():
        raise CheckpointError(f"'{file.parent}' is no whole export: it has no {file.name}. {again}")
    digest, known = hashlib.sha256(), values["weights"]
    try:
        if (size := file.stat().st_size) != known["bytes"]:
            raise CheckpointError(f"'{file}' is damaged: it has {size:,} bytes, not {known['bytes']:,}. {again}")
        with open(file, "rb") as stream:
            for block in read_blocks(stream, size):
                digest.update(block)
        if digest.hexdigest() != known["sha256"]:
            raise CheckpointError(f"'{file}' is damaged, or was edited: its checksum does not hold. {again}")
        tensors = load_file(file)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, HVAEError):
            raise
        raise CheckpointError(f"'{file}' cannot be read: {error}. {again}") from error
    programs = [{"model": {}, "guide": {}} for _ in range(min(values["stages"], len(tensors) + len(values["aliases"])))]
    for name, stored in {**{name: name for name in tensors}, **values["aliases"]}.items():
        found = _NAME.fullmatch(name)
        if not found or int(found[1]) >= len(programs) or stored not in tensors or (name != stored and name in tensors):
            raise CheckpointError(f"'{file}' does not fit its {EXPORT_CONFIG}: '{name}' is no name of a weight. {again}")
        programs[int(found[1])][found[2]][found[3]] = tensors[stored]
    if not programs:
        raise CheckpointError(f"'{file}' does not fit its {EXPORT_CONFIG}: it has no weights. {again}")
    return programs


def data_label(name: str) -> str:
    """What an export calls data: their name, or of a path its last part, which says nothing of the machine.

    >>> data_label("digits"), data_label("/home/me/patients.csv"), data_label("/home/me/photos")
    ('digits', 'patients.csv', 'photos/')
    """
    if name in DATASETS or not is_path(name):
        return name
    last = re.split(r"[/\\]", name.rstrip("/\\"))[-1].replace("..", ".")
    return last if is_path(last) else f"{last}/"
