"""Reads arrays that share their rows from the files that `write_rows` writes, and from others of the same form."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pyro_hvae.data.files.annotated_files import read_annotations
from pyro_hvae.data.files.array_files import ARRAY_READERS, StoredArray
from pyro_hvae.data.files.data_file import convert_errors
from pyro_hvae.data.files.file_kind import find_kind, require_kind
from pyro_hvae.data.files.row_writers import unfolded_names
from pyro_hvae.data.files.table_files import TABLE_READERS, Table, TableColumn
from pyro_hvae.errors import DataError


@dataclass(frozen=True)
class RowFile:
    """The arrays of a file by name; nothing of a .npz is read before it is asked for."""

    path: Path
    arrays: dict[str, StoredArray]

    def read(self, name: str, event: Sequence[int] = ()) -> np.ndarray | None:
        """An array whose rows have a shape, (n, *event), or its columns (see `unfold_columns`) joined; None if there are none.

        Raises:
            DataError: for another shape, where some of the columns are missing or differ in length, and for pickled objects.
        """
        event, places = tuple(event), unfolded_names(name, event)
        if (held := self.arrays.get(name)) and (event or len(held.shape) == 1):
            if held.shape[1:] != event:
                raise DataError(f"'{name}' of {self.path} has rows of shape {held.shape[1:]}, but {event} is needed.")
            return self._load(held)
        found = [place for place in places if place in self.arrays]
        if not found or not event:
            return None
        if lacking := next((place for place in places if place not in found), None):
            raise DataError(f"{self.path} has the columns {', '.join(found)}, but no '{lacking}'. Add it.")
        columns = [self._load(self.arrays[place]) for place in places]
        if any(column.shape != columns[0].shape or column.ndim != 1 for column in columns):
            raise DataError(f"the columns {', '.join(places)} of {self.path} differ in length.")
        return np.stack(columns, 1).reshape(-1, *event)

    def read_numbers(self, name: str, event: Sequence[int] = ()) -> np.ndarray | None:
        """As `read`, of finite numbers; raises `DataError` for others, too."""
        values = self.read(name, event)
        if values is None:
            return None
        if values.dtype.kind not in "biuf":
            raise DataError(f"'{name}' of {self.path} holds texts, but numbers are needed.")
        finite = np.isfinite(values).all(tuple(range(1, values.ndim)))
        if not finite.all():
            raise DataError(
                f"'{name}' of {self.path} is NaN, infinite or empty in {(~finite).sum():,} of {len(values):,} rows, first in "
                f"row {finite.argmin()} (from 0). Leave these rows out."
            )
        return values

    def columns(self, without: Collection[str] = ()) -> dict[str, np.ndarray]:
        """The arrays (n,) of numbers or texts by name, but for some."""
        return {
            name: held.read()
            for name, held in self.arrays.items()
            if name not in without and len(held.shape) == 1 and held.dtype.kind in "biufU"
        }

    def _load(self, held: StoredArray) -> np.ndarray:
        if held.dtype.hasobject:
            raise DataError(f"'{held.name}' of {self.path} holds pickled objects, which are not opened. Save it as numbers.")
        return held.read()


def read_rows(path: Path) -> RowFile:
    """The arrays of a .npz file, the columns of a table, or `obs` and `obsm` of an .h5ad, whose names are `obs_names`.

    Raises:
        ConfigError: for another kind of file. DeviceError: without the extra "tables", for .parquet and .h5ad.
        DataError: when the file is not there or cannot be read.
    """
    kind = require_kind(path, ROW_READERS)
    if not path.is_file():
        raise DataError(f"there is no file '{path}'. Check the path.")
    with convert_errors(f"cannot read {path}", "It is damaged, incomplete or of another kind."):
        return RowFile(path, ROW_READERS[kind](path))


def column_values(column: TableColumn) -> np.ndarray:
    """The numbers of a column, whole ones as int64, or its texts."""
    if column.texts is not None:
        return np.array(column.texts, dtype=str)[column.values]
    values = column.values
    whole = np.isfinite(values).all() and (values == np.rint(values)).all() and (np.abs(values) < 2**53).all()
    return values.astype(np.int64) if whole else values


def _store(name: str, values: np.ndarray) -> StoredArray:
    return StoredArray(name, values.shape, values.dtype, lambda: values)


def _read_table(path: Path) -> dict[str, StoredArray]:
    return _store_columns(TABLE_READERS[find_kind(path)](path))


def _store_columns(table: Table) -> dict[str, StoredArray]:
    return {column.name: _store(column.name, column_values(column)) for column in table.columns if not column.obstacle}


def _read_annotated(path: Path) -> dict[str, StoredArray]:
    held = read_annotations(path)
    arrays = {name: _store(name, values) for name, values in held.arrays.items()}
    return {"obs_names": _store("obs_names", np.array(held.names, dtype=str)), **_store_columns(held.rows), **arrays}


ROW_READERS: dict[str, Callable[[Path], dict[str, StoredArray]]] = {
    ".npz": ARRAY_READERS[".npz"],
    **dict.fromkeys(TABLE_READERS, _read_table),
    ".h5ad": _read_annotated,
}
