"""The command `pyro-hvae impute`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pyro_hvae.cli.shared_options import COUNT, SEED, Result, WholeNumber, run_arguments


@click.command(name="impute")
@run_arguments
@click.argument("source", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The filled copy.")
@click.option("--draws", type=COUNT, metavar="N", help="N copies with draws, FILE-1, FILE-2, ...; default: one with means.")
@click.option("--particles", type=WholeNumber(2), default=1000, metavar="N", help="Importance samples per row.")
@click.option("--seed", type=SEED, default=0, metavar="N", help="Seed of the samples.")
@click.option("--overwrite", is_flag=True, help="Replace copies that are there.")
def impute_command(open_run: Callable[[], Any], draws: int | None, **options: Any) -> Result:
    """Fill the missing entries of FILE by RUN: means, or draws for multiple imputation, given the observed entries.

    FILE is a table with the columns of RUN's data (in any order, others do not matter) or a file of arrays of their shape.
    Empty cells and NaN are missing. Only they change: units, classes, quotes and all other columns stay as they are.

    \b
    Examples:
      pyro-hvae impute last patients.csv --out filled.csv
      pyro-hvae impute last patients.csv --out filled.csv --draws 5 --seed 1
    """
    from pyro_hvae.data import check_copy
    from pyro_hvae.reports import fill_file

    if not draws:  # before the run is opened, which takes seconds
        check_copy(options["source"], options["out"], options["overwrite"])
    report = fill_file(open_run(), draws=draws or 0, **options)
    return report, report["text"]
