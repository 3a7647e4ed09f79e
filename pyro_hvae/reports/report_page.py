"""The report of runs as one page of HTML that needs no other file, no server and no network."""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pyro_hvae import __version__
from pyro_hvae.errors import DataError
from pyro_hvae.reports.curve_panels import curve_panels
from pyro_hvae.reports.explorer_content import explore
from pyro_hvae.reports.page_content import describe_data, describe_runs, find_differences
from pyro_hvae.reports.run_rows import protect_data
from pyro_hvae.runs import OpenRun
from pyro_hvae.runtime import atomic_write, require_new_file

PAGE_BYTES = 9_000_000  # without its texts
FOLDER = Path(__file__).parent / "page"


def write_report(
    runs: Sequence[OpenRun],
    out: Path,
    overwrite: bool = False,
    *,
    explorer: bool = True,
    points: int = 60_000,
    part: str | None = None,
    image: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """Writes a page about runs: what was asked for, curves, pictures, results with their protocol and error, configuration.

    Arguments:
        explorer: put a map of the codes into it. points: at most so many data on the maps of all runs. part, image, seed: as
            for `explore`.

    Raises:
        ConfigError, DataError: for a file that is there, cannot be written, or holds the data of a run; as `explore`.
    """
    require_new_file(out, overwrite)
    for run in runs:
        protect_data(run, out)
    contents = describe_runs(runs)
    names = [content.name for content in contents]
    rows = map(_read_rows, runs)
    explorers = list[dict[str, Any]]()
    budget = (PAGE_BYTES - sum(len(picture) for content in contents for picture in content.pictures.values())) // len(runs)
    for run, name in zip(runs, names, strict=True) if explorer else ():
        try:
            explorers.append({"name": name, **explore(run, budget, max(1, points // len(runs)), part, image, seed)})
        except DataError as error:  # an exported model has no data
            explorers.append({"name": name, "error": str(error)})
    page = render_page(
        explorers=explorers,
        contents=contents,
        differences=find_differences(contents),
        panels=curve_panels(dict(zip(names, rows, strict=True)), dict(zip(names, map(describe_data, runs), strict=True))),
    )
    with atomic_write(out, "Choose another place with --out.") as file:
        file.write_text(page, encoding="utf-8", errors="replace")
    report = {"out": str(out), "bytes": out.stat().st_size, "runs": [str(run.directory.path) for run in runs]}
    return report | {"text": f"Report: {out}, {report['bytes']:,} bytes. Open it in a browser."}


def _read_rows(run: OpenRun) -> list[dict[str, Any]]:
    """The metric rows of a run, or of its last stage where stages are of features: nats per patch and per map are no curve."""
    rows = run.directory.rows()
    return [row for row in rows if row["stage"] == len(run.stages) - 1] if run.stage.pixels else rows


def render_page(**values: Any) -> str:
    """The page of values, all of whose texts are escaped. The browser runs no script but ours, and asks no network."""
    from markupsafe import Markup

    script, style = ((FOLDER / name).read_text(encoding="utf-8") for name in ("explorer.js", "report.css"))
    checksum = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{checksum}'"
    return _template().render(script=Markup(script), style=Markup(style), policy=policy, version=__version__, **values)


@cache
def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["words"] = lambda name: name.replace("_", " ")
    return environment.get_template("report.html")
