"""The command `pyro-hvae traverse`."""

from collections.abc import Callable
from typing import Any

import click

from pyro_hvae.cli.shared_options import COUNT, INDEX, SEED, Result, WholeNumber, given_option, picture_option, runs_arguments


@click.command(name="traverse")
@click.option("--image", type=INDEX, default=0, metavar="I", help="Index of the test datum to start from.")
@click.option("--range", "reach", type=float, default=2.5, metavar="R", help="Vary the noise from -R to R.")
@click.option("--steps", type=WholeNumber(2, 100), default=9, metavar="N", help="Images in a row.")
@click.option("--most", type=COUNT, default=8, metavar="N", help="Largest number of dimensions of a layer.")
@click.option("--draws", type=COUNT, default=16, metavar="M", help="Draws for layers above the first of a chain.")
@click.option("--seed", type=SEED, default=0, metavar="N", help="Seed of these draws and of the test data.")
@given_option("that of the test datum")
@picture_option("in the first run's figures")
@runs_arguments
def traverse_command(open_runs: Callable[[], list[Any]], **options: Any) -> Result:
    """Vary one latent dimension of RUN at a time around the code of a test datum, and draw a row for each dimension.

    The rows go from the top layer down, and in each layer from the largest variance of posterior means over test data down.
    Dimensions whose variance is 0.01 or less are dead and left out, and of a layer at most 8 are drawn (--most); the picture
    says how many it leaves out. Several runs are drawn side by side; they must have the
    same data.

    \b
    Examples:
      pyro-hvae traverse last
      pyro-hvae traverse runs/a runs/b --image 3 --most 4 --picture traversals.png
    """
    from pyro_hvae.reports import draw_traversals

    report = draw_traversals(open_runs(), **options)
    return report, report["text"]
