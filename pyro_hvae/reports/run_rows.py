"""Single data of a run, or of a user's file, with what stands beside them: part and row, identifiers, classes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from pyro_hvae.data import Batch, Dataset, Rows, Split, join_columns, list_splits, read_batch, read_beside
from pyro_hvae.errors import ConfigError, DataError, require_known
from pyro_hvae.runs import OpenRun

PARTS = ("training", "validation", "test", "all")

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class RowSet:
    """Data in an order, with a value of each beside them: columns (n,) by name."""

    x: Tensor | Batch | Rows
    beside: Mapping[str, np.ndarray]


def select_rows(run: OpenRun, source: Path | None, part: str | None, default: str) -> tuple[list[RowSet], str]:
    """Data of the run by part, or all data of a file in its order, and in words what they are.

    `row` counts the rows of the file from 0, or the images of a folder; of a user's own data that come in parts, those of the
    part, and of a named data set the data of the part. Beside the data is all that a file holds of each row besides x, or the
    name of an image; beside the run's own data also their factors, with classes by name.

    Arguments:
        source: a file as `read_batch` takes it; None for the run's own data.
        part: of the run's own data, one of `PARTS`; None for the default.

    Raises:
        ConfigError: for an unknown part, or a part of a file. DataError: as `read_batch`.
    """
    if source is None:
        require_known("part", part := part or default, PARTS)
        chosen = {name: split for name, split in list_splits(run.dataset).items() if part in (name, "all")}
        sets = [RowSet(split.x.draw_once(), _describe_split(run.dataset, name, split)) for name, split in chosen.items()]
        what = "data, all parts," if part == "all" else f"{part} data"
        return sets, f"{sum(len(rows.x) for rows in sets):,} {what} of {run.dataset.name}"
    if part is not None:
        raise ConfigError(f"--part {part} is of the run's own data, but {source} is read as a whole. Leave one of them out.")
    data, key = run.dataset, str(run.experiment.data_options.get("key") or run.experiment.data_options.get("layer") or "")
    x = read_batch(source, data, run.conditions, key)
    beside = read_beside(source, data.columns, key)
    if wrong := next((name for name, values in beside.items() if len(values) != len(x)), None):
        raise DataError(f"{source} has {len(x)} data, but {len(beside[wrong])} values of '{wrong}'. Leave it out.")
    return [RowSet(x, _put_behind({"row": np.arange(len(x))}, beside))], f"{len(x):,} data of {source.name}"


def _describe_split(data: Dataset, name: str, split: Split) -> Arrays:
    factors = {}
    for factor, values in split.factors.items():
        names = data.labels.get(factor)
        factors[factor] = np.array(names, dtype=str)[values.numpy()] if names else values.numpy()
    row = np.arange(len(split)) if split.places is None else split.places.numpy()
    held = {key: values[row] for key, values in data.beside(name).items()} if data.beside else {}
    return _put_behind({"part": np.full(len(split), name), "row": row}, {**held, **factors})


def _put_behind(own: Arrays, others: Arrays) -> Arrays:
    return own | join_columns(own, others)


def join_sets(sets: Sequence[RowSet], compute: Callable[[RowSet], Mapping[str, np.ndarray]]) -> Arrays:
    """What is computed of each set, set after set, with what stands beside; a factor that one of them lacks is left empty."""
    found = [join_columns(compute(rows), rows.beside) for rows in sets]
    names = dict.fromkeys(name for arrays in found for name in arrays)
    return {name: np.concatenate([_or_empty(arrays, name, found) for arrays in found]) for name in names}


def _or_empty(arrays: Arrays, name: str, found: Sequence[Arrays]) -> np.ndarray:
    if name in arrays:
        return arrays[name]
    like = next(other[name] for other in found if name in other)
    return np.full(len(next(iter(arrays.values()))), "" if like.dtype.kind == "U" else np.nan)


def protect_data(run: OpenRun, out: Path, source: Path | None = None) -> None:
    """Raises `ConfigError` for a file to be written that holds the run's data, or is the one that is read."""
    if out.resolve() == Path(run.experiment.dataset).resolve():
        raise ConfigError(f"{out} holds the data of the run, which could not be opened without them. Choose another name.")
    if source is not None and out.resolve() == source.resolve():
        raise ConfigError(f"{out} is the file that is read. Choose another name for the one that is written.")
