"""The command `pyro-hvae list`."""

import click

from pyro_hvae.cli.shared_options import checked, emit, json_option
from pyro_hvae.errors import require_known

LISTS = ("recipes", "datasets", "schedules", "metrics")


@click.command(name="list")
@click.argument(
    "what", callback=checked(lambda name: require_known("list", name, LISTS)), metavar="recipes|datasets|schedules|metrics"
)
@json_option
def list_command(what: str, as_json: bool) -> None:
    """List recipes, datasets, schedules or metrics, with their options and defaults.

    The list of recipes ends with the likelihoods, priors, posteriors and networks, and with the options of training.

    \b
    Examples:
      pyro-hvae list recipes
      pyro-hvae list schedules --json
    """
    from pyro_hvae.reports import catalogue, catalogue_text

    values = catalogue(what)
    emit(values, as_json, catalogue_text(values))
