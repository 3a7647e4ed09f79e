"""Bounds, KL per dimension and active units of a model/guide pair over a data set."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.distributions import Normal

from pyro_hvae.data import Batch, Rows
from pyro_hvae.errors import ConfigError
from pyro_hvae.inference.sampling import ROWS
from pyro_hvae.objectives import (
    ELBO,
    Record,
    apply_mask,
    find_mean,
    is_entry_mask,
    kl_is_valid,
    run_program,
    scalar_family,
    takes_data,
)
from pyro_hvae.runtime import in_evaluation_mode

Program = Callable[..., Any]


def _estimates(elbo: ELBO, model: Program, guide: Program, x: Tensor | Batch | Rows, rows: int) -> Iterator[Any]:
    for batch in x.split(max(1, rows // elbo.particles)):
        with pyro.validation_enabled(False):
            yield elbo.estimate(model, guide, batch)


@takes_data
@torch.no_grad()
@in_evaluation_mode
def bound(elbo: ELBO, model: Program, guide: Program, x: Tensor | Batch | Rows, rows: int = ROWS) -> dict[str, Any]:
    """The unweighted bound of a data set and its terms, in nats per datum.

    Returns:
        `elbo` (the bound), `distortion` = -E log p(x|z), `rate_total` = -elbo - distortion (for the VHP this is F of eq. 8)
        and `rate`: site -> E[log q - log p]. For several particles without shared sites (IWAE) `rate_total` is not a KL.
    """
    sums: dict[tuple[str, ...], Any] = {}
    for estimate in _estimates(elbo, model, guide, x, rows):
        values = estimate.bound_unweighted()
        terms = {("elbo",): values.mean(), ("distortion",): estimate.distortion()}
        terms |= {("rate", name): rate for name, rate in estimate.rates().items()}
        for key, value in terms.items():
            sums[key] = sums.get(key, 0.0) + value.cpu().double() * len(values)
    means = {key: (value / len(x)).item() for key, value in sums.items()}
    elbo_mean, distortion = means.pop(("elbo",)), means.pop(("distortion",))
    rates = {name: rate for (_, name), rate in means.items()}
    return {"elbo": elbo_mean, "distortion": distortion, "rate_total": -elbo_mean - distortion, "rate": rates}


@takes_data
@torch.no_grad()
@in_evaluation_mode
def bound_per_datum(elbo: ELBO, model: Program, guide: Program, x: Tensor | Batch | Rows, rows: int = ROWS) -> Tensor:
    """One draw of the unweighted bound of every datum, nats, shape (N,)."""
    return torch.cat([e.bound_unweighted() for e in _estimates(elbo, model, guide, x, rows)])


@takes_data
@torch.no_grad()
@in_evaluation_mode
def kl_per_dimension(model: Program, guide: Program, x: Tensor | Batch | Rows) -> dict[str, list[float]]:
    """Site -> KL(q || p) of every dimension, nats per datum, for the sites with a closed form that is a KL.

    These are Gaussian sites whose model parents come before them in the guide: all layers of a top-down guide, the top layer
    of a bottom-up chain (a mean over draws of the layers below). At other sites E[log q - log p] is no KL and can be negative.
    A datum that `poutine.mask` leaves out at a site, in model or guide, has a KL of 0 there, as in the bound.
    """
    sums: dict[str, Tensor] = {}
    elbo = ELBO()
    for batch in x.split(ROWS):
        with pyro.validation_enabled(False):
            p, q = elbo.sites(model, guide, batch)
        for name in q:
            posterior, prior = (scalar_family(sites[name]["fn"]) for sites in (q, p))
            if kl_is_valid(name, p, q) and isinstance(posterior, Normal) and isinstance(prior, Normal):
                kl = torch.distributions.kl_divergence(posterior, prior).reshape(len(batch), -1)
                for site in (p[name], q[name]):
                    mask = site["mask"]
                    if isinstance(mask, Tensor) and is_entry_mask(site):
                        mask = mask.expand(site["fn"].batch_shape + site["fn"].event_shape).flatten(1)
                    elif isinstance(mask, Tensor):
                        mask = mask[..., None]
                    kl = apply_mask(kl, mask)
                sums[name] = sums.get(name, 0.0) + kl.cpu().double().sum(0)
    return {name: (value / len(x)).tolist() for name, value in sums.items()}


def informative_units(kl: Mapping[str, Sequence[float]], threshold: float = 0.05) -> dict[str, int]:
    """Site -> number of latent dimensions whose KL, as `kl_per_dimension` gives it, exceeds `threshold` nats per datum.

    It is stricter than `active_units`: a posterior mean that varies by 0.01 under unit noise has a KL of 0.005 nats.

    >>> informative_units({"z1": [2.5, 0.06, 0.04, 0.0]})
    {'z1': 2}
    """
    return {name: sum(value > threshold for value in values) for name, values in kl.items()}


def _mean_or_draw(site: Any) -> Tensor:
    mean, what = find_mean(site["fn"])
    return mean if what == "mean" and mean is not None else site["value"]


@takes_data
@torch.no_grad()
@in_evaluation_mode
def active_units(guide: Program, x: Tensor | Batch | Rows, samples: int = 50, threshold: float = 1e-2) -> dict[str, int]:
    r"""Site -> number of units with $\mathrm{Var}_x(E_q[u]) > 0.01$ (Burda et al. 2016).

    The mean of the guide's first site is exact, that of a later site an average over `samples` draws of the sites before it.
    A flow has no closed mean: its draws are averaged. The sampling variance of the average is subtracted: for 50 draws of unit
    variance it is 0.02, twice the threshold.

    Raises:
        ConfigError: for fewer than two samples where means are averages, or a site whose distribution has no mean.
    """
    variances = variances_of_means(guide, x, samples)
    return {name: int((variance > threshold).sum()) for name, variance in variances.items()}


@takes_data
@torch.no_grad()
@in_evaluation_mode
def variances_of_means(guide: Program, x: Tensor | Batch | Rows, samples: int = 50) -> dict[str, Tensor]:
    r"""Site -> $\mathrm{Var}_x(E_q[u])$ of every unit, (D,), float64; arguments and errors as for `active_units`.

    Where the mean is an average, the variance of the average is subtracted, so that a value can be negative.
    """
    sums, squares = {}, {}
    with Record() as record:
        run_program(guide, x[:2])
    sites = record.sites.values()
    if lacking := [name for name, site in record.sites.items() if find_mean(site["fn"])[1] == "mode"]:
        kind = type(scalar_family(record.sites[lacking[0]]["fn"])).__name__
        raise ConfigError(
            f"active units have posterior means that vary, but q({lacking[0]} | ...) is a {kind}, which has none."
        )
    if len(sites) == 1 and all(find_mean(site["fn"])[1] == "mean" for site in sites):
        samples = 1
    elif samples < 2:
        raise ConfigError(f"active units of several layers, or of a flow, need at least two samples, got {samples}.")
    for _ in range(samples):
        parts = []
        for batch in x.split(ROWS):
            with pyro.validation_enabled(False), Record() as record:
                run_program(guide, batch)
            parts.append({name: _mean_or_draw(site) for name, site in record.sites.items()})
        for name in parts[0]:
            value = torch.cat([p[name] for p in parts]).cpu().double().reshape(len(x), -1)
            sums[name] = sums.get(name, 0) + value
            squares[name] = squares.get(name, 0) + value.square()
    variances = {}
    for name in sums:
        means = sums[name] / samples
        sampling_variance = (squares[name] / samples - means.square()) / max(1, samples - 1)
        variances[name] = means.var(0, correction=0) - sampling_variance.mean(0)
    return variances
