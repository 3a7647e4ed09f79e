"""Bounds, KL per dimension and active units of a model/guide pair over a data set."""

from collections.abc import Callable, Iterator
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.distributions import Normal

from pyro_hvae.data import Rows
from pyro_hvae.errors import ConfigError
from pyro_hvae.inference.sampling import ROWS, latents
from pyro_hvae.objectives.elbo import ELBO, kl_is_valid
from pyro_hvae.objectives.handlers import Record

__all__ = ["active_units", "bound", "bound_per_datum", "kl_per_dimension"]

Program = Callable[..., Any]


def _estimates(elbo: ELBO, model: Program, guide: Program, x: Tensor | Rows, rows: int) -> Iterator[Any]:
    for batch in x.split(max(1, rows // elbo.particles)):
        with pyro.validation_enabled(False):
            yield elbo.estimate(model, guide, batch)


@torch.no_grad()
def bound(elbo: ELBO, model: Program, guide: Program, x: Tensor | Rows, rows: int = ROWS) -> dict[str, Any]:
    """The unweighted bound and its parts over a whole set, in nats per datum.

    Returns:
        `elbo` (the bound), `distortion` = -E log p(x|z), `rate_total` = -elbo - distortion (for the VHP this is F of eq. 8)
        and `rate`: site -> E[log q - log p]. For particles with nothing shared (IWAE) `rate_total` is no KL.
    """
    sums: dict[str, Tensor] = {}
    for e in _estimates(elbo, model, guide, x, rows):
        values = e.bound_unweighted()
        parts = {"elbo": values.mean(), "distortion": e.distortion()}
        parts |= {f"rate.{name}": rate for name, rate in e.rates().items()}
        for name, value in parts.items():
            sums[name] = sums.get(name, torch.zeros((), dtype=torch.float64)) + value.cpu().double() * len(values)
    values = {name: (value / len(x)).item() for name, value in sums.items()}
    rates = {name.removeprefix("rate."): value for name, value in values.items() if name.startswith("rate.")}
    elbo_value, distortion = values["elbo"], values["distortion"]
    return {"elbo": elbo_value, "distortion": distortion, "rate_total": -elbo_value - distortion, "rate": rates}


@torch.no_grad()
def bound_per_datum(elbo: ELBO, model: Program, guide: Program, x: Tensor | Rows, rows: int = ROWS) -> Tensor:
    """One draw of the unweighted bound of every datum, nats, shape (N,)."""
    return torch.cat([e.bound_unweighted() for e in _estimates(elbo, model, guide, x, rows)])


@torch.no_grad()
def kl_per_dimension(model: Program, guide: Program, x: Tensor | Rows) -> dict[str, list[float]]:
    """Site -> KL(q || p) of every dimension, nats per datum, for the sites where it has a closed form that is a KL.

    These are Gaussians whose model parents precede them in the guide: all layers of a top-down guide, the top one of a
    bottom-up chain (the mean KL over draws of those below). At the others the average of log q - log p is no KL and can be
    negative.
    """
    sums: dict[str, Tensor] = {}
    elbo = ELBO()
    for batch in x.split(ROWS):
        with pyro.validation_enabled(False):
            p, q = elbo.sites(model, guide, batch)
        for name in q:
            one, two = (getattr(sites[name]["fn"], "base_dist", None) for sites in (q, p))
            if kl_is_valid(name, p, q) and isinstance(one, Normal) and isinstance(two, Normal):
                kl = torch.distributions.kl_divergence(one, two).cpu().double().flatten(1).sum(0)
                sums[name] = sums.get(name, torch.zeros_like(kl)) + kl
    return {name: (value / len(x)).tolist() for name, value in sums.items()}


@torch.no_grad()
def active_units(guide: Program, x: Tensor | Rows, samples: int = 50, threshold: float = 1e-2) -> dict[str, int]:
    r"""Site -> number of units with $\mathrm{Var}_x(E_q[u]) > 0.01$ (Burda et al. 2016).

    The guide's first site has an exact mean; a later site's is averaged over `samples` draws of the sites before it *before*
    the variance over x is taken, and what sampling variance is left in that average is subtracted (a mean of 50 draws with
    unit variance would vary by 0.02, twice the threshold, in a layer that knows nothing of x).

    Raises:
        ConfigError: for fewer than two samples of a guide with several sites.
    """
    sums: dict[str, Tensor] = {}
    squares: dict[str, Tensor] = {}
    if len(latents(guide, x[:1])) == 1:
        samples = 1
    elif samples < 2:
        raise ConfigError(f"active units of several layers need at least two samples, got {samples}.")
    for _ in range(samples):
        parts = []
        for batch in x.split(ROWS):
            with pyro.validation_enabled(False), Record() as record:
                guide(batch)
            parts.append({name: site["fn"].mean for name, site in record.sites.items()})
        for name in parts[0]:
            value = torch.cat([p[name] for p in parts]).cpu().double().flatten(1)
            sums[name] = sums.get(name, 0) + value
            squares[name] = squares.get(name, 0) + value.square()

    def active(name: str) -> int:
        means = sums[name] / samples
        of_a_mean = (squares[name] / samples - means.square()) / max(1, samples - 1)
        return int((means.var(0, correction=0) - of_a_mean.mean(0) > threshold).sum())

    return {name: active(name) for name in sums}
