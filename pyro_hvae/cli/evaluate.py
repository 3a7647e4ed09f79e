"""pyro-hvae evaluate, metrics, compare."""

import click

from pyro_hvae.cli.options import SEED, emit, json_option, run_arguments

__all__ = ["compare_command", "evaluate_command", "metrics_command"]


@click.command(name="evaluate")
@run_arguments
@click.option(
    "--particles", type=int, default=5000, show_default=True, metavar="N", help="Importance samples per datum, exactly."
)
@click.option("--limit", type=int, metavar="N", help="Evaluate a seeded random subset of the test split.")
@click.option("--seed", type=SEED, default=0, show_default=True, metavar="N", help="Of the samples and the subset.")
def evaluate_command(
    run: str, checkpoint: str, program: str | None, device: str, as_json: bool, particles: int, limit: int | None, seed: int
) -> None:
    """Test log-likelihood by importance sampling, bound, rate per site and active units of RUN, in nats per datum.

    \b
    Examples:
      pyro-hvae evaluate last --particles 5000
      pyro-hvae evaluate runs/vhp-pendulum-rewo-seed0 --limit 500 --json
    """
    from pyro_hvae import commands
    from pyro_hvae.experiments import open_run
    from pyro_hvae.reporting import evaluation_text

    values = commands.evaluate_run(open_run(run, checkpoint, program, device), particles, limit, seed)
    emit(values, as_json, evaluation_text(values))


@click.command(name="metrics")
@run_arguments
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def metrics_command(run: str, names: tuple[str, ...], checkpoint: str, program: str | None, device: str, as_json: bool) -> None:
    """Measure RUN by one or more metrics ('pyro-hvae list metrics'); results are kept in RUN/eval.

    \b
    Examples:
      pyro-hvae metrics last angle
      pyro-hvae metrics last angle interpolation --json
    """
    from pyro_hvae.experiments import open_run
    from pyro_hvae.reporting import measure_all, metrics_text

    values = measure_all(open_run(run, checkpoint, program, device), names)
    emit(values, as_json, metrics_text(values))


@click.command(name="compare")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--metric", default="angle", show_default=True, metavar="NAME", help="What to compare.")
@json_option
def compare_command(runs: tuple[str, ...], metric: str, as_json: bool) -> None:
    """Compare one metric over several runs: each run, and each method over its seeds, beside the paper's number.

    \b
    Examples:
      pyro-hvae compare runs/*
      pyro-hvae compare runs/vhp-pendulum-rewo-seed0 runs/iwae-pendulum-constant-seed0 --json
    """
    from pyro_hvae.reporting import compare, compare_text

    values = compare(runs, metric)
    emit(values, as_json, compare_text(values))
