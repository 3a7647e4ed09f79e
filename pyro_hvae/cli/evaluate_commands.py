"""The commands `pyro-hvae evaluate` and `pyro-hvae metrics`."""

from collections.abc import Callable
from typing import Any

import click

from pyro_hvae.cli.early_checks import check_metrics
from pyro_hvae.cli.shared_options import COUNT, SEED, Result, key_values, run_arguments


@click.command(name="evaluate")
@run_arguments
@click.option("--particles", type=COUNT, default=5000, metavar="N", help="Importance samples per datum.")
@click.option("--inner", type=COUNT, default=1, metavar="N", help="Particles in each sample for unshared sites.")
@click.option("--limit", type=COUNT, metavar="N", help="Likelihood of N random test data; bounds are of all.")
@click.option("--seed", type=SEED, default=0, metavar="N", help="Seed of the samples and of the subset.")
@click.option(
    "--compile/--no-compile",
    default=None,
    help="Run the model as one compiled graph; default: where there are enough samples to gain time.",
)
def evaluate_command(open_run: Callable[[], Any], limit: int | None, compile: bool | None, **options: Any) -> Result:
    """Test log-likelihood by importance sampling, bounds, rates and active units of RUN, in nats per datum.

    An interrupted evaluation continues when the same command runs again. A larger --limit continues where a smaller one ended.

    \b
    Examples:
      pyro-hvae evaluate last --particles 5000
      pyro-hvae evaluate runs/vhp-pendulum-rewo-seed0 --limit 500 --json
    """
    from pyro_hvae.reports import evaluation_text, measure_metric

    values = measure_metric(open_run(), "likelihood", {"compile": compile}, limit=limit or 0, **options)
    return values, evaluation_text(values)


@click.command(name="metrics")
@run_arguments
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("-o", "options", multiple=True, callback=key_values, metavar="KEY=VALUE", help="Option of a metric; repeatable.")
def metrics_command(open_run: Callable[[], Any], names: tuple[str, ...], options: dict[str, str]) -> Result:
    """Measure RUN by one or more metrics ('pyro-hvae list metrics'). The results are stored in RUN/eval.

    Of several metrics, one that does not apply to RUN is named, with exit code 2, and the others are measured.

    \b
    Examples:
      pyro-hvae metrics last angle interpolation
      pyro-hvae metrics last mig mig-sup factor -o points=20000 --json
    """
    check_metrics(names, options)
    from pyro_hvae.reports import describe_errors, measure_metrics, metrics_text

    values = measure_metrics(open_run(), names, options)
    return values, metrics_text(values), describe_errors(values)
