"""pyro-hvae evaluate, metrics."""

import click

from pyro_hvae.cli.shared_options import SEED, emit, key_values, run_arguments

__all__ = ["evaluate_command", "metrics_command"]


@click.command(name="evaluate")
@run_arguments
@click.option(
    "--particles", type=int, default=5000, show_default=True, metavar="N", help="Importance samples per datum, exactly."
)
@click.option(
    "--inner", type=int, default=1, show_default=True, metavar="N", help="Particles in each for what the bound does not share."
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Take the likelihood of a seeded random subset.")
@click.option("--seed", type=SEED, default=0, show_default=True, metavar="N", help="Of the samples and the subset.")
@click.option(
    "--compile/--no-compile",
    default=None,
    help="Run the model as one compiled graph; default: where there are samples enough to pay for it.",
)
def evaluate_command(
    run: str,
    checkpoint: str,
    program: str | None,
    device: str,
    as_json: bool,
    particles: int,
    inner: int,
    limit: int | None,
    seed: int,
    compile: bool | None,
) -> None:
    """Test log-likelihood by importance sampling, bounds, rates and active units of RUN, in nats per datum.

    What is interrupted goes on when the same is asked again; a larger --limit goes on where a smaller one ended.

    \b
    Examples:
      pyro-hvae evaluate last --particles 5000
      pyro-hvae evaluate runs/vhp-pendulum-rewo-seed0 --limit 500 --json
    """
    from pyro_hvae.reports.run_report import evaluation_text, measure
    from pyro_hvae.runs.run_loading import open_run

    opened = open_run(run, checkpoint, program, device)
    how = {"compile": compile}
    values = measure(opened, "likelihood", how, particles=particles, inner=inner, limit=limit or 0, seed=seed)
    emit(values, as_json, evaluation_text(values))


@click.command(name="metrics")
@run_arguments
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("-o", "options", multiple=True, callback=key_values, metavar="KEY=VALUE", help="Option of a metric; repeatable.")
def metrics_command(
    run: str,
    names: tuple[str, ...],
    options: dict[str, str],
    checkpoint: str,
    program: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Measure RUN by one or more metrics ('pyro-hvae list metrics'); results are kept in RUN/eval.

    \b
    Examples:
      pyro-hvae metrics last angle interpolation
      pyro-hvae metrics last mig mig-sup factor -o points=20000 --json
    """
    from pyro_hvae.reports.run_report import measure_all, metrics_text
    from pyro_hvae.runs.run_loading import open_run

    values = measure_all(open_run(run, checkpoint, program, device), names, options)
    emit(values, as_json, metrics_text(values))
