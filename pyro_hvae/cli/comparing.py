"""pyro-hvae compare."""

from pathlib import Path
from tempfile import TemporaryFile

import click

from pyro_hvae.cli.options import data_dir_option, emit, json_option
from pyro_hvae.errors import ConfigError, DataError

__all__ = ["compare_command"]

PICTURES = (".png", ".pdf", ".svg")


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
    from pyro_hvae.comparison import compare, compare_text, comparison_figure, write_csv
    from pyro_hvae.figures import save

    if picture and picture.suffix.lower() not in PICTURES:
        raise ConfigError(
            f"--picture is the name of a {', '.join(PICTURES)} file, got '{picture}'. Example: --picture mig.png."
        )
    for path in filter(None, (csv, picture)):
        _require_place(path)
    values = compare(runs, metrics, checkpoint, device, lambda text: click.echo(text, err=True))
    text = compare_text(values)
    if csv:
        values["csv"] = str(write_csv(values, csv))
        text += f"\n\nTable: {csv}"
    if picture:
        values["picture"] = str(save(comparison_figure(values), picture))
        text += f"\n\nPicture: {picture}"
    emit(values, as_json, text)
    if values["failed"]:
        raise DataError(f"not all could be had of {', '.join(values['failed'])}; the reasons are above.")


def _require_place(path: Path) -> None:
    """Raises `DataError` for a file that cannot be written, before hours go into what it is to hold."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise DataError(f"cannot write '{path}': it is no file. Choose another place.")
        with open(path, "ab") if path.exists() else TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise DataError(f"cannot write '{path}': {error.strerror}. Choose another place.") from error
