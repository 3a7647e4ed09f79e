"""The settings that a run keeps from its beginning, which its checkpoints know."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyro_hvae.data import is_path
from pyro_hvae.errors import CheckpointError
from pyro_hvae.runs.experiment import Experiment

# The training settings that a resumed run may change: its length, device and cadence.
RESUMABLE = {"steps", "device", "threads", "compile", "log_every", "eval_every", "save_every"}
RESUMABLE |= {"information_every", "information_points", "patience"}
WHOLE = ("recipe", "schedule", "data_identity", "dataset", "condition", "size_factor", "conditions")  # compared as they are


def require_same_settings(saved: Mapping[str, Any], experiment: Experiment, run: Path, whole: bool = True) -> None:
    """Compares an experiment with the one that a checkpoint is of; an older checkpoint does not know it.

    Arguments:
        whole: neither may have a setting that the other does not have.

    Raises:
        CheckpointError: for the first setting that is another.
    """
    if "config" not in saved:
        return
    try:
        earlier = Experiment.from_dict(saved["config"])
    except ValueError as error:
        raise CheckpointError(f"the last checkpoint of '{run}' does not know what it is of: {error}") from error
    if other := find_difference(earlier, experiment, whole):
        was, is_now = other
        raise CheckpointError(
            f"the run '{run}' was trained with {was}, and its configuration is of {is_now} now. "
            "Put that back (in the run's config.toml), or start a new run."
        )


def find_difference(earlier: Experiment, experiment: Experiment, whole: bool = True) -> tuple[str, str] | None:
    """The first setting that no resumed run may change and that two experiments differ in, of the one and of the other.

    Arguments:
        whole: neither may have a setting that the other does not have.
    """
    before, now = _fixed_settings(earlier), _fixed_settings(experiment)
    if all(is_path(each.dataset) and each.data_identity for each in (earlier, experiment)):
        del before["dataset"], now["dataset"]  # data of a path, which may have moved, are known by their identity
    keys = before.keys() | now.keys() if whole else before.keys() & now.keys()
    changed = sorted(key for key in keys if before.get(key) != now.get(key))
    return (_describe(changed[0], before), _describe(changed[0], now)) if changed else None


def describe_edits(saved: Mapping[str, Any], experiment: Experiment) -> str | None:
    """The settings that may change, and differ from those that a checkpoint was made with, in words; None where none does."""
    before, now = saved.get("config", {}).get("train", {}), experiment.to_dict()["train"]
    changed = [key for key in now if key in RESUMABLE and key in before and before[key] != now[key]]
    return ", ".join(f"{key} = {now[key]!r} instead of {before[key]!r}" for key in changed) or None


def _fixed_settings(experiment: Experiment) -> dict[str, Any]:
    """The settings that no resumed run may change, by their names."""
    values = experiment.to_dict()
    tables = {name: values.pop(name) for name in ("train", "recipe_options", "schedule_options", "data_options")}
    fixed = {f"{name}.{key}": value for name, table in tables.items() for key, value in table.items()}
    fixed = {key: value for key, value in fixed.items() if key.removeprefix("train.") not in RESUMABLE}
    return fixed | {key: values[key] for key in WHOLE if key in values}


def _describe(key: str, values: Mapping[str, Any]) -> str:
    return f"{key.removeprefix('train.')} = {values[key]!r}" if key in values else f"no {key}"
