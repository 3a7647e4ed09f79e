"""The command `pyro-hvae report`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pyro_hvae.cli.shared_options import Result, overwrite_option, runs_arguments


@click.command(name="report")
@click.option("--out", type=click.Path(path_type=Path), default="report.html", metavar="FILE", help="The page, a .html file.")
@overwrite_option
@runs_arguments
def report_command(open_runs: Callable[[], list[Any]], out: Path, overwrite: bool, **options: Any) -> Result:
    """Write a page about RUN, or about several side by side: what was asked for, curves, pictures, every evaluation with its
    protocol and error, configuration and versions.

    The page is one file that any browser opens, without a server or a network, and that prints well.

    \b
    Examples:
      pyro-hvae report last
      pyro-hvae report runs/a runs/b --out comparison.html
    """
    from pyro_hvae.runtime import require_new_file

    require_new_file(out, overwrite)  # before the runs are opened, which takes seconds
    from pyro_hvae.reports import write_report

    report = write_report(open_runs(), out, overwrite=overwrite, **options)
    return report, report["text"]
