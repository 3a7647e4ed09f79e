"""What runs are called in tables: by data and method, with whatever tells unequal ones apart."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyro_hvae.data import is_path
from pyro_hvae.runs.experiment import Experiment

__all__ = ["data_labels", "method_labels"]

# Of the training settings, those that decide what is learned.
DECISIVE = ("steps", "batch_size", "lr", "lr_decay", "grad_clip", "starts", "engine")


def data_labels(experiments: Sequence[Experiment]) -> list[str]:
    """The data sets' names, with the options that differ between runs on the same; one's own data by the end of their path."""
    names = [Path(e.dataset).name if is_path(e.dataset) else e.dataset for e in experiments]
    settings = [{**_plain(e, "data_options"), "path": e.dataset, "identity": e.data_identity} for e in experiments]
    return _told_apart(names, settings, names)


def method_labels(experiments: Sequence[Experiment], data: Sequence[str], steps: Sequence[int | None]) -> list[str]:
    """Recipe and schedule, with the options and settings that differ between runs of the same on the same data.

    What differs between data sets is not told: there, presets are expected to.

    Arguments:
        data: their labels. steps: how far runs are that stopped early, which makes them no equals of those that did not; None
            for these, and where it is meant to differ.
    """
    names = [_method(e) for e in experiments]
    settings = []
    for e, step in zip(experiments, steps, strict=True):
        options = _plain(e, "recipe_options") | _plain(e, "schedule_options")
        options |= {key: getattr(e.train, key) for key in DECISIVE}
        options |= {"program": e.program, "stopped_at": step}
        settings.append(options)
    return _told_apart(names, settings, list(zip(data, names, strict=True)))


def _method(e: Experiment) -> str:
    """Recipe and schedule; a warm-up says over how much of the run."""
    name = f"{e.recipe or 'program'} + {e.schedule}"
    if e.schedule == "warmup" and (length := e.schedule_options.get("warmup")) is not None:
        name += f" ({length:.0%} of the run)" if length < 1 else f" ({length:.0f} steps)"
    if e.schedule == "constant" and (beta := e.schedule_options.get("beta")) is not None:
        name += f" (beta = {beta:g})"
    return name


def _plain(e: Experiment, table: str) -> dict[str, Any]:
    """Options with lists for tuples, which is what files have."""
    return e.to_dict()[table]


def _told_apart(names: Sequence[str], settings: Sequence[Mapping[str, Any]], keys: Sequence[Hashable]) -> list[str]:
    """Names to which is added what differs between those of the same key; None is what is not said.

    >>> _told_apart(["a", "a", "b"], [{"n": 1, "m": [2, 3]}, {"n": 2, "m": [2, 3]}, {"n": 3}], ["a", "a", "b"])
    ['a, n=1', 'a, n=2', 'b']
    """
    labels = []
    for name, mine, key in zip(names, settings, keys, strict=True):
        equals = [other for other, at in zip(settings, keys, strict=True) if at == key]
        differing = {k: v for k, v in mine.items() if v is not None and any(other.get(k) != v for other in equals)}
        labels.append(", ".join([name, *(f"{k}={_text(v)}" for k, v in differing.items())]))
    return labels


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
