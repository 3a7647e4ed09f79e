"""Files of named arrays that share their rows, such as codes with classes and identifiers: tables, NumPy archives, AnnData."""

import csv
import gzip
import io
import itertools
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyro_hvae.data.files.file_kind import require_kind
from pyro_hvae.errors import ConfigError, missing_extra
from pyro_hvae.runtime import atomic_write, require_new_file

NAMES = "obs_names"  # the column that an AnnData file takes as the names of its rows
PIECE = 2**18  # cells of a CSV file that are texts at the same time
ADVICE = "Choose a folder that exists and that you may write to."

Arrays = Mapping[str, np.ndarray]


def unfold_columns(arrays: Arrays) -> dict[str, np.ndarray]:
    """A column (n,) for each number of a row: z1 of shape (n, 2) becomes z1_0 and z1_1, x of (n, 1, 2) x_0_0 and x_0_1.

    `pandas.DataFrame(unfold_columns(arrays))` is the table that CSV and Parquet files have.

    >>> list(unfold_columns({"row": np.arange(3), "z1": np.zeros((3, 2))}))
    ['row', 'z1_0', 'z1_1']
    """
    columns = {}
    for name, values in arrays.items():
        names = unfolded_names(name, values.shape[1:])
        columns |= dict(zip(names, values.reshape(len(values), len(names)).T, strict=True))
    return columns


def unfolded_names(name: str, event: Sequence[int]) -> list[str]:
    """The columns of an array whose rows have a shape.

    >>> unfolded_names("z1", (2,)), unfolded_names("part", ())
    (['z1_0', 'z1_1'], ['part'])
    """
    return ["_".join([name, *map(str, place)]) for place in itertools.product(*map(range, event))]


def join_columns(arrays: Arrays, beside: Arrays) -> dict[str, np.ndarray]:
    """Columns in front of arrays; one whose name is taken, also by a column of an unfolded array, gets a "_" behind it."""
    taken = {*arrays, *unfold_columns({name: values[:0] for name, values in arrays.items()})}
    joined = {}
    for name, values in beside.items():
        while name in taken:
            name += "_"
        taken.add(name)
        joined[name] = values
    return joined | dict(arrays)


def check_row_file(path: Path, overwrite: bool = False) -> str:
    """The kind of a file; raises `ConfigError` for no known kind or one that is there, `DataError` for a folder that cannot be
    written."""
    kind = require_kind(path, ROW_WRITERS)
    require_new_file(path, overwrite)
    return kind


def write_rows(path: Path, arrays: Arrays, overwrite: bool = False) -> None:
    """Writes arrays (n, ...) by the end of the file's name, as a whole or not at all.

    A .npz has them by name. A .csv, .tsv (also .gz) or .parquet has the columns of `unfold_columns`. In an .h5ad columns (n,)
    are in `obs`, those called obs_names are its names, and arrays of more axes are in `obsm`. Texts stay texts.

    Raises:
        ConfigError, DataError: as `check_row_file`. DeviceError: without the extra "tables", for .parquet and .h5ad.
    """
    kind = check_row_file(path, overwrite)
    with atomic_write(path, ADVICE) as part:
        ROW_WRITERS[kind](part, arrays)


def write_data(
    path: Path, x: np.ndarray, columns: Sequence[str] = (), overwrite: bool = False, beside: Arrays | None = None
) -> None:
    """Writes data x (n, *event), whose columns have names where these are known, as a file that data can be read from.

    Arrays are x with the names as `columns`; tables have the names, else x_0, x_1, ...; in an .h5ad x is X and the names are
    those of the variables. Columns (n,) beside x are as `write_rows` has them. A .npy has x alone.

    Raises:
        ConfigError, DataError, DeviceError: as `check_data_file` and `write_rows`.
    """
    kind, beside = check_data_file(path, overwrite, x.shape[1:]), beside or {}
    if kind == ".h5ad":
        with atomic_write(path, ADVICE) as part:
            _write_annotated(part, beside, x, columns or unfolded_names("x", x.shape[1:]))
    elif kind == ".npy":
        with atomic_write(path, ADVICE) as part, part.open("wb") as file:
            np.save(file, x, allow_pickle=False)
    elif kind == ".npz":
        arrays = {"x": x, **({"columns": np.array(columns, dtype=str)} if columns else {})}
        write_rows(path, join_columns(arrays, beside), overwrite)
    else:
        write_rows(path, join_columns(dict(zip(columns, x.T, strict=True)) if columns else {"x": x}, beside), overwrite)


def check_data_file(path: Path, overwrite: bool = False, event: Sequence[int] | None = None) -> str:
    """The kind of a file for `write_data`; raises as `check_row_file`, and `ConfigError` for an .h5ad of no vectors.

    Arguments:
        event: the shape of a datum, where it is known.
    """
    kind = require_kind(path, [".npy", *ROW_WRITERS])
    if kind == ".h5ad" and event is not None and len(event) != 1:
        raise ConfigError(f"an .h5ad file holds vectors, but a datum has the shape {tuple(event)}. Write a .npz file instead.")
    require_new_file(path, overwrite)
    return kind


def _write_npz(path: Path, arrays: Arrays) -> None:
    with zipfile.ZipFile(path, "w") as archive:  # `numpy.savez` pickles objects, and could not call an array "file"
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, values, allow_pickle=False)


def _write_text(delimiter: str, packed: bool) -> Callable[[Path, Arrays], None]:
    def write(path: Path, arrays: Arrays) -> None:
        columns = unfold_columns(arrays)
        rows = max(1, PIECE // max(1, len(columns)))
        count = len(next(iter(columns.values())))
        with path.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) if packed else raw as bytes_:
            file = io.TextIOWrapper(bytes_, encoding="utf-8", newline="")
            table = csv.writer(file, delimiter=delimiter, lineterminator="\n")
            table.writerow(columns)
            for start in range(0, count, rows):
                table.writerows(zip(*(_to_cells(values[start : start + rows]) for values in columns.values()), strict=True))
            file.flush()
            file.detach()

    return write


def _to_cells(values: np.ndarray) -> list[str]:
    """Texts of values, of numbers the shortest that give them back; NaN is an empty cell."""
    cells = values.astype(str)
    return (np.where(np.isnan(values), "", cells) if values.dtype.kind == "f" else cells).tolist()


def _write_parquet(path: Path, arrays: Arrays) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise missing_extra("tables", f"writing {path.name.removeprefix('.').removesuffix('.part')}") from error
    columns = {name: np.ascontiguousarray(values) for name, values in unfold_columns(arrays).items()}
    table: Any = pyarrow.table({n: v.tolist() if v.dtype.kind == "U" else v for n, v in columns.items()})
    pyarrow.parquet.write_table(table, path)


def _write_annotated(path: Path, arrays: Arrays, x: np.ndarray | None = None, variables: Sequence[str] = ()) -> None:
    try:
        import pandas
        from anndata import AnnData
    except ImportError as error:
        raise missing_extra("tables", f"writing {path.name.removeprefix('.').removesuffix('.part')}") from error
    columns = {name: values for name, values in arrays.items() if values.ndim == 1 and name != NAMES}
    count = len(next(iter(arrays.values()))) if x is None else len(x)
    names = arrays[NAMES] if NAMES in arrays else np.arange(count)
    texts = {name: values.astype(object) if values.dtype.kind == "U" else values for name, values in columns.items()}
    obs = pandas.DataFrame(texts, index=pandas.Index(names.astype(str).astype(object)))
    held: Any = {name: values for name, values in arrays.items() if values.ndim > 1}
    var = None if x is None else pandas.DataFrame(index=pandas.Index(variables, dtype=object))
    AnnData(X=x, obs=obs, var=var, obsm=held).write_h5ad(path)


ROW_WRITERS: dict[str, Callable[[Path, Arrays], None]] = {
    ".npz": _write_npz,
    ".csv": _write_text(",", False),
    ".tsv": _write_text("\t", False),
    ".csv.gz": _write_text(",", True),
    ".tsv.gz": _write_text("\t", True),
    ".parquet": _write_parquet,
    ".h5ad": _write_annotated,
}
