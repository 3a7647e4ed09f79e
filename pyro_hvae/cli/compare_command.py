"""pyro-hvae compare."""

from pathlib import Path

import click

from pyro_hvae.cli.shared_options import data_dir_option, emit, json_option
from pyro_hvae.errors import DataError

__all__ = ["compare_command"]


def _names(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[str]:
    """What several options, or commas, separate."""
    return [name.strip() for value in values for name in value.split(",")]


@click.command(name="compare")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    callback=_names,
    metavar="NAME[.KEY]",
    help="What to compare; repeatable. Default: angle on the pendulum, else likelihood.",
)
@click.option("--csv", type=click.Path(path_type=Path), metavar="FILE", help="Also write a row per run, numbers in full.")
@click.option("--picture", type=click.Path(path_type=Path), metavar="FILE.png", help="Also draw them (or .pdf, .svg).")
@click.option("--checkpoint", default="last", show_default=True, metavar="last|best", help="Which checkpoint.")
@click.option("--device", default="cpu", show_default=True, metavar="auto|cpu|cuda[:i]|mps", help="Where to compute.")
@json_option
@data_dir_option
def compare_command(
    runs: tuple[str, ...],
    metrics: list[str],
    csv: Path | None,
    picture: Path | None,
    checkpoint: str,
    device: str,
    as_json: bool,
) -> None:
    """Compare metrics over several runs: each run, and each method over its seeds, beside the paper's number.

    NAME is a metric's headline ('pyro-hvae list metrics'), NAME.KEY any number in its result, such as likelihood.elbo or
    likelihood.active_units.z1. What a run keeps of the same step is read, whatever its options; the rest is measured now.

    Two metrics are drawn against each other, others each in a panel of their own. The best of several seeds grows with
    their number: it stands beside the mean, never for it.

    \b
    Examples:
      pyro-hvae compare runs/*
      pyro-hvae compare runs/* --metric reconstruction,mig --picture figure2.png
      pyro-hvae compare runs/* --metric likelihood --metric likelihood.active_units.z1 --csv table.csv --json
    """
    from pyro_hvae.cli.requests import compare_runs

    values, text = compare_runs(runs, metrics, csv, picture, checkpoint, device, lambda line: click.echo(line, err=True))
    emit(values, as_json, text)
    if values["failed"]:
        raise DataError(f"not all could be had of {', '.join(values['failed'])}; the reasons are above.")
