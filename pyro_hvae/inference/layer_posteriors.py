"""q(z_l | x) of every layer of any guide, for metrics of the aggregate posterior."""

from collections.abc import Callable
from typing import Any

import pyro
import torch
from torch import Tensor

from pyro_hvae.data import Rows
from pyro_hvae.errors import ConfigError
from pyro_hvae.metrics import Posteriors
from pyro_hvae.objectives.handlers import Record, Share
from pyro_hvae.runtime.random_state import fixed_seed

__all__ = ["posteriors", "direct_data_dependence"]

ROWS = 4096  # (datum, draw) pairs at once
SEEN = 16  # data that show what a site depends on; two of them might be equal


@torch.no_grad()
def posteriors(guide: Callable[..., Any], x: Tensor | Rows, draws: int = 16, seed: int = 0) -> dict[str, Posteriors]:
    r"""Site -> `Posteriors` over its values, flattened, in the guide's order.

    A site that depends on x alone has a Gaussian. A layer above the first of a stochastic chain has none,
    $q(z_l \mid x) = E_{q(z_{l-1} \mid x)} q(z_l \mid z_{l-1})$: it becomes the equal mixture over `draws` draws of the sites
    before it.

    Arguments:
        x: data of shape (N, *event). draws: M. seed: of the draws.

    Raises:
        ConfigError: for fewer than two draws, or a guide with other distributions than Gaussians.
    """
    with fixed_seed(seed):
        probe = _parameters(guide, x[:SEEN], max(2, draws))
        single = {name: bool((m == m[:, :1]).all() and (s == s[:, :1]).all()) for name, (m, s) in probe.items()}
        if draws < 2 and not all(single.values()):
            raise ConfigError(
                f"draws={draws}: layers above the first are mixtures over two draws or more. Example: -o draws=16."
            )
        most = 1 if all(single.values()) else draws
        parts = [_parameters(guide, batch, most) for batch in x.split(max(1, ROWS // most))]

    def joined(name: str, which: int) -> Tensor:
        return torch.cat([part[name][which][:, : 1 if single[name] else most] for part in parts])

    return {name: Posteriors(joined(name, 0), joined(name, 1)) for name in single}


def _parameters(guide: Callable[..., Any], x: Tensor, draws: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Site -> means and standard deviations given so many draws of the sites before it, (B, draws, features) on the CPU."""
    with pyro.validation_enabled(False), Record() as record, Share((), draws):
        guide(x)
    found = {}
    for name, site in record.sites.items():
        base = getattr(site["fn"], "base_dist", None)
        if not isinstance(base, torch.distributions.Normal):
            raise ConfigError(
                f"metrics of the aggregate posterior need Gaussian posteriors, but q({name} | ...) of this guide is a "
                f"{type(base or site['fn']).__name__}."
            )
        found[name] = tuple(t.flatten(2).transpose(0, 1).cpu() for t in (base.loc, base.scale))
    return found


@torch.no_grad()
def direct_data_dependence(guide: Callable[..., Any], x: Tensor | Rows) -> dict[str, bool]:
    """Site -> whether its distribution still depends on x when the sites before it are held; the first few data show it.

    In a Markov chain of inference only the first does, so that no later layer knows more of x than that one.
    """
    some = x[:SEEN]
    with fixed_seed(0), pyro.validation_enabled(False):
        with Record() as first:
            guide(some[:1])
        held = {name: site["value"].expand(len(some), *site["value"].shape[1:]) for name, site in first.sites.items()}
        with Record(held) as record:
            guide(some)
    found = {}
    for name, site in record.sites.items():
        parameters = (site["fn"].base_dist.loc, site["fn"].base_dist.scale)
        # Rows of one product may differ in their last digits.
        found[name] = not all(torch.allclose(p, p[:1].expand_as(p), rtol=1e-4, atol=1e-6) for p in parameters)
    return found
