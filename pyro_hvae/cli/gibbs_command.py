"""The command `pyro-hvae gibbs`."""

from collections.abc import Callable
from typing import Any

import click

from pyro_hvae.cli.early_checks import check_chain_start
from pyro_hvae.cli.shared_options import COUNT, INDEX, SEED, Result, WholeNumber, checked, picture_option, run_arguments


def _parse_sites(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...] | str | None:
    """SITE,SITE,... as a tuple; "all" and None as they are."""
    if value in (None, "all"):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


@click.command(name="gibbs")
@run_arguments
@click.option(
    "--sites",
    callback=_parse_sites,
    metavar="SITE,...|all",
    help="Latents that a step resamples, separated by commas; default: those that x depends on.",
)
@click.option("--steps", type=COUNT, default=100, metavar="N", help="Length of every chain.")
@click.option("--chains", type=WholeNumber(2), default=100, metavar="N", help="Chains in parallel.")
@click.option("--burn-in", type=INDEX, default=50, metavar="N", help="Steps dropped at the start.")
@click.option("--thin", type=COUNT, default=1, metavar="N", help="Of the other steps, keep every N-th.")
@click.option(
    "--init", default="data", callback=checked(check_chain_start), metavar="data|noise|prior", help="Where chains start."
)
@click.option("--noise/--no-noise", default=True, help="Draw x from p(x|z), or use its mean.")
@click.option(
    "--particles", type=COUNT, default=1, metavar="K", help="Correct the guide by importance resampling among K draws a step."
)
@click.option("--samples", type=WholeNumber(2), default=1000, metavar="N", help="Most draws in a distance.")
@click.option("--seed", type=SEED, default=0, metavar="N", help="Seed of starts and chains.")
@click.option(
    "--compile/--no-compile",
    default=None,
    help="Run a step of all chains as one compiled graph; default: where there are enough steps to gain time.",
)
@picture_option("in the run's figures", several=True)
def gibbs_command(open_run: Callable[[], Any], **options: Any) -> Result:
    """Run Gibbs chains z ~ q(z|x), x ~ p(x|z) of RUN and draw their samples beside ancestral ones.

    The bottom layer z1 alone is Proposition 1 of Zhao et al. 2017: the default for models whose x depends on z1 alone (vae,
    vhp, hvae, lvae). Where x sees other layers too (ar-hvae, vampprior with two levels) these are kept as well; --sites all is
    Proposition 2. Sites that make no valid chain are refused. Prints the energy distance of both kinds of samples to test data
    (0 for the same law, slightly negative by chance), and whether the chains have mixed.

    \b
    Examples:
      pyro-hvae gibbs last
      pyro-hvae gibbs last --sites z1 --init noise --steps 1000 --burn-in 500
    """
    from pyro_hvae.reports import draw_gibbs

    report = draw_gibbs(open_run(), **options)
    return report, report["text"]
