"""Compares what the processes of a training have been given, before it begins."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pyro_hvae.data import Batch, Rows
from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.recipes import Stage
from pyro_hvae.runs import Experiment, package_versions
from pyro_hvae.runtime import gather, process_count

ROWS = 256  # of a data set that are compared


def require_equal_starts(
    experiment: Experiment, stages: list[Stage], x: Tensor | Batch | Rows, validation: Tensor | Batch | Rows | None
) -> None:
    """Raises an error in all processes where one of them has other data, settings, weights or versions than the first.

    Weights are compared by name and shape; data by their number, shape and 256 of them, evenly spaced.

    Raises:
        DataError: for other data. ConfigError: for anything else.
    """
    if process_count() == 1:
        return
    settings = dict[str, Any]()
    for key, value in experiment.to_dict().items():
        settings |= {f"{key}.{name}": each for name, each in value.items()} if isinstance(value, dict) else {key: value}
    settings.pop("train.device", None)
    pairs = [{name: list(value.shape) for name, value in _tensors(stage).items()} for stage in stages]
    require_equal(
        {
            "versions": package_versions(),
            "settings": json.loads(json.dumps(settings, default=str)),
            "weights": hashlib.sha256(json.dumps(pairs).encode()).hexdigest(),
            "training data": hash_rows(x),
            "validation data": None if validation is None else hash_rows(validation),
        }
    )


def require_equal(values: Mapping[str, Any]) -> None:
    """Raises an error in all processes where a value is another than the first one's."""
    found = gather(values)
    for rank, other in enumerate(found):
        for what, value in found[0].items():
            if other[what] != value:
                error = DataError if "data" in what else ConfigError
                raise error(
                    f"process {rank} of {len(found)} has other {what} than process 0{_describe(value, other[what])}. All "
                    "processes of a training need the same files and the same installation."
                )


def _tensors(stage: Stage) -> dict[str, Tensor]:
    state = stage.objective.state_dict()
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _describe(first: Any, other: Any) -> str:
    """What differs, where that is short."""
    if isinstance(first, Mapping) and isinstance(other, Mapping):
        differ = [key for key in first if other.get(key) != first[key]]
        return f" ({differ[0]}: {other.get(differ[0])}, not {first[differ[0]]})" if differ else ""
    return f" (step {other}, not {first})" if isinstance(first, int) else ""


def hash_rows(x: Tensor | Batch | Rows) -> str:
    """A checksum of the number and shape of data, and of some of them, evenly spaced, with what is given beside them."""
    rows = Rows.of(x)
    index = torch.linspace(0, len(rows) - 1, min(ROWS, len(rows))).round().long()
    total = hashlib.sha256(repr((tuple(rows.shape), sorted(rows.given))).encode())
    for values in (rows.raw(index), *(value for _, value in sorted(rows.given_at(index).items()))):
        total.update(str(values.dtype).encode() + values.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
