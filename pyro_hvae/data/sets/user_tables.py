"""Vectors from a user's table (CSV, Parquet): tells numbers, classes, row numbers, dates and other texts apart."""

import contextlib
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.data.array_values import explain_nonfinite
from pyro_hvae.data.dataset import Split
from pyro_hvae.data.factor_kinds import most_classes
from pyro_hvae.data.files.row_readers import read_rows
from pyro_hvae.data.files.table_files import Table, TableColumn
from pyro_hvae.data.files.text_tables import TRUTHS, is_missing, to_number
from pyro_hvae.data.option_checks import check_names
from pyro_hvae.data.rows import Rows
from pyro_hvae.data.sets.user_parts import UserParts
from pyro_hvae.errors import ConfigError, DataError

LABELS = frozenset(("class", "classes", "label", "labels", "target"))  # in small letters: numbers in such columns are classes
IDENTIFIERS = re.compile(r"(.*[_ .-])?(id|index|nr|number|row)|unnamed: 0", re.IGNORECASE)
DATES = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y", "%d %b %Y", "%b %d %Y", "%Y-%m")
TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f")
# How people write numbers that float() does not take: thousands, decimal commas, percent, currencies, in quotes.
SIGN, UNIT = "[+\\-\u2212]?", "[%$\u20ac\u00a3\u00a5]?"
NUMERAL = re.compile(rf"'?{UNIT} ?{SIGN}{UNIT} ?(\d{{1,3}}([,.' \u00a0\u202f]\d{{3}})+([.,]\d*)?|\d*[.,]?\d+) ?{UNIT}'?")


def interpret_table(path: Path, table: Table, columns: Sequence[str] = (), labels: Sequence[str] = ()) -> UserParts:
    """Vectors of a table's numbers, and its classes as factors.

    An empty cell is a missing value, and so is NA, N/A, #N/A, <NA>, NaN, null or ?, in small or large letters. Every column is
    one of these, and the description names those that are not used:

        numbers       a column of x, in the file's order; true and false are 1 and 0
        classes       a factor: texts of few different values (at most ten, or a tenth of the number of rows), numbered in
                      alphabetical order; and columns called class, label or target
        row numbers   not used: whole numbers that count the rows, or that differ all in a column called id, index, nr, row, ...
        dates, texts  not used

    Arguments:
        columns: names of the columns of x; empty for all columns of numbers.
        labels: names of the factors; empty for all classes. A column of numbers that are not whole is a continuous factor.

    Raises:
        ConfigError: for an unknown name, one that is in both, or a column of x that holds no numbers.
        DataError: for a value that is infinite or too large for float32, a text among numbers, or a missing value of a column
            in labels, with its column and row; and where there are no numbers.
    """
    known = {column.name: column for column in table.columns}
    for kind, names in (("column", columns), ("label", labels)):
        if names:
            check_names(kind, names, known)
    if both := next((name for name in columns if name in labels), None):
        raise ConfigError(f"'{both}' is in columns and in labels. A column is either a part of x or a factor: name it once.")
    numbers: dict[str, np.ndarray] = {}
    classes: list[str] = []
    unused: dict[str, str] = {}
    for name, column in known.items():
        if name in labels:
            continue
        if columns and name not in columns and column.texts is None and not column.obstacle and name.lower() not in LABELS:
            unused[name] = "not in columns"
            continue
        kind, values = _find_kind(column, name in columns or column.unfolded)
        if kind == "numbers with texts" and (name in columns or not columns):
            raise _describe_text(path, table, column)
        if kind == "numbers" and values is not None and (name in columns or not columns):
            numbers[name] = values
        elif name in columns:
            raise ConfigError(f"columns names '{name}', but it holds {kind}. Choose columns of numbers, or name it in labels.")
        elif kind == "classes" and not labels:
            classes.append(name)
        else:
            unused[name] = "not in labels" if kind == "classes" else "not in columns" if kind == "numbers" else kind
    if not numbers:
        found = ", ".join(f"{name} ({unused.get(name, 'classes')})" for name in known)
        alone = len(known) == 1 and table.columns[0].texts is not None
        advice = "Separate cells by commas, tabs or semicolons" if alone else "Give columns of numbers"
        raise DataError(f"{path} has no column of numbers to be x: {found}. {advice}.")
    order = columns or numbers
    x = np.stack([_check_numbers(path, table, known[name], numbers[name]) for name in order], 1)
    factors, names = to_factors(path, table, labels or classes)
    what = f"{len(x):,} rows of {path.name}, {x.shape[1]} column{'s' * (x.shape[1] > 1)} of numbers{table.about}"
    what += f"; factors: {', '.join(factors)}" if factors else ""
    split = Split(Rows(torch.from_numpy(x), Tensor.float, incomplete=bool(np.isnan(x).any())), factors)
    return UserParts(
        {"train": split}, what, names, tuple(order), unused=unused, beside=lambda _: read_rows(path).columns(without=order)
    )


def require_columns(path: Path, table: Table, names: Sequence[str]) -> None:
    """Raises `DataError` for the first name that no column has."""
    known = [column.name for column in table.columns]
    if (lacking := next((name for name in names if name not in known), None)) is not None:
        raise DataError(
            f"{path} has no column '{lacking}', only {', '.join(known)}. Add the column; where it is a part of x, its "
            "cells may be empty."
        )


def read_numbers(path: Path, table: Table, names: Sequence[str]) -> np.ndarray:
    """The numbers of the named columns, (n, len(names)), with NaN for missing values.

    Raises:
        DataError: for a column that is not there or holds no numbers, and values that are infinite or too large for float32.
    """
    require_columns(path, table, names)
    known = {column.name: column for column in table.columns}
    numbers = []
    for name in names:
        kind, values = _find_kind(known[name], True)
        if kind not in ("numbers", "empty"):
            raise _refuse_column(path, table, known[name], kind)
        numbers.append(np.full(len(table.rows), np.nan) if values is None else values)
    pairs = zip(names, numbers, strict=True)
    return np.stack([_check_numbers(path, table, known[name], values, learned=True) for name, values in pairs], 1)


def _find_kind(column: TableColumn, wanted: bool) -> tuple[str, np.ndarray | None]:
    """What a column holds, in words, and its numbers if it holds such. A `wanted` column holds no row numbers."""
    if column.obstacle:
        return column.obstacle, None
    missing = column.missing
    if missing.all():
        return "empty", None
    if column.texts is None:
        known = column.values[~missing]
        if wanted or len(known) < 3 or not (known == np.rint(known)).all() or not np.isfinite(known).all():
            return "classes" if column.name.lower() in LABELS and not wanted else "numbers", column.values
        steps = np.diff(np.sort(known))
        if (steps == 1).all() or (IDENTIFIERS.fullmatch(column.name) and (steps > 0).all()):
            return "row numbers", None
        return "classes" if column.name.lower() in LABELS else "numbers", column.values
    texts = [text for text in column.texts if not is_missing(text)]
    if {text.lower() for text in texts} <= TRUTHS.keys():
        return "numbers", np.array([TRUTHS.get(text.lower(), np.nan) for text in column.texts])[column.values]
    if all(map(_is_date, texts)):
        return "dates", None
    counts = np.bincount(column.values, minlength=len(column.texts))
    numeric = [to_number(text) is not None and not is_missing(text) for text in column.texts]
    share = counts[np.array(numeric)].sum()
    if not column.categories and (2 * share > (~missing).sum() or all(map(NUMERAL.fullmatch, texts))):
        return "numbers with texts", None
    if len(texts) > most_classes(len(column.values)):
        return "texts", None
    return "classes with missing values" if missing.any() else "classes", None


def _describe_text(path: Path, table: Table, column: TableColumn) -> DataError:
    text, where = _find_text(table, column)
    return DataError(
        f"{path} has '{text}' in column '{column.name}', {where}, among numbers. Write a number such as 1234.5, "
        "leave the cell empty if its value is missing, choose other columns of x by columns=, or, if these are classes, add "
        f"labels={column.name}."
    )


def _find_text(table: Table, column: TableColumn) -> tuple[str, str]:
    """The first text of a column that is no number, and its line or row; empty where there is none."""
    first = next((place for place, text in enumerate(column.texts or ()) if to_number(text) is None), None)
    if first is None:
        return "", ""
    return (column.texts or ())[first], f"{table.unit} {table.rows[int(np.argmax(column.values == first))]}"


def _refuse_column(path: Path, table: Table, column: TableColumn, kind: str) -> DataError:
    """The error for a column that has to be numbers, and holds texts among them or something else."""
    text, where = _find_text(table, column)
    if where and any(to_number(other) is not None and not is_missing(other) for other in column.texts or ()):
        return DataError(
            f"{path} has '{text}' in column '{column.name}', {where}, where a number is needed. Write a number such as 1234.5, "
            "or leave the cell empty."
        )
    such = f", such as '{text}' in {where}" if where else ""
    return DataError(
        f"the column '{column.name}' of {path} holds {kind}{such}, but numbers are needed. Use a table like the run's."
    )


def _is_date(text: str) -> bool:
    """Whether a text is a date, with or without a time.

    >>> _is_date("2024-03-01T12:30:00Z"), _is_date("1.3.2024"), _is_date("12:30"), _is_date("20240301")
    (True, True, False, False)
    """
    if text.isdigit():
        return False
    with contextlib.suppress(ValueError):
        datetime.fromisoformat(text)
        return True
    for form in (date + time for date in DATES for time in TIMES):
        with contextlib.suppress(ValueError):
            datetime.strptime(text, form)
            return True
    return False


def _check_numbers(path: Path, table: Table, column: TableColumn, values: np.ndarray, learned: bool = False) -> np.ndarray:
    with np.errstate(over="ignore"):
        finite = np.isfinite(values.astype(np.float32)) | np.isnan(values)
    if not finite.all():
        cell, value = _name_cell(table, column, ~finite), values[np.argmin(finite)]
        raise DataError(
            f"{path} has the value {value:g} in {cell}{explain_nonfinite(value)}"
            f"{'' if learned else ' Or choose other columns by columns=.'}"
        )
    return values


def find_factors(
    path: Path, table: Table, labels: Sequence[str] = ()
) -> tuple[dict[str, Tensor], dict[str, list[str]], dict[str, str]]:
    """The factors of a table beside the data: its classes, or the named columns.

    Returns:
        the values of each factor, the names of its classes if these are texts, and by name why other columns are none.
    """
    kinds = {column.name: _find_kind(column, False)[0] for column in table.columns}
    if labels:
        check_names("label", labels, kinds)
    chosen = labels or [name for name, kind in kinds.items() if kind == "classes"]
    unused = {name: "not in labels" if kind == "classes" else kind for name, kind in kinds.items() if name not in chosen}
    return *to_factors(path, table, chosen), unused


def to_factors(path: Path, table: Table, chosen: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    known = {column.name: column for column in table.columns}
    found = {name: _to_factor(path, table, known[name]) for name in chosen}
    return {name: values for name, (values, _) in found.items()}, {name: texts for name, (_, texts) in found.items() if texts}


def _to_factor(path: Path, table: Table, column: TableColumn) -> tuple[Tensor, list[str]]:
    """The values of a factor, and the names of its classes if it has texts."""
    if column.obstacle:
        raise ConfigError(f"labels names '{column.name}', but it holds {column.obstacle}. Choose columns of numbers or texts.")
    if column.missing.any():
        raise _describe_missing(path, table, column)
    if column.texts is None:
        whole = (column.values == np.rint(column.values)).all() and np.abs(column.values).max() < 2**53
        values = _check_numbers(path, table, column, column.values)
        return torch.from_numpy(values.astype(np.int64) if whole else values), []
    names = sorted(column.texts, key=lambda text: (to_number(text) is None, to_number(text) or 0.0, text))  # 9 before 10
    number = {name: position for position, name in enumerate(names)}
    return torch.from_numpy(np.array([number[text] for text in column.texts], dtype=np.int64)[column.values]), names


def _describe_missing(path: Path, table: Table, column: TableColumn) -> DataError:
    missing = column.missing
    more = f" ({missing.sum():,} are missing in the column)" if missing.sum() > 1 else ""
    return DataError(
        f"{path} has no value in {_name_cell(table, column, missing)}{more}, and a factor needs one in "
        "each row. Fill them in, remove these rows, or choose other columns by labels=."
    )


def _name_cell(table: Table, column: TableColumn, where: np.ndarray) -> str:
    """The first cell of a column for which `where` (n,) is true."""
    return f"column '{column.name}', {table.unit} {table.rows[int(np.argmax(where))]}"
