"""The commands `pyro-hvae interpolate`, `sample` and `reconstruct`."""

from collections.abc import Callable
from typing import Any

import click

from pyro_hvae.cli.shared_options import (
    COUNT,
    INDEX,
    SEED,
    Result,
    WholeNumber,
    given_option,
    picture_option,
    run_arguments,
    runs_arguments,
)


@click.command(name="interpolate")
@run_arguments
@click.option("--nodes", type=WholeNumber(2), default=1000, metavar="N", help="Prior samples in the graph.")
@click.option("--k", type=COUNT, default=10, metavar="N", help="Neighbours of a node.")
@click.option("--seed", type=SEED, default=0, metavar="N", help="Seed of the prior samples.")
@click.option("--from", "first", type=INDEX, metavar="I", help="Index of a test datum; default: the data set's ends.")
@click.option("--to", "second", type=INDEX, metavar="J", help="Index of the last test datum.")
@given_option("that of the ends, which then have the same")
@picture_option("in the run's figures", several=True)
def interpolate_command(open_run: Callable[[], Any], **options: Any) -> Result:
    """Interpolate between two data of RUN along the shortest path of a graph of prior samples, and draw it.

    In a conditional RUN prior and decoder are under one condition. Its default ends are the first two data of one condition.

    \b
    Examples:
      pyro-hvae interpolate last
      pyro-hvae interpolate last --nodes 2000 --k 10 --from 3 --to 40 --picture path.pdf
    """
    from pyro_hvae.reports import draw_interpolation

    report = draw_interpolation(open_run(), **options)
    return report, report["text"]


@click.command(name="sample")
@run_arguments
@click.option("--n", "count", type=COUNT, default=64, metavar="N", help="Number of samples.")
@click.option("--seed", type=SEED, default=0, metavar="N", help="Seed of the samples.")
@given_option("those of random training data")
@picture_option("in the run's figures")
def sample_command(open_run: Callable[[], Any], **options: Any) -> Result:
    """Draw samples of RUN's generative model: E[x | z] of ancestral samples, and of a conditional RUN E[x | z, y].

    \b
    Examples:
      pyro-hvae sample last
      pyro-hvae sample last --n 100 --seed 1 --picture samples.pdf
      pyro-hvae sample last --given class=3
    """
    from pyro_hvae.reports import draw_samples

    report = draw_samples(open_run(), **options)
    return report, report["text"]


@click.command(name="reconstruct")
@click.option("--n", "count", type=COUNT, default=12, metavar="N", help="Number of test data.")
@given_option("that of each datum")
@picture_option("in the first run's figures")
@runs_arguments
def reconstruct_command(open_runs: Callable[[], list[Any]], **options: Any) -> Result:
    """Draw test data above their reconstructions by RUN, and print the errors. Several runs are drawn side by side.

    For a run on features, a further row shows what the features alone keep of the data, which is about the best that its
    reconstructions can be. Runs side by side must have the same data. With --given, codes of conditional runs are decoded under
    another condition than their data's.

    \b
    Examples:
      pyro-hvae reconstruct last --n 20
      pyro-hvae reconstruct runs/a runs/b --picture reconstructions.png
      pyro-hvae reconstruct last --given class=5
    """
    from pyro_hvae.reports import draw_reconstructions

    report = draw_reconstructions(open_runs(), **options)
    return report, report["text"]
