"""The commands `pyro-hvae encode`, `decode` and `score`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pyro_hvae.cli.shared_options import COUNT, INDEX, SEED, Result, given_option, overwrite_option, run_arguments

FILE = click.Path(path_type=Path)
data_argument = click.argument("source", type=FILE, required=False, metavar="[DATA]")


def part_option(default: str) -> Callable[[Any], Any]:
    """The option --part, whose help says which part is the default."""
    help = f"Of the run's own data; default: {default}."
    return click.option("--part", metavar="training|validation|test|all", help=help)


@click.command(name="encode")
@run_arguments
@data_argument
@click.option("--out", type=FILE, required=True, metavar="FILE", help="A .npz, .csv, .tsv, .parquet or .h5ad file.")
@click.option("--layers", metavar="z1,z2,...", help="Some layers only; default: all.")
@click.option("--draws", type=INDEX, default=0, metavar="N", help="Draws of q(z | x) of each datum beside its mean.")
@part_option("all")
@click.option("--seed", type=SEED, default=0, metavar="N", help="Seed of the draws.")
@overwrite_option
def encode_command(open_run: Callable[[], Any], layers: str | None, **options: Any) -> Result:
    """Codes of data by RUN: means and standard deviations of q(z | x) of every layer, beside identifiers and classes.

    Without DATA they are those of the run's own data, with the part and the row of each. DATA is a table with the columns of
    RUN's data (in any order; all others are carried along), an AnnData file, or arrays of their shape.

    \b
    Examples:
      pyro-hvae encode last --out codes.npz
      pyro-hvae encode last patients.csv --out codes.csv --layers z1,z2
      pyro-hvae encode last cells.h5ad --out codes.h5ad --draws 10
    """
    from pyro_hvae.data import check_row_file
    from pyro_hvae.reports import encode_file

    check_row_file(options["out"], options["overwrite"])  # before the run is opened, which takes seconds
    names = None if layers is None else [name.strip() for name in layers.split(",") if name.strip()]
    report = encode_file(open_run(), layers=names, **options)
    return report, report["text"]


@click.command(name="decode")
@run_arguments
@click.argument("source", type=FILE, metavar="CODES")
@click.option("--out", type=FILE, required=True, metavar="FILE", help="A .npy, .npz, .csv, .tsv, .parquet or .h5ad file.")
@given_option("that beside each code")
@click.option("--draw", is_flag=True, help="Draw layers that CODES lack; default: their means given the layers above.")
@click.option("--seed", type=SEED, default=0, metavar="N", help="Seed of these draws.")
@overwrite_option
def decode_command(open_run: Callable[[], Any], **options: Any) -> Result:
    """Data of codes by RUN: E[x | z] of the means in a file that `encode` wrote, in the units of RUN's data.

    CODES may also be your own: arrays z1, z2, ... or columns z1_0, z1_1, ... of a row for each datum. Other columns, such as
    rows, identifiers and classes, are carried along (not into a .npy).

    \b
    Examples:
      pyro-hvae decode last codes.npz --out decoded.npy
      pyro-hvae decode last codes.csv --out decoded.csv --given class=3
    """
    from pyro_hvae.data import check_data_file
    from pyro_hvae.reports import decode_file

    check_data_file(options["out"], options["overwrite"])
    report = decode_file(open_run(), **options)
    return report, report["text"]


@click.command(name="score")
@run_arguments
@data_argument
@click.option("--out", type=FILE, metavar="FILE", help="All scores: a .npz, .csv, .tsv, .parquet or .h5ad file.")
@click.option("--particles", type=INDEX, default=100, metavar="N", help="Importance samples per datum; 0: the bound alone.")
@click.option("--inner", type=COUNT, default=1, metavar="N", help="Particles in each sample for unshared sites.")
@click.option("--draws", type=COUNT, default=16, metavar="N", help="Draws for the bound and its parts.")
@part_option("test")
@click.option("--lowest", type=INDEX, default=5, metavar="N", help="How many outliers to name.")
@click.option("--seed", type=SEED, default=0, metavar="N", help="Seed of samples and draws.")
@overwrite_option
def score_command(open_run: Callable[[], Any], **options: Any) -> Result:
    """Scores of single data by RUN in nats: log p(x), the bound, distortion and the rate of each layer; lowest are outliers.

    DATA as in `encode`; without it the run's own data. The log-likelihood is importance-sampled, the bound has one particle.

    \b
    Examples:
      pyro-hvae score last
      pyro-hvae score last patients.csv --out scores.csv --particles 1000
    """
    from pyro_hvae.data import check_row_file
    from pyro_hvae.reports import score_file

    if options["out"]:
        check_row_file(options["out"], options["overwrite"])
    report = score_file(open_run(), **options)
    return report, report["text"]
