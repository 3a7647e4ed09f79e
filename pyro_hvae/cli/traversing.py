"""pyro-hvae traverse."""

from pathlib import Path

import click

from pyro_hvae.cli.options import SEED, data_dir_option, emit, json_option

__all__ = ["traverse_command"]


@click.command(name="traverse")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--image", type=int, default=0, show_default=True, metavar="I", help="Index of the test datum to start from.")
@click.option("--range", "reach", type=float, default=2.5, show_default=True, metavar="R", help="Noise goes from -R to R.")
@click.option("--steps", type=int, default=9, show_default=True, metavar="N", help="Images in a row.")
@click.option("--most", type=int, metavar="N", help="Show at most so many dimensions of a layer; default: all in use.")
@click.option("--draws", type=int, default=16, show_default=True, metavar="M", help="For layers above the first of a chain.")
@click.option("--seed", type=SEED, default=0, show_default=True, metavar="N", help="Of these draws.")
@click.option("--picture", type=click.Path(path_type=Path), metavar="FILE.png", help="Default: in the first run's figures.")
@click.option("--checkpoint", default="last", show_default=True, metavar="last|best", help="Which checkpoint.")
@click.option("--program", metavar="FILE.py:FUNCTION", help="The pair of a run of your own program (runs your code).")
@click.option("--device", default="cpu", show_default=True, metavar="auto|cpu|cuda[:i]|mps", help="Where to compute.")
@json_option
@data_dir_option
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
    from pyro_hvae.opened import open_run
    from pyro_hvae.pictures import draw_traversals

    opened = [open_run(run, checkpoint, program, device) for run in runs]
    report = draw_traversals(opened, image, seed, picture, reach=reach, steps=steps, most=most, draws=draws)
    emit(report, as_json, report["text"])
