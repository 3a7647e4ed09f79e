"""Copies of tables in which the missing cells of some columns are filled; all else stays as it was written."""

import gzip
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pyro_hvae.data.files.data_file import convert_errors
from pyro_hvae.data.files.declared_sizes import require_memory
from pyro_hvae.data.files.text_tables import TRUTHS, TextLayout, find_layout
from pyro_hvae.errors import ConfigError, missing_extra

DIGITS = 6  # that a filled number has, and more where a column varies by less than a tenth of its values
LINE = re.compile(r"[^\r\n]*(\r\n|\r|\n)")
BLOCK = 2**20  # bytes read at once
MARKS = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


def fill_csv(path: Path, columns: Sequence[str], x: np.ndarray, filled: np.ndarray) -> bytes:
    """The content of a CSV file, not compressed, with the missing cells of some columns filled.

    A number is written with the decimal mark of its column; true or false, where the column has only these words, in the
    column's spelling. Cells in quotes stay so. Encoding, ends of lines, order and all other cells do not change.

    Arguments:
        columns: names of d columns.
        x: what `read_csv` finds in them, (n, d), with NaN in the missing cells.
        filled: values (n, d), of which those of the missing cells are written.
    """
    with convert_errors(f"cannot read {path}", "It is damaged, incomplete or of another kind."):
        text, codec = _decode(path)
        layout = find_layout(path, codec if codec == "cp1252" else "")
        places = [layout.names.index(name) for name in columns]
        styles = _find_styles(layout, places, x)
        order = sorted(range(len(places)), key=places.__getitem__)
        pieces, done = [], 0
        for missing, values, spans in zip(np.isnan(x), filled, _iterate_data(layout, text), strict=True):
            for column in order:
                if missing[column]:
                    start, end = spans[places[column]]
                    pieces += [text[done:start], styles[column].write(values[column])]
                    done = end
    return "".join([*pieces, text[done:]]).encode(codec)


def _decode(path: Path) -> tuple[str, str]:
    """A file's text, with its mark of the byte order, and the codec that gives the bytes back."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    blocks, size = [], 0
    with gzip.open(path) if packed else path.open("rb") as stream:
        while block := stream.read(BLOCK):
            blocks.append(block)
            size += len(block)
            require_memory(6 * size, path)
    content = b"".join(blocks)
    codec = MARKS.get(content[:2], "utf-8")
    try:
        return content.decode(codec), codec
    except UnicodeDecodeError:
        return content.decode("cp1252"), "cp1252"


def _iterate_data(layout: TextLayout, text: str) -> Iterator[list[tuple[int, int]]]:
    """The places in the text of what `TextLayout.iterate_rows` has, row by row: of cells without their blanks and quotes."""
    position = int(text.startswith("\ufeff"))
    for _ in range(layout.skip):
        comment = LINE.match(text, position)
        assert comment is not None
        position = comment.end()
    rows = _iterate_spans(text, position, layout.delimiter)
    header = layout.header
    for number, spans in enumerate(rows, layout.skip + 1):
        if all(start == end for start, end in spans) or (number == 1 and text[slice(*spans[0])].lower() == "sep="):
            continue
        if header:
            header = False
            continue
        yield spans


def _iterate_spans(text: str, position: int, delimiter: str) -> Iterator[list[tuple[int, int]]]:
    """The places of what the cells of every row hold, in a text that `csv.reader` takes as strict."""
    cell = re.compile(rf' *"([^"]*(?:""[^"]*)*)"|[^{re.escape(delimiter)}\r\n]*')
    while position < len(text):
        spans = []
        while True:
            match = cell.match(text, position)
            assert match is not None  # an empty cell matches
            position = match.end()
            start, end = match.span(match.lastindex or 0)
            held = text[start:end].lstrip()
            spans.append((end - len(held), end - len(held) + len(held.rstrip())))
            if not text.startswith(delimiter, position):
                break
            position += 1
        position += 2 if text.startswith("\r\n", position) else 1
        yield spans


@dataclass
class _Style:
    """How a column writes its values."""

    digits: int = DIGITS
    decimal: str = ""
    words: dict[float, str] = field(default_factory=dict)

    def write(self, value: float) -> str:
        if self.words:
            return self.words[float(value >= 0.5)]
        return format_number(value, self.digits).replace(".", self.decimal or ".")


def _find_styles(layout: TextLayout, places: Sequence[int], x: np.ndarray) -> list[_Style]:
    """The style of each column, by its known cells."""
    styles = [_Style(count_digits(column)) for column in x.T]
    pending = set(range(len(places)))  # columns whose style is not known yet
    for missing, (_, cells) in zip(np.isnan(x), layout.iterate_rows(), strict=True):
        for column in [column for column in pending if not missing[column]]:
            style, cell = styles[column], cells[places[column]]
            if cell.lower() in TRUTHS:  # then all of the column are
                style.words.setdefault(TRUTHS[cell.lower()], cell)
            elif layout.delimiter == ";":
                style.decimal = next((mark for mark in ",." if mark in cell), "")
            if len(style.words) == 2 or style.decimal or not (style.words or layout.delimiter == ";"):
                pending.remove(column)
        if not pending:
            break
    common = "," if any(style.decimal == "," for style in styles) else "."
    for style in styles:
        style.decimal, style.words = style.decimal or common, _complete_words(style.words)
    return styles


def _complete_words(words: dict[float, str]) -> dict[float, str]:
    """The words for true and false, the one that a column lacks in the letters of the other; none of none.

    >>> _complete_words({0.0: "FALSE"}), _complete_words({1.0: "True"})
    ({0.0: 'FALSE', 1.0: 'TRUE'}, {1.0: 'True', 0.0: 'False'})
    """
    for one, (other, word) in {1.0: (0.0, "false"), 0.0: (1.0, "true")}.items():
        if one in words and other not in words:
            known = words[one]
            words[other] = word.upper() if known.isupper() else word.title() if known.istitle() else word
    return words


def count_digits(column: np.ndarray) -> int:
    """Significant digits that show a column's variation with `DIGITS` digits: more where it varies little about a large value.

    >>> count_digits(np.array([0.5, 20.0, np.nan])), count_digits(np.array([1.7e9, 1.7e9 + 50]))
    (6, 13)
    """
    known = column[~np.isnan(column)]
    spread = np.ptp(known) if len(known) else 0.0
    return DIGITS + int(np.clip(np.floor(np.log10(np.abs(known).max() / spread)), 0, 10)) if spread > 0 else DIGITS


def format_number(value: float, digits: int = DIGITS) -> str:
    """A number with so many significant digits, without an exponent where that is short.

    >>> format_number(1234567.8), format_number(0.1 + 0.2), format_number(-2.0), format_number(1.5e-9)
    ('1234570', '0.3', '-2', '1.5e-09')
    """
    value = float(value) + 0.0  # no minus before zero
    if value and not 1e-5 <= abs(value) < 1e15:
        return f"{value:.{digits}g}"
    return np.format_float_positional(value, precision=digits, fractional=False, trim="-")


def fill_parquet(path: Path, part: Path, columns: Sequence[str], x: np.ndarray, filled: np.ndarray) -> None:
    """Writes a copy of a Parquet file with the missing cells of some columns filled; whole numbers become floats there.

    Arguments:
        part: of the copy. Others are as for `fill_csv`.

    Raises:
        DeviceError: without the extra "tables".
        ConfigError: for missing numbers of a list.
    """
    try:
        import pyarrow
        import pyarrow.parquet
        from pyarrow import types
    except ImportError as error:
        raise missing_extra("tables", f"reading {path}") from error
    with convert_errors(f"cannot read {path}", "It is damaged, incomplete or of another kind."):
        table: Any = pyarrow.parquet.read_table(path)
    for name, known, values in zip(columns, x.T, filled.T, strict=True):
        missing = np.isnan(known)
        if not missing.any():
            continue
        if name not in table.column_names:
            raise ConfigError(f"'{name}' of {path} is a number of a list, which cannot be filled. Save the table as CSV.")
        place = table.column_names.index(name)
        old = table.schema.field(place)
        complete = np.where(missing, values, known)
        if types.is_boolean(old.type):
            new = pyarrow.array(complete >= 0.5)
        elif types.is_floating(old.type):
            new = pyarrow.array(complete).cast(old.type)
        elif types.is_integer(old.type) or types.is_decimal(old.type) or types.is_null(old.type):
            new = pyarrow.array(complete)
        else:  # numbers as texts
            texts, digits = table.column(place).to_pylist(), count_digits(known)
            new = pyarrow.array([format_number(v, digits) if m else t for t, v, m in zip(texts, values, missing, strict=True)])
        table = table.set_column(place, old.with_type(new.type), new)
    pyarrow.parquet.write_table(table, part)
