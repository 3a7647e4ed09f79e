"""The command `pyro-hvae compare`."""

from pathlib import Path
from typing import Any

import click

from pyro_hvae.cli.early_checks import check_metrics, check_runs
from pyro_hvae.cli.shared_options import (
    COUNT,
    checkpoint_option,
    data_dir_option,
    device_option,
    emit,
    json_option,
    picture_option,
)
from pyro_hvae.errors import DataError


def _split_names(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[str]:
    """Names from several options and between commas."""
    return [name.strip() for value in values for name in value.split(",")]


@click.command(name="compare")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    callback=_split_names,
    metavar="NAME[.KEY]",
    help="Metric to compare; repeatable. Default: angle on the pendulum, else likelihood.",
)
@click.option("--csv", type=click.Path(path_type=Path), metavar="FILE", help="Also write a CSV file with a row per run.")
@picture_option("none")
@click.option("--particles", type=COUNT, metavar="N", help="Measure missing likelihoods with N samples per datum (else 5000).")
@click.option("--limit", type=COUNT, metavar="N", help="Measure missing likelihoods of N random test data.")
@checkpoint_option
@device_option
@json_option
@data_dir_option
def compare_command(runs: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Compare metrics of several runs, and of each method over its seeds, with the numbers of the papers.

    NAME is a metric's headline ('pyro-hvae list metrics'), NAME.KEY any number in its result, such as likelihood.elbo or
    likelihood.active_units.z1. Results that a run stores for the same step are read, whatever their options; the others are
    measured now. A likelihood takes minutes, so it is measured only with --particles or --limit. Values of different options
    or data are never averaged: each protocol has a row.

    The picture shows two metrics against each other, and any other number of metrics in a panel each. The best of several
    seeds improves with their number, so it stands beside the mean and does not replace it.

    \b
    Examples:
      pyro-hvae compare runs/*
      pyro-hvae compare runs/* --particles 500 --limit 200
      pyro-hvae compare runs/* --metric reconstruction,mig --picture figure2.png
      pyro-hvae compare runs/* --metric likelihood --metric likelihood.active_units.z1 --csv table.csv --json
    """
    check_runs(runs)  # one without a checkpoint does not stop the others
    check_metrics([name.partition(".")[0] for name in options["metrics"]], {})
    from pyro_hvae.reports import report_comparison

    values, text = report_comparison(runs, **options, tell=lambda line: click.echo(line, err=True))
    emit(values, as_json, text)
    if values["failed"]:
        raise DataError(f"some values of {', '.join(values['failed'])} are missing; the reasons are above.")
