"""The report of a comparison of runs: text, a CSV file and a picture."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from pyro_hvae.errors import DataError
from pyro_hvae.reports.comparison_table import compare
from pyro_hvae.reports.text_table import describe_headline, format_table
from pyro_hvae.runtime import atomic_write


def report_comparison(
    runs: Sequence[str],
    metrics: Sequence[str] = (),
    csv: Path | None = None,
    picture: Path | None = None,
    checkpoint: str = "last",
    device: str = "cpu",
    tell: Callable[[str], Any] = lambda text: None,
    **options: int | None,
) -> tuple[dict[str, Any], str]:
    """Returns the result of `compare` with its `options` and its text, and writes the CSV file and the picture.

    Raises:
        ConfigError, DataError: as `compare`; before anything is measured, for files that cannot be written.
    """
    from pyro_hvae.plots import check_picture_path, plot_comparison, save_figure  # matplotlib takes a second

    if picture:
        check_picture_path(picture)
    for path in filter(None, (csv, picture)):
        _require_writable(path)
    values = compare(runs, metrics, checkpoint, device, tell, **options)
    text = comparison_text(values)
    if csv:
        values["csv"] = str(write_csv(values, csv))
        text += f"\n\nTable: {csv}"
    if picture:
        values["picture"] = str(save_figure(plot_comparison(values), picture))
        text += f"\n\nPicture: {picture}"
    return values, text


def _require_writable(path: Path) -> None:
    """Raises `DataError` for a file that cannot be written, before hours of computation."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise DataError(f"cannot write '{path}': it is no file. Choose another place.")
        with open(path, "ab") if path.exists() else TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise DataError(f"cannot write '{path}': {error.strerror}. Choose another place.") from error


def comparison_text(values: Mapping[str, Any]) -> str:
    """Tables of the result of `compare`: the runs, then for each metric the methods."""
    fixed = ("run", "data", "method", "seed")
    rows = ({**{key: row[key] for key in fixed}, **_protocol_cells(row, values), **row["values"]} for row in values["runs"])
    blocks = [format_table(rows)]
    for name, about in values["metrics"].items():
        mine = [row for row in values["methods"] if row["metric"] == name]
        hidden = {"metric"} if any(row["protocol"] for row in mine) else {"metric", "protocol"}
        rows = [{key: value for key, value in row.items() if key not in hidden} for row in mine]
        title = f"{name} ({describe_headline(about['key'], about['unit'], better=about['better'])})"
        blocks.append(f"{title}\n{format_table(rows) or 'no run has a value'}")
    return "\n\n".join(blocks)


def _protocol_cells(row: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, str]:
    """The protocols of a run's values, in a table where any differ."""
    if not any(text for other in values["runs"] for text in other["protocol"].values()):
        return {}
    parts = {metric: text for metric, text in row["protocol"].items() if text}
    return {"protocol": "; ".join(f"{metric}: {text}" if len(row["protocol"]) > 1 else text for metric, text in parts.items())}


def write_csv(values: Mapping[str, Any], path: Path) -> Path:
    """Writes a row for each run and a column for each metric, with all digits; missing values are empty. Where values were
    measured differently, a last column says how.

    Raises:
        DataError: when the file cannot be written.
    """
    fixed = ("run", "path", "data", "method", "seed", "step")
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    more = ["protocol"] if any(_protocol_cells(row, values) for row in values["runs"]) else []
    writer.writerow([*fixed, *values["metrics"], *more])
    for row in values["runs"]:
        writer.writerow([*(row[key] for key in fixed), *row["values"].values(), *_protocol_cells(row, values).values()])
    with atomic_write(path, "Choose another place with --csv.") as part:
        part.write_bytes(text.getvalue().encode(errors="surrogateescape"))
    return path
