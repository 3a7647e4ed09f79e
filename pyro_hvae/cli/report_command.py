"""The command `pyro-hvae report`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pyro_hvae.cli.code_commands import part_option
from pyro_hvae.cli.shared_options import COUNT, INDEX, SEED, Result, overwrite_option, runs_arguments


@click.command(name="report")
@click.option("--out", type=click.Path(path_type=Path), default="report.html", metavar="FILE", help="The page, a .html file.")
@overwrite_option
@click.option("--points", type=COUNT, default=60_000, metavar="N", help="Most data on the maps of all runs.")
@part_option("all")
@click.option("--image", type=INDEX, default=0, metavar="I", help="Test datum whose code is held where one layer varies.")
@click.option("--seed", type=SEED, default=0, metavar="N", help="Seed of the choice of data and of the prior samples.")
@click.option("--explorer/--no-explorer", default=True, help="Put the map of the codes into the page.")
@runs_arguments
def report_command(open_runs: Callable[[], list[Any]], out: Path, overwrite: bool, **options: Any) -> Result:
    """Write a page about RUN, or about several side by side: what was asked for, curves, pictures, every evaluation with its
    protocol and error, configuration and versions.

    The page is one file below 10 MB that any browser opens, without a server or a network, and that prints well. Its explorer
    shows the codes of the data on a map: point at a datum to see it and its reconstruction, click to decode a place, move the
    slider of a layer, choose two data to see the graph path between them.

    \b
    Examples:
      pyro-hvae report last
      pyro-hvae report last --points 5000 --part test --overwrite
      pyro-hvae report runs/a runs/b --out comparison.html
    """
    from pyro_hvae.runtime import require_new_file

    require_new_file(out, overwrite)  # before the runs are opened, which takes seconds
    from pyro_hvae.reports import write_report

    report = write_report(open_runs(), out, overwrite=overwrite, **options)
    return report, report["text"]
