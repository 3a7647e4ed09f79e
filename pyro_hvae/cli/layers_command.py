"""The command `pyro-hvae layers`."""

from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from pyro_hvae.cli.shared_options import COUNT, INDEX, SEED, Result, WholeNumber, given_option, picture_option, run_arguments
from pyro_hvae.errors import ConfigError

# parameter -> flag
RANDOM_OPTIONS = {"count": "--n", "outer": "--outer", "inner": "--inner"}
GRID_OPTIONS = {"cells": "--cells", "reach": "--reach"}


@click.command(name="layers")
@run_arguments
@click.option("--n", "count", type=COUNT, default=64, metavar="N", help="Samples in a panel.")
@click.option("--image", type=INDEX, metavar="I", help="Fix the other layers at the code of this test datum.")
@click.option("--site", metavar="SITE", help="Draw only this layer's panel.")
@click.option("--outer", type=WholeNumber(2), default=200, metavar="N", help="Draws of the other layers' noise.")
@click.option("--inner", type=WholeNumber(2), default=20, metavar="N", help="Draws of the layer's noise for each.")
@click.option("--grid", is_flag=True, help="Put the noise of each layer of two dimensions on a square grid.")
@click.option("--cells", type=WholeNumber(2, 50), default=20, metavar="N", help="With --grid: cells along each axis.")
@click.option("--reach", type=float, default=2.0, metavar="R", help="With --grid: noise from -R to R.")
@click.option("--seed", type=SEED, default=0, metavar="N", help="Seed of all draws.")
@given_option("in shares those of random training data, in pictures one of these, or that of the image")
@picture_option("in the run's figures")
def layers_command(open_run: Callable[[], Any], grid: bool, **options: Any) -> Result:
    """Sample the noise of one layer of RUN with the others fixed, draw it, and print each layer's share of the variance.

    With --grid the noise of each layer of two dimensions lies on a square grid instead, its first dimension from left to right
    and its second upwards. All other layers are drawn anew for every cell, unless --image fixes them.

    \b
    Examples:
      pyro-hvae layers last
      pyro-hvae layers last --image 3 --site z2
      pyro-hvae layers last --grid --cells 20
    """
    unused = RANDOM_OPTIONS if grid else GRID_OPTIONS
    _refuse(unused, grid)
    from pyro_hvae.reports import draw_layer_grids, draw_layers

    draw = draw_layer_grids if grid else draw_layers
    used = {name: value for name, value in options.items() if name not in unused}
    report = draw(open_run(), **used)
    return report, report["text"]


def _refuse(options: dict[str, str], grid: bool) -> None:
    """Raises `ConfigError` for options (parameter -> flag) that were typed but have no effect with, or without, --grid."""
    source = click.get_current_context().get_parameter_source
    if typed := [flag for name, flag in options.items() if source(name) is ParameterSource.COMMANDLINE]:
        which = "does not go with --grid, which draws no random samples: leave out" if grid else "needs --grid: add it to"
        raise ConfigError(f"{typed[0]} {which} {'it' if grid else 'the command'}.")
