"""pyro-hvae traverse."""

from pathlib import Path

import click

from pyro_hvae.cli.shared_options import SEED, emit, runs_arguments

__all__ = ["traverse_command"]


@click.command(name="traverse")
@click.option("--image", type=int, default=0, show_default=True, metavar="I", help="Index of the test datum to start from.")
@click.option("--range", "reach", type=float, default=2.5, show_default=True, metavar="R", help="Noise goes from -R to R.")
@click.option("--steps", type=int, default=9, show_default=True, metavar="N", help="Images in a row.")
@click.option("--most", type=int, metavar="N", help="Show at most so many dimensions of a layer; default: all in use.")
@click.option("--draws", type=int, default=16, show_default=True, metavar="M", help="For layers above the first of a chain.")
@click.option("--seed", type=SEED, default=0, show_default=True, metavar="N", help="Of these draws.")
@runs_arguments
def traverse_command(
    runs: tuple[str, ...],
    image: int,
    reach: float,
    steps: int,
    most: int | None,
    draws: int,
    seed: int,
    picture: Path | None,
    checkpoint: str,
    program: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Vary one latent dimension of RUN at a time around the code of a test datum, and draw a row for each, runs side by side.

    The rows go from the top layer down, in each layer by the variance of posterior means over test data; dimensions whose
    variance is 0.01 or less are dead and left out. Runs side by side have to be of the same data.

    \b
    Examples:
      pyro-hvae traverse last
      pyro-hvae traverse runs/a runs/b --image 3 --most 4 --picture traversals.png
    """
    from pyro_hvae.plots.run_pictures import draw_traversals
    from pyro_hvae.runs.run_loading import open_run

    opened = [open_run(run, checkpoint, program, device) for run in runs]
    report = draw_traversals(opened, image, seed, picture, reach=reach, steps=steps, most=most, draws=draws)
    emit(report, as_json, report["text"])
