"""Data that a user hands over in Python, as programs that learned other data read them: an array, a DataFrame or a path."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.data.array_values import refuse_bits, to_floats, to_tensor
from pyro_hvae.data.batch import Batch
from pyro_hvae.data.conditions import Condition
from pyro_hvae.data.dataset import Dataset
from pyro_hvae.data.files.table_files import Table, TableColumn, texts_column
from pyro_hvae.data.sets.array_layouts import arrange_axes
from pyro_hvae.data.sets.user_incomplete import as_learned, read_batch, read_table_given
from pyro_hvae.data.sets.user_tables import read_numbers
from pyro_hvae.data.size_factors import is_read
from pyro_hvae.errors import ConfigError, DataError, require_known

FRAME = Path("the DataFrame")  # its name in messages


def read_handed(
    data: Any, learned: Dataset, conditions: Sequence[Condition] = (), given: Mapping[str, Any] | None = None, key: str = ""
) -> Tensor | Batch:
    """All rows of an array, a DataFrame of pandas or a file, as `read_batch` has those of a file.

    Arguments:
        learned: what was learned, with the names of x's columns. conditions: of the programs.
        given: beside an array the values of each condition by its name: classes by name or number, or numbers, one a row.
        key: for a file with several arrays: the array that holds the data.

    Raises:
        ConfigError: for a condition that is unknown, lacking, or given beside a file or a DataFrame, which have it themselves.
        DataError: for data of another shape, that are no numbers, or without one of the columns.
    """
    named = isinstance(data, str | os.PathLike) or _is_frame(data)
    if named and given:
        raise ConfigError(
            f"given={', '.join(given)} is for arrays: a file or a DataFrame has conditions as columns. Leave it out."
        )
    if isinstance(data, str | os.PathLike):
        return read_batch(Path(os.path.expanduser(data)), learned, conditions, key)
    if named:
        return _of_frame(data, learned, conditions)
    array = to_tensor(data).cpu()
    if array.dim() and not len(array):
        raise DataError(f"x has the shape {tuple(array.shape)}, which are no data. Give at least one row.")
    if tuple(array.shape[1:]) != learned.shape and array.dim() > 1:
        array = torch.from_numpy(np.ascontiguousarray(arrange_axes(array.numpy())))
    if tuple(array.shape[1:]) != learned.shape:
        one = " Give one datum as a row of an array: x[None]." if tuple(array.shape) == learned.shape else ""
        raise DataError(f"x has the shape {tuple(array.shape)}, but the model learned arrays (n, {_list(learned)}).{one}")
    if learned.train.x.grey:
        refuse_bits("x", array.numpy().dtype, array.numpy())
    x = to_floats(array, torch.float64)
    if bool(x.isinf().any()):
        raise DataError("x holds infinity. Give finite numbers, and NaN where a value is missing.")
    return as_learned(x, learned, conditions, _encode(dict(given or {}), conditions, len(x)))


def _is_frame(data: Any) -> bool:
    return hasattr(data, "iloc") and hasattr(data, "columns")  # without importing pandas


def _list(learned: Dataset) -> str:
    return ", ".join(map(str, learned.shape))


def _of_frame(frame: Any, learned: Dataset, conditions: Sequence[Condition]) -> Tensor | Batch:
    if not learned.columns:
        raise DataError(
            f"the model learned arrays (n, {_list(learned)}), whose columns have no names. Give an array: frame.to_numpy()."
        )
    if not len(frame):
        raise DataError(f"{FRAME} has no rows. Give at least one row.")
    columns = [_read_column(str(name), frame.iloc[:, place]) for place, name in enumerate(frame.columns)]
    names = [column.name for column in columns]
    if twice := next((name for name in (*learned.columns, *(c.name for c in conditions)) if names.count(name) > 1), None):
        raise DataError(f"{FRAME} has two columns '{twice}'. Rename one.")
    table = Table(columns, range(1, 1 + len(frame)))
    x = torch.from_numpy(read_numbers(FRAME, table, learned.columns))
    return as_learned(x, learned, conditions, read_table_given(FRAME, table, conditions))


def _read_column(name: str, values: Any) -> TableColumn:
    if values.dtype.kind in "biuf":
        return TableColumn(name, np.array(values.to_numpy(dtype=np.float64, na_value=np.nan)))
    cells = (None if gone else value for value, gone in zip(values, values.isna(), strict=True))
    return texts_column(name, cells, hasattr(values.dtype, "categories"))


def _encode(given: Mapping[str, Any], conditions: Sequence[Condition], count: int) -> dict[str, Tensor]:
    """The values of each condition beside an array, encoded."""
    known = {condition.name: condition for condition in conditions if is_read(condition)}
    for name in given:
        require_known("condition of the model", name, known)
    if lacking := [name for name in known if name not in given]:
        raise ConfigError(
            f"the model is given {', '.join(lacking)} beside x. Hand its values over: given={{'{lacking[0]}': values}}."
        )
    encoded = {}
    for name, values in given.items():
        condition, flat = known[name], np.ravel(np.asarray(values))
        if len(flat) != count:
            raise ConfigError(f"given '{name}' has {len(flat):,} values, but x has {count:,} rows. Give one for each row.")
        if condition.classes:
            texts, places = np.unique(flat.astype(str), return_inverse=True)
            encoded[condition.key] = torch.stack([condition.parse(str(text)) for text in texts])[torch.from_numpy(places)]
        else:
            numbers = to_tensor(flat, name).double()
            if not bool(numbers.isfinite().all()):
                raise DataError(f"given '{name}' has values that are missing or infinite. Give a finite number for each row.")
            encoded[condition.key] = condition.encode(numbers)
    return encoded
