"""Tables of aligned columns in plain text, and the values in them."""

from collections.abc import Iterable, Mapping
from typing import Any


def format_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Formats dicts with equal keys as the rows of a table.

    >>> print(format_table([{"name": "a", "value": 0.123456}, {"name": "bc", "value": None}]))
    name  value
    a     0.1235
    bc    -
    """
    rows = list(rows)
    if not rows:
        return ""
    lines = [list(rows[0]), *([format_number(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def format_number(value: Any) -> str:
    """Four significant digits of a float, a dash for None, else the value as text."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def format_option(value: Any) -> str:
    """A list with commas, else the value as text: the form in which `-o` takes it."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def describe_headline(*parts: str, better: str) -> str:
    """Notes on a metric's headline, such as its unit, and its better direction; empty ones are left out."""
    return ", ".join(filter(None, (*parts, better and f"{better} is better")))
