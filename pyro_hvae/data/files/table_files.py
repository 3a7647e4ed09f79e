"""The columns of a CSV or Parquet file, each as numbers or as texts. Nothing in a file is run."""

import csv
import gzip
import io
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from pyro_hvae.data.files.data_file import convert_errors
from pyro_hvae.data.files.declared_sizes import require_memory
from pyro_hvae.errors import DataError, missing_extra

MISSING = frozenset(("", "na", "n/a", "#n/a", "<na>", "nan", "null", "?"))  # in small letters: cells without a value
DELIMITERS = "\t;,|"  # in order of preference: names and texts contain commas more often than tabs
LONGEST = 2**24  # characters of a line
CELLS = 2**20  # cells converted at once
SAMPLE = 20  # lines that tell the delimiter


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
    """The columns of a file, the number of each row in it (the first line is 1), and what is to be said about the reading."""

    columns: list[TableColumn]
    rows: Sequence[int]
    about: str = ""


def is_missing(text: str) -> bool:
    return text.lower() in MISSING


def to_number(text: str, decimal: str = ".") -> float | None:
    """The number that a cell holds: NaN where its value is missing, None where it is no number.

    >>> to_number(" 1e3"), to_number("1,5", ","), to_number("n/a"), to_number("1_000"), to_number("red")
    (1000.0, 1.5, nan, None, None)
    """
    text = text.strip()
    if is_missing(text):
        return float("nan")
    if decimal == "," and "." not in text:
        text = text.replace(",", ".")
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


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
    with _open_text(path, encoding) as stream:
        top = [*itertools.islice(_iterate_lines(stream, path), 2 * SAMPLE)]
    comments = [*itertools.takewhile(lambda line: line.startswith("#"), top[:SAMPLE])]
    skip = len(comments)
    delimiter = _find_delimiter(top[skip : skip + SAMPLE] or comments)
    decimal = "," if delimiter == ";" else "."
    start = [cells for _, cells in itertools.islice(_iterate_rows(path, encoding, delimiter, skip), 2)]
    named = next(csv.reader(comments[-1:], delimiter=delimiter, skipinitialspace=True), [])
    if not start and len(named) < 2:
        raise DataError(f"{path} is empty. A table has a line with the names of its columns, and a line for each datum.")
    # The comment has the names where it has as many cells, and the line after it is not the one with the names.
    numeric = [any(to_number(cell) is not None for cell in cells if cell) for cells in start]
    above = bool(comments) and (not start or (len(named) == len(start[0]) and numeric != [False, True]))
    names, header = (named, True) if above else (start[0], _is_header(start[0]))
    names = [cell.strip("# ") if header and cell else f"column {i}" for i, cell in enumerate(names, 1)]
    if twice := next((name for name, count in Counter(names).items() if count > 1), None):
        raise DataError(f"{path} has two columns called '{twice}'. Rename one.")

    def iterate() -> Iterator[list[tuple[int, list[str]]]]:
        rows = _iterate_rows(path, encoding, delimiter, skip)
        rows = itertools.islice(rows, 1, None) if header and not above else rows
        while piece := [*itertools.islice(rows, max(1, CELLS // len(names)))]:
            if ragged := next((row for row in piece if len(row[1]) != len(names)), None):
                raise DataError(
                    f"{path} has {len(ragged[1])} cells in row {ragged[0]}, but {len(names)} in its first. Give each row "
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
    about = "" if header else "; its first line holds data, so the columns have numbers for names"
    about += "; decimal commas" if commas else ""
    return Table(columns, lines, about + ("; read as Windows-1252, for it is not UTF-8" if encoding else ""))


def _open_text(path: Path, encoding: str) -> IO[str]:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    binary: Any = gzip.open(path) if packed else path.open("rb")
    try:
        start = binary.read(2)
        binary.seek(0)
    except BaseException:
        binary.close()
        raise
    wide = start in (b"\xff\xfe", b"\xfe\xff")
    return io.TextIOWrapper(binary, encoding=encoding or ("utf-16" if wide else "utf-8-sig"), newline="")


def _iterate_lines(stream: IO[str], path: Path) -> Iterator[str]:
    while line := stream.readline(LONGEST):
        if len(line) == LONGEST or "\0" in line:
            raise DataError(f"{path} is not a text of lines. Save the table as CSV in UTF-8.")
        yield line


def _iterate_rows(path: Path, encoding: str, delimiter: str, skip: int) -> Iterator[tuple[int, list[str]]]:
    """Numbers of rows, from 1 as a spreadsheet counts them, and their cells; without the first `skip` and empty ones."""
    with _open_text(path, encoding) as stream:
        lines = itertools.islice(_iterate_lines(stream, path), skip, None)
        for number, cells in enumerate(csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True), skip + 1):
            cells = [cell.strip() for cell in cells]
            if any(cells) and not (number == 1 and cells[0].lower() == "sep="):  # by which Excel is told the delimiter
                yield number, cells


def _find_delimiter(lines: Sequence[str]) -> str:
    """The first of `DELIMITERS` that gives all lines the same number of cells, else the one that the first line has most."""
    for delimiter in DELIMITERS:
        # The last of many lines may end within a cell in quotes.
        rows = [len(row) for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True) if row]
        rows = rows[:-1] if len(lines) == SAMPLE else rows
        if rows and min(rows) == max(rows) > 1:
            return delimiter
    return max(",;\t|", key=lines[0].count) if lines else ","


def _is_header(cells: Sequence[str]) -> bool:
    """Whether the first line holds names. Names that are numbers are whole and increase, as those of pixels or years do.

    >>> _is_header(["size", "kind"]), _is_header(["label", "0", "1"]), _is_header(["5.1", "setosa"]), _is_header(["39", "7"])
    (True, True, False, False)
    """
    numbers = [number for cell in cells if cell and (number := to_number(cell)) is not None]
    if not numbers or numbers == [0]:
        return True
    return len(numbers) > 1 and all(n.is_integer() for n in numbers) and all(a < b for a, b in itertools.pairwise(numbers))


def _to_numbers(cells: Sequence[str], decimal: str) -> np.ndarray | None:
    """The numbers in cells, NaN for a missing value; None where one of them is a text."""
    if "_" not in "".join(cells):  # Python takes 1_000 for a number
        try:
            return np.array([*map(float, cells)])
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
                columns.append(_to_texts(name, values, types.is_dictionary(kind)))
    if not columns or not table.num_rows:
        raise DataError(f"{path} has no rows. Add the data.")
    return Table(columns, range(1, 1 + table.num_rows))


def _to_floats(values: Any) -> np.ndarray:
    return np.array(values.cast("float64", safe=False).to_numpy(), dtype=np.float64)


def _to_texts(name: str, values: Any, categories: bool) -> TableColumn:
    """Texts as such, or as the numbers that all of them are; the texts of categories are none."""
    known: dict[str, int] = {}
    cells = ("" if value is None else str(value) for value in values.to_pylist())
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
