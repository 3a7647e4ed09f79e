"""The text of a CSV file: its encoding, delimiter and names, and its rows of cells."""

import csv
import gzip
import io
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pyro_hvae.errors import DataError

MISSING = frozenset(("", "na", "n/a", "#n/a", "<na>", "nan", "null", "?"))  # in small letters: cells without a value
TRUTHS = {"true": 1.0, "false": 0.0}  # in small letters
DELIMITERS = "\t;,|"  # in order of preference: names and texts contain commas more often than tabs
LONGEST = 2**24  # characters of a line
SAMPLE = 20  # lines that tell the delimiter


@dataclass(frozen=True)
class TextLayout:
    """How a text holds a table.

    Attributes:
        path: of the file.
        encoding: empty for UTF-8, and UTF-16 with its mark; else its name.
        delimiter: between cells.
        skip: number of the lines at the top that are comments.
        names: of the columns.
        header: whether the names stand in the first row below the comments.
        named: whether the names stand in the file, in the first row or in a comment.
    """

    path: Path
    encoding: str
    delimiter: str
    skip: int
    names: tuple[str, ...]
    header: bool
    named: bool

    def iterate_rows(self) -> Iterator[tuple[int, list[str]]]:
        """The lines, from 1, in which rows of data begin, and their cells; without rows of empty cells."""
        rows = _iterate_rows(self.path, self.encoding, self.delimiter, self.skip)
        return itertools.islice(rows, 1, None) if self.header else rows


def find_layout(path: Path, encoding: str) -> TextLayout:
    """The layout of a text file, by its first lines.

    Raises:
        DataError: for an empty file, and two columns of one name. UnicodeDecodeError: where the encoding is another.
    """
    with _open_text(path, encoding) as stream:
        top = [*itertools.islice(_iterate_lines(stream, path), 2 * SAMPLE)]
    comments = [*itertools.takewhile(lambda line: line.startswith("#"), top[:SAMPLE])]
    skip = len(comments)
    delimiter = _find_delimiter(top[skip : skip + SAMPLE] or comments)
    start = [cells for _, cells in itertools.islice(_iterate_rows(path, encoding, delimiter, skip), 2)]
    named = next(csv.reader(comments[-1:], delimiter=delimiter, skipinitialspace=True), [])
    if not start and len(named) < 2:
        raise DataError(f"{path} is empty. A table has a line with the names of its columns, and a line for each datum.")
    # The comment has the names where it has as many cells, and the line after it is not the one with the names.
    numeric = [any(to_number(cell) is not None for cell in cells if cell) for cells in start]
    above = bool(comments) and (not start or (len(named) == len(start[0]) and numeric != [False, True]))
    names, header = (named, True) if above else (start[0], _is_header(start[0]))
    names = tuple(cell.strip("# ") if header and cell else f"column {i}" for i, cell in enumerate(names, 1))
    if twice := next((name for name, count in Counter(names).items() if count > 1), None):
        raise DataError(f"{path} has two columns called '{twice}'. Rename one.")
    return TextLayout(path, encoding, delimiter, skip, names, header and not above, header)


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
    """Rows with the numbers of the lines, from 1, in which they begin; without the first `skip` and empty ones."""
    with _open_text(path, encoding) as stream:
        lines = itertools.islice(_iterate_lines(stream, path), skip, None)
        reader, number = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True), skip + 1
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if any(cells) and not (number == 1 and cells[0].lower() == "sep="):  # by which Excel is told the delimiter
                yield number, cells
            number = skip + 1 + reader.line_num  # cells in quotes may have several lines


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
