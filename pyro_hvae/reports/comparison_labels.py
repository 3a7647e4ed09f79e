"""Labels of runs in tables: data and method, with the settings in which runs of the same name differ."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyro_hvae.data import is_path
from pyro_hvae.runs import Experiment

# The training settings that change what is learned.
DECISIVE = ("steps", "batch_size", "lr", "lr_decay", "grad_clip", "starts", "engine")


def data_labels(experiments: Sequence[Experiment]) -> list[str]:
    """Names of the data sets, with the options that differ between runs on the same set. A path is named by its last part."""
    names = [Path(e.dataset).name if is_path(e.dataset) else e.dataset for e in experiments]
    settings = [{**_file_options(e, "data_options"), "path": e.dataset, "identity": e.data_identity} for e in experiments]
    return _add_differences(names, settings, names)


def method_labels(experiments: Sequence[Experiment], data: Sequence[str], steps: Sequence[int | None]) -> list[str]:
    """Recipe and schedule, with the options and settings that differ between runs of the same on the same data.

    Differences between runs on different data sets are left out: presets differ there on purpose.

    Arguments:
        data: labels of the data. steps: the last step of each run that stopped early, which makes it another method than a
            finished one; None for finished runs, and where the steps differ on purpose.
    """
    names = [_method_name(e) for e in experiments]
    settings = []
    for e, step in zip(experiments, steps, strict=True):
        options = _file_options(e, "recipe_options") | _file_options(e, "schedule_options")
        options |= {key: getattr(e.train, key) for key in DECISIVE}
        options |= {"program": e.program, "stopped_at": step}
        settings.append(options)
    return _add_differences(names, settings, list(zip(data, names, strict=True)))


def _method_name(e: Experiment) -> str:
    """Recipe and schedule, with the length of a warm-up or the weight beta."""
    name = f"{e.recipe or 'program'} + {e.schedule}"
    if e.schedule == "warmup" and (length := e.schedule_options.get("warmup")) is not None:
        name += f" ({length:.0%} of the run)" if length < 1 else f" ({length:.0f} steps)"
    if e.schedule == "constant" and (beta := e.schedule_options.get("beta")) is not None:
        name += f" (beta = {beta:g})"
    return name


def _file_options(e: Experiment, table: str) -> dict[str, Any]:
    """A table of options with lists instead of tuples, as in files."""
    return e.to_dict()[table]


def _add_differences(names: Sequence[str], settings: Sequence[Mapping[str, Any]], keys: Sequence[Hashable]) -> list[str]:
    """Adds to each name the settings that differ between the names of the same key. None means not set.

    >>> _add_differences(["a", "a", "b"], [{"n": 1, "m": [2, 3]}, {"n": 2, "m": [2, 3]}, {"n": 3}], ["a", "a", "b"])
    ['a, n=1', 'a, n=2', 'b']
    """
    labels = []
    for name, mine, key in zip(names, settings, keys, strict=True):
        equals = [other for other, at in zip(settings, keys, strict=True) if at == key]
        differing = {k: v for k, v in mine.items() if v is not None and any(other.get(k) != v for other in equals)}
        labels.append(", ".join([name, *(f"{k}={_value_text(v)}" for k, v in differing.items())]))
    return labels


def _value_text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
