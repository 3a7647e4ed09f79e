"""pyro-hvae layers."""

import click
from click.core import ParameterSource

from pyro_hvae.cli.shared_options import SEED, emit, run_arguments
from pyro_hvae.errors import ConfigError

__all__ = ["layers_command"]


@click.command(name="layers")
@run_arguments
@click.option("--n", "count", type=int, default=64, show_default=True, metavar="N", help="Samples in a panel.")
@click.option("--image", type=int, metavar="I", help="Fix the other layers at the code of this test datum.")
@click.option("--site", metavar="SITE", help="Draw only this layer's panel.")
@click.option("--outer", type=int, default=200, show_default=True, metavar="N", help="Draws of the other layers' noise.")
@click.option("--inner", type=int, default=20, show_default=True, metavar="N", help="Draws of the layer's noise for each.")
@click.option("--grid", is_flag=True, help="Systematically: over a square grid of each layer of two dimensions.")
@click.option("--cells", type=int, default=20, show_default=True, metavar="N", help="With --grid: cells along each axis.")
@click.option("--reach", type=float, default=2.0, show_default=True, metavar="R", help="With --grid: noise from -R to R.")
@click.option("--seed", type=SEED, default=0, show_default=True, metavar="N", help="Of all draws.")
def layers_command(
    run: str,
    checkpoint: str,
    program: str | None,
    device: str,
    as_json: bool,
    count: int,
    image: int | None,
    site: str | None,
    outer: int,
    inner: int,
    grid: bool,
    cells: int,
    reach: float,
    seed: int,
) -> None:
    """Sample the noise of one layer of RUN with the others fixed, draw it, and print each layer's share of the variance.

    With --grid the noise of a layer of two dimensions goes over a square grid instead, its first dimension from left to right
    and its second upwards, and all other layers are drawn anew for every cell, unless --image fixes them.

    \b
    Examples:
      pyro-hvae layers last
      pyro-hvae layers last --image 3 --site z2
      pyro-hvae layers last --grid --cells 20
    """
    from pyro_hvae.plots.run_pictures import draw_layer_grids, draw_layers
    from pyro_hvae.runs.run_loading import open_run

    _refuse(
        {"count": "--n", "outer": "--outer", "inner": "--inner"} if grid else {"cells": "--cells", "reach": "--reach"}, grid
    )
    opened = open_run(run, checkpoint, program, device)
    if grid:
        report = draw_layer_grids(opened, cells, reach, seed, image, site)
    else:
        report = draw_layers(opened, count, seed, image, site, outer, inner)
    emit(report, as_json, report["text"])


def _refuse(options: dict[str, str], grid: bool) -> None:
    """Raises `ConfigError` for options, parameter -> flag, that were typed but mean nothing with, or without, --grid."""
    source = click.get_current_context().get_parameter_source
    if typed := [flag for name, flag in options.items() if source(name) is ParameterSource.COMMANDLINE]:
        which = "does not go with --grid, which draws no random samples: leave out" if grid else "needs --grid: add it to"
        raise ConfigError(f"{typed[0]} {which} {'it' if grid else 'the command'}.")
