"""Tables of runs and their histories in notebooks."""

from collections.abc import Mapping
from html import escape


def html_table(caption: str, values: Mapping[str, object]) -> str:
    """One row of named values as an HTML table.

    >>> html_table("a < b", {"step": 5})
    '<table><caption>a &lt; b</caption><tr><th>step</th></tr><tr><td>5</td></tr></table>'
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in values)
    cells = "".join(f"<td>{escape(str(value))}</td>" for value in values.values())
    return f"<table><caption>{escape(caption)}</caption><tr>{head}</tr><tr>{cells}</tr></table>"
