"""The commands `pyro-hvae data list`, `info`, `download`, `verify` and `preview`."""

from pathlib import Path
from typing import Any

import click

from pyro_hvae.cli.early_checks import check_dataset
from pyro_hvae.cli.shared_options import SEED, WholeNumber, checked, data_dir_option, data_options, emit, json_option
from pyro_hvae.errors import DataError, require_known
from pyro_hvae.plots import check_picture_path


@click.group(name="data")
def data_command() -> None:
    """List, describe, download, verify and preview data sets.

    \b
    Examples:
      pyro-hvae data list
      pyro-hvae data info mnist -o binarize=dynamic
      pyro-hvae data preview sprites --out sprites.png
    """


@data_command.command(name="list")
@json_option
@data_dir_option
def list_data(as_json: bool) -> None:
    """List all data sets, with their source and whether their files are here.

    \b
    Examples:
      pyro-hvae data list
    """
    from pyro_hvae.reports import dataset_list_text, list_datasets

    values = list_datasets()
    emit(values, as_json, dataset_list_text(values))


@data_command.command(name="info")
@click.argument("name")
@data_options
@json_option
@data_dir_option
def info_data(name: str, options: dict[str, str], as_json: bool) -> None:
    """Describe data set NAME, or your own data at a path: counts, splits, shape, range, factors.

    \b
    Examples:
      pyro-hvae data info pendulum
      pyro-hvae data info my/images -o size=32
    """
    check_dataset(name, options)
    from pyro_hvae.reports import dataset_text, describe_dataset

    values = describe_dataset(name, options)
    emit(values, as_json, dataset_text(values))


@data_command.command(name="download")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@json_option
@data_dir_option
def download_data(names: tuple[str, ...], as_json: bool) -> None:
    """Download the files of data sets that are not here yet, and check them.

    \b
    Examples:
      pyro-hvae data download mnist fashion-mnist
    """
    for name in names:
        check_dataset(name, {})
    from pyro_hvae.reports import download_datasets, download_text

    values = download_datasets(names)
    emit(values, as_json, download_text(values))


@data_command.command(name="verify")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@json_option
@data_dir_option
def verify_data(names: tuple[str, ...], as_json: bool) -> None:
    """Check that the files of data sets have their published checksums, and that the data load.

    \b
    Examples:
      pyro-hvae data verify mnist mnist-static
    """
    for name in names:
        check_dataset(name, {})
    from pyro_hvae.reports import verification_text, verify_datasets

    values = verify_datasets(names)
    emit(values, as_json, verification_text(values))
    if values["wrong"]:
        raise DataError(" ".join(values["wrong"].values()))


@data_command.command(name="preview")
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="preview.png",
    callback=checked(lambda path: check_picture_path(path, "--out")),
    metavar="FILE",
    help="Picture, a .png, .pdf or .svg file.",
)
@click.option("--n", "count", type=WholeNumber(1, 2_500), default=64, metavar="N", help="Number of data.")
@click.option(
    "--split",
    default="training",
    callback=checked(lambda name: require_known("split", name, ("training", "validation", "test"))),
    metavar="training|validation|test",
    help="Split of the data.",
)
@click.option("--seed", type=SEED, default=0, metavar="N", help="Seed of the choice.")
@data_options
@json_option
@data_dir_option
def preview_data(name: str, as_json: bool, **settings: Any) -> None:
    """Draw a contact sheet of data set NAME, or of your own data at a path.

    \b
    Examples:
      pyro-hvae data preview digits --out digits.png
      pyro-hvae data preview my/images -o size=64 --n 100
    """
    check_dataset(name, settings["options"])
    from pyro_hvae.reports import preview_dataset

    values = preview_dataset(name, **settings)
    emit(values, as_json, f"Picture: {values['figure']}")
