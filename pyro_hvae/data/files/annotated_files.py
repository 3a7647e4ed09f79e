"""The matrix of an AnnData file (.h5ad) with the annotations of its rows and the names of its columns, read by anndata."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyro_hvae.data.files.array_types import to_torch_type
from pyro_hvae.data.files.data_file import convert_errors
from pyro_hvae.data.files.declared_sizes import check_declared_size, require_memory
from pyro_hvae.data.files.table_files import Table, TableColumn
from pyro_hvae.errors import DataError, missing_extra, unknown_name

DEPTH = 3  # groups below each other: a column of obs has categories


@dataclass(frozen=True)
class Annotations:
    """The table of n rows (obs), their names, and arrays of several numbers for each (obsm)."""

    rows: Table
    names: tuple[str, ...]
    arrays: dict[str, np.ndarray]


@dataclass(frozen=True)
class AnnotatedMatrix:
    """A matrix x (n, d), an array or a sparse matrix by rows; the table of its n rows, and the names of its d columns."""

    x: Any
    rows: Table
    columns: tuple[str, ...]


def read_annotated_matrix(path: Path, layer: str = "") -> AnnotatedMatrix:
    """X or a layer of an AnnData file, its obs as a table, and its var names. A sparse matrix stays sparse.

    Links in the file are not followed, and its sizes are compared with what it holds and with the free memory first.

    Raises:
        DeviceError: without the extra "tables".
        ConfigError: for an unknown layer.
        DataError: when the file cannot be read, or has no such matrix of real numbers.
    """
    with _open_file(path) as file:
        layers: Any = file.get("layers", {})
        if layer and layer not in layers:
            raise unknown_name("layer", layer, layers)
        if not layer and "X" not in file:
            raise DataError(f"{path} has no X. Choose a layer by layer=, of {', '.join(layers) or 'which it has none'}.")
        x = _read_member(path, file, *(("layers", layer) if layer else ("X",)))
        rows, variables = _read_frame(path, file, "obs"), _read_frame(path, file, "var")
        x = _to_matrix(path, x)
        if x.shape != (len(rows), len(variables)) or 0 in x.shape:
            raise ValueError(f"its matrix has shape {x.shape}, for {len(rows)} rows and {len(variables)} columns")
        return AnnotatedMatrix(x, _to_table(rows), tuple(map(str, variables.index)))


def read_annotations(path: Path) -> Annotations:
    """What an AnnData file says about its rows; sparse matrices and tables among the arrays are left out. Errors as above."""
    with _open_file(path) as file:
        rows = _read_frame(path, file, "obs")
        names = _open_member(path, file, "obsm") if "obsm" in file else ()
        arrays = {name: _read_member(path, file, "obsm", name) for name in map(str, names)}
        kept = {name: to_torch_type(values) for name, values in arrays.items() if isinstance(values, np.ndarray)}
        if wrong := next((name for name, values in kept.items() if len(values) != len(rows)), None):
            raise ValueError(f"its '{wrong}' has {len(kept[wrong])} rows, its obs {len(rows)}")
        return Annotations(_to_table(rows), tuple(map(str, rows.index)), kept)


@contextmanager
def _open_file(path: Path) -> Iterator[Any]:
    try:
        import anndata  # noqa: F401, an extra that is asked for before the file is opened
        import h5py
    except ImportError as error:
        raise missing_extra("tables", f"reading {path}") from error
    advice = "It is damaged, or of an old version: open and save it by anndata."
    with convert_errors(f"cannot read {path}", advice), h5py.File(path, "r") as file:
        yield file


def _read_member(path: Path, file: Any, *names: str) -> Any:
    from anndata.io import read_elem

    item = file
    for name in names:
        item = _open_member(path, item, name)
    require_memory(3 * _check_sizes(path, item, "/".join(names)), path)
    return read_elem(item)


def _read_frame(path: Path, file: Any, name: str) -> Any:
    frame = _read_member(path, file, name)
    if isinstance(frame, np.ndarray):
        raise ValueError("its obs or var is of AnnData before 0.7")
    return frame


def _to_table(rows: Any) -> Table:
    columns = [_to_column(str(name), rows.iloc[:, i]) for i, name in enumerate(rows.columns)]
    return Table(columns, range(1, 1 + len(rows)))


def _open_member(path: Path, group: Any, name: str) -> Any:
    import h5py

    if not isinstance(group, h5py.Group) or not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise DataError(f"'{name}' of {path} is a link or missing. Links are not followed: open and save it by anndata.")
    return group[name]


def _check_sizes(path: Path, item: Any, name: str, depth: int = 0) -> int:
    """The bytes of all arrays of a member, each compared with what is stored of it."""
    import h5py

    if isinstance(item, h5py.Group):
        if depth == DEPTH:
            raise DataError(f"'{name}' of {path} is nested too deeply. Open and save it by anndata.")
        return sum(_check_sizes(path, _open_member(path, item, key), f"{name}/{key}", depth + 1) for key in map(str, item))
    if not isinstance(item, h5py.Dataset) or item.is_virtual or item.external:
        raise DataError(f"'{name}' of {path} is stored in other files, which are not followed. Open and save it by anndata.")
    check_declared_size(path, name, item.shape or (), item.dtype, item.id.get_storage_size(), item.chunks is not None)
    return item.size * item.dtype.itemsize if item.shape else 0


def _to_matrix(path: Path, x: Any) -> Any:
    """An array in a type that torch knows, or a sparse matrix by rows, whose indices are checked."""
    from scipy import sparse

    if getattr(x, "ndim", 0) != 2 or x.dtype.kind not in "biuf":
        kind = f"of shape {x.shape} and type {x.dtype}" if isinstance(x, np.ndarray) else f"a {type(x).__name__}"
        raise DataError(f"the data of {path} are {kind}, but have to be a matrix of real numbers. Choose another by layer=.")
    if isinstance(x, np.ndarray):
        return to_torch_type(x)
    x.check_format(full_check=True)  # an index out of range would be written to foreign memory
    x = sparse.csr_matrix(x)
    return x if x.dtype == np.float64 else x.astype(np.float32)


def _to_column(name: str, series: Any) -> TableColumn:
    import pandas

    if series.dtype.kind in "iuf":
        return TableColumn(name, series.to_numpy(dtype=np.float64, na_value=np.nan))
    codes, known = pandas.factorize(series)
    texts = [str(text) for text in known]
    missing = codes < 0
    categories = isinstance(series.dtype, pandas.CategoricalDtype)
    return TableColumn(
        name, np.where(missing, len(texts), codes).astype(np.int64), [*texts, ""] if missing.any() else texts, categories
    )
