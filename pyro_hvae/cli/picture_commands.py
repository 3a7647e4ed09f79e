"""The commands `pyro-hvae interpolate`, `sample` and `reconstruct`."""

from typing import Any

import click

from pyro_hvae.cli.shared_options import SEED, emit, run_arguments, runs_arguments


@click.command(name="interpolate")
@run_arguments
@click.option("--nodes", type=int, default=1000, show_default=True, metavar="N", help="Prior samples in the graph.")
@click.option("--k", type=int, default=10, show_default=True, metavar="N", help="Neighbours of a node.")
@click.option("--seed", type=SEED, default=0, show_default=True, metavar="N", help="Seed of the prior samples.")
@click.option("--from", "first", type=int, metavar="I", help="Index of a test datum; default: the data set's ends.")
@click.option("--to", "second", type=int, metavar="J", help="Index of the last test datum.")
def interpolate_command(run: str, checkpoint: str, program: str | None, device: str, as_json: bool, **options: Any) -> None:
    """Interpolate between two data of RUN along the shortest path of a graph of prior samples, and draw it.

    \b
    Examples:
      pyro-hvae interpolate last
      pyro-hvae interpolate last --nodes 2000 --k 10 --from 3 --to 40
    """
    from pyro_hvae.reports import draw_interpolation
    from pyro_hvae.runs import open_run

    report = draw_interpolation(open_run(run, checkpoint, program, device), **options)
    emit(report, as_json, report["text"])


@click.command(name="sample")
@run_arguments
@click.option("--n", "count", type=int, default=64, show_default=True, metavar="N", help="Number of samples.")
@click.option("--seed", type=SEED, default=0, show_default=True, metavar="N", help="Seed of the samples.")
def sample_command(run: str, checkpoint: str, program: str | None, device: str, as_json: bool, **options: Any) -> None:
    """Draw samples of RUN's generative model.

    \b
    Examples:
      pyro-hvae sample last
      pyro-hvae sample last --n 100 --seed 1
    """
    from pyro_hvae.reports import draw_samples
    from pyro_hvae.runs import open_run

    report = draw_samples(open_run(run, checkpoint, program, device), **options)
    emit(report, as_json, report["text"])


@click.command(name="reconstruct")
@click.option("--n", "count", type=int, default=12, show_default=True, metavar="N", help="Number of test data.")
@runs_arguments
def reconstruct_command(
    runs: tuple[str, ...], checkpoint: str, program: str | None, device: str, as_json: bool, **options: Any
) -> None:
    """Draw test data above their reconstructions by RUN, and print the errors. Several runs are drawn side by side.

    For a run on features, a further row shows what the features alone keep of the data, which is about the best that its
    reconstructions can be. Runs side by side must have the same data.

    \b
    Examples:
      pyro-hvae reconstruct last --n 20
      pyro-hvae reconstruct runs/a runs/b --picture reconstructions.png
    """
    from pyro_hvae.reports import draw_reconstructions
    from pyro_hvae.runs import open_run

    report = draw_reconstructions([open_run(run, checkpoint, program, device) for run in runs], **options)
    emit(report, as_json, report["text"])
