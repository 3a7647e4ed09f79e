"""A user's file with missing entries: its data in the file's order, and copies in which these entries are filled."""

import gzip
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.data.array_values import refuse_bits
from pyro_hvae.data.batch import Batch
from pyro_hvae.data.conditioning import encode_factors
from pyro_hvae.data.conditions import Condition
from pyro_hvae.data.dataset import Dataset
from pyro_hvae.data.files.annotated_files import read_annotated_matrix, read_annotations
from pyro_hvae.data.files.file_kind import find_kind
from pyro_hvae.data.files.filled_tables import fill_csv, fill_parquet
from pyro_hvae.data.files.row_readers import read_rows
from pyro_hvae.data.files.table_files import TABLE_READERS, Table
from pyro_hvae.data.sets.array_layouts import arrange_axes
from pyro_hvae.data.sets.user_arrays import SingleArray, read_array_columns, read_arrays, read_single_array
from pyro_hvae.data.sets.user_tables import read_numbers, require_columns, to_factors
from pyro_hvae.data.size_factors import give_totals, is_read
from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.runtime import atomic_write, require_new_file

ARRAYS, ANNOTATED = (".npy", ".npz"), ".h5ad"
FILLED = (*TABLE_READERS, *ARRAYS)  # of which copies are written


def read_batch(path: Path, data: Dataset, conditions: Sequence[Condition] = (), key: str = "") -> Tensor | Batch:
    """All data of a file in its order, float32, as programs that learned other data read them.

    The file is a table, an AnnData file or one of arrays. Its data are standardised by the mean and scale of the other data
    where these are, and have the conditions beside them.

    Arguments:
        data: what was learned, with the names of x's columns. conditions: of the programs, such as those of a run.
        key: for a file with several arrays: the array that holds the data; for an AnnData file the layer.

    Returns:
        x, with its mask and what the programs are given where there is either; as `read_incomplete` and `read_given` have them.

    Raises:
        DataError: as both, and for data of another shape.
    """
    if not data.columns and path.is_file() and find_kind(path) in (*TABLE_READERS, ANNOTATED):
        raise DataError(f"{path} is a table, but the run is of arrays of shape {data.shape}. Give a file of such arrays.")
    x = read_incomplete(path, data.columns, key, data.train.x.grey)
    if tuple(x.shape[1:]) != data.shape:
        raise DataError(f"the data of {path} have the shape {tuple(x.shape[1:])}, those of the run {data.shape}.")
    return as_learned(x, data, conditions, read_given(path, conditions, key))


def as_learned(x: Tensor, data: Dataset, conditions: Sequence[Condition], given: Mapping[str, Tensor]) -> Tensor | Batch:
    """Data (n, *event) in their own units, float64 with NaN where missing, as programs that learned other data read them.

    Arguments:
        given: encoded conditions, without a size that is the total of x.
    """
    x = data.standardization.apply(x) if data.standardization else x
    return Batch.of(x.float(), {**given, **give_totals(conditions, x)})


def read_incomplete(path: Path, columns: Sequence[str] = (), key: str = "", grey: bool = False) -> Tensor:
    """All data of a table, an AnnData file or one of arrays, in its order, (n, *event) in their own units, NaN where missing.

    A table's rows of empty cells only are left out. Its other columns do not matter, nor does their order.

    Arguments:
        columns: of a table, the names of those of x, as `Dataset.columns` has them.
        key: for a file with several arrays: the array that holds the data; for an AnnData file the layer, empty for X.
        grey: grey values from 0 to 255 were learned, so that bytes of 0 and 1 only are refused.

    Returns:
        float64; images are grey values in [0, 1], as `read_arrays` has them.

    Raises:
        ConfigError: for a table without columns, and an unknown key.
        DataError: for a file of another kind, one that cannot be read, and a table without one of the columns.
    """
    if (kind := _check_kind(path)) == ANNOTATED:
        return _read_annotated(path, key, columns)
    if kind in ARRAYS:
        single = read_single_array(path, key)
        if grey:
            refuse_bits(str(path), single.stored.dtype, single.values)
        values = torch.from_numpy(single.values.astype(np.float64, order="C"))
        return values / 255 if single.grey else values
    return torch.from_numpy(read_numbers(path, _read_table(path, kind, columns), columns))


def read_given(path: Path, conditions: Sequence[Condition], key: str = "") -> dict[str, Tensor]:
    """What the programs of a conditional run are given beside the data of `read_incomplete`, float32 (n, width) by key.

    A size that is the total of x is no column of the file: `read_batch` gives it, too.

    Raises:
        DataError: for a condition that the file lacks, a value of one that is missing, and a class that is unknown.
    """
    conditions = [condition for condition in conditions if is_read(condition)]
    if not conditions:
        return {}
    names = [condition.name for condition in conditions]
    if (kind := _check_kind(path)) in ARRAYS:
        found = read_arrays(path, key)
        factors, labels = found.parts["train"].factors, found.labels
        if lacking := next((name for name in names if name not in factors), None):
            why = f" ({found.unused[lacking]})" if lacking in found.unused else ""
            raise DataError(f"{path} has no factor '{lacking}'{why} beside the data. Add an array of this name, complete.")
        return encode_factors(factors, labels, conditions, path.name)
    return read_table_given(path, _read_table(path, kind, names), conditions)


def read_table_given(path: Path, table: Table, conditions: Sequence[Condition]) -> dict[str, Tensor]:
    """As `read_given`, of a table that was read; `path` names it in errors."""
    conditions = [condition for condition in conditions if is_read(condition)]
    names = [condition.name for condition in conditions]
    require_columns(path, table, names)
    for column in table.columns:
        if column.name in names and not column.obstacle and column.missing.any():
            row = table.rows[int(np.argmax(column.missing))]
            raise DataError(
                f"{path} has no '{column.name}' in {table.unit} {row}, and p(x | {column.name}) says nothing about data "
                "without it. Fill it in, or leave the row out."
            )
    numbers = [condition.name for condition in conditions if not condition.classes]
    classes = [condition.name for condition in conditions if condition.classes]
    values = torch.from_numpy(read_numbers(path, table, numbers)).unbind(1) if numbers else ()
    factors = dict(zip(numbers, values, strict=True))
    found, labels = to_factors(path, table, classes)
    return encode_factors({**factors, **found}, labels, conditions, path.name)


def write_filled(
    source: Path,
    out: Path,
    filled: Tensor | np.ndarray,
    columns: Sequence[str] = (),
    key: str = "",
    overwrite: bool = False,
) -> None:
    """Writes a copy of a file in which only the missing entries of x are filled.

    In a CSV file every other cell, its quotes, the encoding and the ends of lines stay as they are; numbers have the decimal
    mark of their column, and true or false its words. In a Parquet file columns of whole numbers that are filled become floats.
    In a file of arrays all other arrays stay; an array of whole numbers becomes one of floats, unless these are grey values; a
    mask becomes all true.

    Arguments:
        filled: what `read_incomplete` gave, without NaN, of the same shape and in the same units.
        columns, key: as for `read_incomplete`.
        overwrite: whether a file that is called `out` may be replaced.

    Raises:
        ConfigError: for an `out` of another kind or that is there, or values of another shape or that are not finite.
        DataError: as `read_incomplete`, and when `out` cannot be written, which then stays as it was.
    """
    kind, values = check_copy(source, out, overwrite), np.asarray(filled, dtype=np.float64)
    x = read_incomplete(source, columns, key).numpy()
    missing = np.isnan(x)
    if values.shape != x.shape:
        raise ConfigError(
            f"{source.name} has data of shape {x.shape}, but filled has {values.shape}. Give values of that shape."
        )
    if not np.isfinite(values[missing]).all():
        raise ConfigError(f"some values for the missing entries of {source.name} are not finite. Give finite ones.")
    with atomic_write(out, "Choose a folder that exists and that you may write to.") as part:
        if kind == ".parquet":
            fill_parquet(source, part, columns, x, values)
        elif kind in ARRAYS:
            single = read_single_array(source, key)
            array = _fill_array(single, missing, values)
            if kind == ".npz":
                _fill_archive(source, part, single, array)
            else:
                with part.open("wb") as file:
                    _save(file, array)
        else:
            content = fill_csv(source, columns, x, values)
            part.write_bytes(gzip.compress(content, mtime=0) if out.suffix.lower() == ".gz" else content)


def check_copy(source: Path, out: Path, overwrite: bool = False) -> str:
    """The kind of a file to be copied; errors are those of `write_filled` about the names of both files."""
    kind = _check_kind(source, FILLED, "can be filled")
    if find_kind(out).removesuffix(".gz") != kind.removesuffix(".gz"):
        raise ConfigError(f"{out} would be a copy of {source.name}, so it has to end in {kind}. Change its name.")
    require_new_file(out, overwrite)
    return kind


def _check_kind(path: Path, known: Sequence[str] = (), what: str = "data are read from") -> str:
    if not path.is_file():
        raise DataError(f"there is no file '{path}'. Check the path.")
    if (kind := find_kind(path)) not in (known := known or (*FILLED, ANNOTATED)):
        raise DataError(f"{path} is of no kind that {what}. Save it as {', '.join(known)}.")
    return kind


def _read_table(path: Path, kind: str, columns: Sequence[str]) -> Table:
    if not columns:
        raise ConfigError(f"it is not said which columns of {path} are x. Name them by columns=.")
    return read_annotations(path).rows if kind == ANNOTATED else TABLE_READERS[kind](path)


def _read_annotated(path: Path, layer: str, columns: Sequence[str]) -> Tensor:
    held = read_annotated_matrix(path, layer)
    names = list(held.columns)
    if lacking := next((name for name in columns if name not in names), None):
        raise DataError(f"{path} has no variable '{lacking}' among its {len(names):,}. Add it, with NaN where it is not known.")
    x = held.x if tuple(columns) == held.columns or not columns else held.x[:, [names.index(name) for name in columns]]
    return torch.from_numpy(np.asarray(x if isinstance(x, np.ndarray) else x.toarray(), dtype=np.float64))


def read_beside(path: Path, columns: Sequence[str] = (), key: str = "") -> dict[str, np.ndarray]:
    """What a file holds beside the data of `read_incomplete`, a value for each row: identifiers, classes, other numbers.

    Of a table these are the columns that are no part of x, of an AnnData file `obs_names` and the columns of obs, of a .npz
    the arrays of shape (n,).
    """
    if (kind := _check_kind(path)) in ARRAYS:
        return read_array_columns(path, key)
    return read_rows(path).columns(without=() if kind == ANNOTATED else columns)


def _fill_array(single: SingleArray, missing: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The array of data as it is stored, with the missing entries filled."""
    stored = single.stored
    kind = stored.dtype if single.grey or stored.dtype.kind in "bf" else np.dtype(np.float64)
    if single.grey:
        values = np.rint(255 * values).clip(0, 255)
    elif kind.kind == "b":
        values = values >= 0.5
    full = stored.read().astype(kind, order="C")
    places = arrange_axes(np.arange(full.size).reshape(full.shape))
    full.flat[places[missing]] = values[missing].astype(kind)
    return full


def _save(file: IO[bytes], array: np.ndarray) -> None:
    np.lib.format.write_array(file, array, allow_pickle=False)


def _fill_archive(source: Path, part: Path, single: SingleArray, array: np.ndarray) -> None:
    """A copy of an .npz file with another array of data, and with a mask that is all true; other members stay bytes."""
    changed = {single.stored.name: array}
    if single.mask:
        changed[single.mask.name] = np.ones(single.mask.shape, dtype=bool)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(part, "w") as new:
        for item in old.infolist():
            with old.open(item) as member, new.open(copy(item), "w", force_zip64=True) as target:
                name = item.filename.removesuffix(".npy")
                if name in changed:
                    _save(target, changed[name])
                else:
                    shutil.copyfileobj(member, target)
