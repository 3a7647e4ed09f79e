"""The columns of a CSV or Parquet file, each as numbers or as texts. Nothing in a file is run."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyro_hvae.data.files.data_file import convert_errors
from pyro_hvae.data.files.declared_sizes import require_memory
from pyro_hvae.data.files.text_tables import find_layout, is_missing, to_number
from pyro_hvae.errors import DataError, missing_extra

CELLS = 2**20  # cells converted at once


@dataclass(frozen=True)
class TableColumn:
    """A column: its numbers, or for each row the position of its text in `texts`.

    Attributes:
        name: of the column.
        values: (n,), float64 with NaN for a missing value; or int64, positions in `texts`.
        texts: the different texts, in the order of their appearance; None for numbers.
        categories: whether the file calls its texts categories, so that "0" and "1" are no numbers.
        obstacle: what it holds in words, if that is neither numbers nor texts.
        unfolded: whether it holds one of the numbers of each list, which are no row numbers.
    """

    name: str
    values: np.ndarray
    texts: Sequence[str] | None = None
    categories: bool = False
    obstacle: str = ""
    unfolded: bool = False

    @property
    def missing(self) -> np.ndarray:
        """Which rows (n,) have no value."""
        if self.texts is None:
            return np.isnan(self.values)
        return np.array([is_missing(text) for text in self.texts], dtype=bool)[self.values]


@dataclass(frozen=True)
class Table:
    """The columns of a file, and what is known about its rows.

    Attributes:
        columns: in the file's order.
        rows: the number of each row, from 1: of a text its line, also counting those above the data. unit: what they count.
        about: what is to be said about the reading.
    """

    columns: list[TableColumn]
    rows: Sequence[int]
    about: str = ""
    unit: str = "row"


def read_csv(path: Path) -> Table:
    """The table in a text file with one row a line, plain or compressed by gzip.

    The cells are separated by tabs, semicolons, commas or bars: by what gives the first lines equal numbers of cells.
    Numbers between semicolons may have decimal commas. The encoding is UTF-8, UTF-16 with its mark, or else Windows-1252.
    Where the first line holds data (see `_is_header`), the columns are called "column 1", "column 2", ... Lines at the top that
    begin with # are comments, but for a last one with the names of the columns, as NumPy writes it.

    Raises:
        DataError: when the file is no text, is damaged or needs too much memory; for rows of different lengths, for two
            columns of one name, and where there are no rows.
    """
    with convert_errors(f"cannot read {path}", "It is damaged, incomplete or of another kind."):
        try:
            return _read_text(path, "")
        except UnicodeDecodeError:
            return _read_text(path, "cp1252")


def _read_text(path: Path, encoding: str) -> Table:
    layout = find_layout(path, encoding)
    names, decimal = layout.names, "," if layout.delimiter == ";" else "."

    def iterate() -> Iterator[list[tuple[int, list[str]]]]:
        rows = layout.iterate_rows()
        while piece := [*itertools.islice(rows, max(1, CELLS // len(names)))]:
            if ragged := next((row for row in piece if len(row[1]) != len(names)), None):
                raise DataError(
                    f"{path} has {len(ragged[1])} cells in line {ragged[0]}, but {len(names)} in its first. Give each row "
                    "as many, and put texts that contain the delimiter in quotes."
                )
            yield piece

    lines: list[int] = []
    commas = False
    numbers: list[list[np.ndarray] | None] = [[] for _ in names]
    for piece in iterate():
        lines += [number for number, _ in piece]
        for i, cells in enumerate(zip(*(cells for _, cells in piece), strict=True)):
            if (held := numbers[i]) is not None:
                converted = _to_numbers(cells, decimal)
                numbers[i] = None if converted is None else [*held, converted]
                commas |= decimal == "," and converted is not None and any("," in cell for cell in cells)
        require_memory(2 * 8 * len(lines) * len(names), path)
    if not lines:
        raise DataError(f"{path} has the names of {len(names)} columns, but no rows. Add the data.")
    texts: dict[int, dict[str, int]] = {i: {} for i, held in enumerate(numbers) if held is None}
    codes = {i: np.empty(len(lines), dtype=np.int64) for i in texts}
    start = 0
    for piece in iterate() if texts else ():
        for i, known in texts.items():
            codes[i][start : start + len(piece)] = [known.setdefault(cells[i], len(known)) for _, cells in piece]
        start += len(piece)
        require_memory(128 * sum(map(len, texts.values())), path)
    columns = [
        TableColumn(name, codes[i], [*texts[i]]) if held is None else TableColumn(name, np.concatenate(held))
        for i, (name, held) in enumerate(zip(names, numbers, strict=True))
    ]
    about = "" if layout.named else "; its first line holds data, so the columns have numbers for names"
    about += "; decimal commas" if commas else ""
    return Table(columns, lines, about + ("; read as Windows-1252, for it is not UTF-8" if encoding else ""), "line")


def _to_numbers(cells: Sequence[str], decimal: str) -> np.ndarray | None:
    """The numbers in cells, NaN for a missing value; None where one of them is a text."""
    if "_" not in "".join(cells):  # Python takes 1_000 for a number
        try:
            return np.array([float(cell or "nan") for cell in cells])
        except ValueError:
            pass
    numbers = [to_number(cell, decimal) for cell in cells]
    return None if None in numbers else np.array(numbers, dtype=np.float64)


def read_parquet(path: Path) -> Table:
    """The table in a Parquet file; dates are texts, booleans 0 and 1, lists of one length a column for each of their numbers.

    Raises:
        DeviceError: without the extra "tables".
        DataError: when the file cannot be read, needs too much memory, or has no rows.
    """
    try:
        import pyarrow.parquet
        from pyarrow import compute, types
    except ImportError as error:
        raise missing_extra("tables", f"reading {path}") from error
    columns = []
    with convert_errors(f"cannot read {path}", "It is damaged, incomplete or of another kind."):
        with path.open("rb") as stream, pyarrow.parquet.ParquetFile(stream) as file:
            require_memory(16 * file.metadata.num_rows * file.metadata.num_columns, path)
            require_memory(sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups)), path)
            table: Any = file.read()
        for name, values in zip(table.column_names, table.columns, strict=True):
            kind = values.type
            if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
                plain = compute.cast(values, "int8") if types.is_boolean(kind) else values
                columns.append(TableColumn(name, _to_floats(plain)))
            elif types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
                columns += _unfold_lists(path, name, values)
            elif types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind):
                columns.append(TableColumn(name, np.zeros(len(values)), obstacle="structures or bytes"))
            else:
                columns.append(texts_column(name, values.to_pylist(), types.is_dictionary(kind)))
    if not columns or not table.num_rows:
        raise DataError(f"{path} has no rows. Add the data.")
    return Table(columns, range(1, 1 + table.num_rows))


def _to_floats(values: Any) -> np.ndarray:
    return np.array(values.cast("float64", safe=False).to_numpy(), dtype=np.float64)


def texts_column(name: str, values: Iterable[Any], categories: bool) -> TableColumn:
    """Texts as such, None where one is missing, or as the numbers that all of them are; the texts of categories are none."""
    known: dict[str, int] = {}
    cells = ("" if value is None else str(value) for value in values)
    codes = np.array([known.setdefault(cell, len(known)) for cell in cells], np.int64)
    numbers = None if categories else _to_numbers([*known], ".")
    return TableColumn(name, codes, [*known], categories) if numbers is None else TableColumn(name, numbers[codes])


def _unfold_lists(path: Path, name: str, values: Any) -> list[TableColumn]:
    """The columns name_0, name_1, ... of lists of numbers that have one length, such as embeddings."""
    import pyarrow.compute
    from pyarrow import types

    compute: Any = pyarrow.compute  # its functions are made at run time
    item = values.type.value_type
    lengths = np.array(compute.list_value_length(values).to_numpy())
    if not (types.is_integer(item) or types.is_floating(item)) or len({*lengths.tolist()}) != 1 or not lengths[0] > 0:
        return [TableColumn(name, np.zeros(len(values)), obstacle="lists of several lengths or of no numbers")]
    width = int(lengths[0])
    require_memory(16 * len(values) * width, path)
    numbers = _to_floats(compute.list_flatten(values)).reshape(len(values), width)
    return [TableColumn(f"{name}_{i}", numbers[:, i], unfolded=True) for i in range(width)]


TABLE_READERS: dict[str, Callable[[Path], Table]] = {
    **dict.fromkeys((".csv", ".tsv", ".csv.gz", ".tsv.gz"), read_csv),
    ".parquet": read_parquet,
}
