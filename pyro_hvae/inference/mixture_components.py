"""Which component of a mixture prior a datum belongs to."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyro_hvae.conditionals import GaussianMixture
from pyro_hvae.data import Batch, Rows
from pyro_hvae.errors import ConfigError, require_known
from pyro_hvae.inference.sampling import ROWS, ancestral, latents
from pyro_hvae.objectives import given_for, scalar_family, takes_data
from pyro_hvae.runtime import fixed_seed, in_evaluation_mode

Program = Callable[..., Any]


@torch.no_grad()
@in_evaluation_mode
def mixture_priors(model: Program, x: Tensor | Batch | Rows) -> dict[str, GaussianMixture]:
    """The latent sites whose prior is a `GaussianMixture`, from the top down; x are any data."""
    with fixed_seed(0):
        sites = ancestral(model, 1, given=given_for(model, x[:1]))
    return {name: site["fn"] for name, site in sites.items() if isinstance(site["fn"], GaussianMixture)}


@takes_data
@torch.no_grad()
@in_evaluation_mode
def responsibilities(
    model: Program, guide: Program, x: Tensor | Batch | Rows, site: str | None = None, draws: int = 16, seed: int = 0
) -> Tensor:
    r"""$p(c \mid x) = E_{q(z \mid x)}\, p(c \mid z)$, the probability of each component of a mixture prior; shape (N, C).

    With $p(c \mid z) \propto w_c N(z; m_c, s_c)$. The guide's q stands for the posterior, and the mean is over `draws` draws.

    Arguments:
        site: the latent whose prior is the mixture; None where only one is.
        draws, seed: of the guide.

    Raises:
        ConfigError: for a site whose prior is no `GaussianMixture`, such as N(0, I) or a flow; several without `site`, no draw.

    >>> import pyro_hvae as hv
    >>> model = hv.Chain(hv.GaussianMixturePrior(2, components=5), [], hv.Gaussian(2, 4))
    >>> responsibilities(model, hv.BottomUp([hv.Gaussian(4, 2)]), torch.zeros(3, 4)).shape
    torch.Size([3, 5])
    """
    if draws < 1:
        raise ConfigError(f"draws={draws}: the mean over q(z | x) needs at least one draw of it, such as draws=16.")
    mixtures = mixture_priors(model, x)
    if not mixtures or (site is not None and site not in mixtures):
        raise ConfigError(_describe_lack(model, x, site))
    if site is None and len(mixtures) > 1:
        raise ConfigError(
            f"the layers {', '.join(mixtures)} have a mixture prior each. Say which: site='{next(iter(mixtures))}'."
        )
    name = site or next(iter(mixtures))
    batches = []
    with fixed_seed(seed):
        for batch in x.split(ROWS):
            values = (mixtures[name].responsibilities(latents(guide, batch)[name]) for _ in range(draws))
            batches.append(sum(values) / draws)
    return torch.cat(batches)


def _describe_lack(model: Program, x: Any, site: str | None) -> str:
    """Why there is no mixture at a site, or at any."""
    with fixed_seed(0):
        found = {name: s for name, s in ancestral(model, 1, given=given_for(model, x[:1])).items() if name != "x"}
    if site is not None:
        require_known("latent site", site, found)
    name = site or next(iter(found))
    kind = type(scalar_family(found[name]["fn"])).__name__
    return (
        f"only a mixture prior has components, but p({name}) is a {kind}. Train with -o prior=gmm or -o prior=vamp, or "
        "take hv.GaussianMixturePrior or hv.Vamp as the prior."
    )
