"""Draws of the posterior with log-likelihoods and log weights, as arrays and as the data tree of ArviZ."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor

from pyro_hvae.data import Batch, Rows, given_of
from pyro_hvae.errors import ConfigError, missing_extra
from pyro_hvae.inference.draw_memory import require_memory
from pyro_hvae.inference.gibbs_chains import Chains
from pyro_hvae.inference.importance_sampling import ROWS, require_density, require_numbers
from pyro_hvae.metrics import LEAST_DRAWS, pareto_khat
from pyro_hvae.objectives import ELBO, site_log_prob, takes_data
from pyro_hvae.runtime import fixed_seed, in_evaluation_mode

Program = Callable[..., Any]
Groups = dict[str, dict[str, np.ndarray]]

# Group -> dims of its variables before those of an event.
DIMS: dict[str, tuple[str, ...]] = {
    "posterior": ("chain", "draw", "datum"),
    "sample_stats": ("chain", "draw", "datum"),
    "log_likelihood": ("chain", "draw", "datum"),
    "importance": ("datum",),
    "observed_data": ("datum",),
    "constant_data": ("datum",),
    "gibbs": ("chain", "draw"),
}


@takes_data
@torch.no_grad()
@in_evaluation_mode
def posterior_draws(
    model: Program,
    guide: Program,
    x: Tensor | Batch | Rows,
    *,
    draws: int = 1000,
    chains: Chains | None = None,
    seed: int = 0,
) -> Groups:
    r"""Draws $z_m \sim q(z \mid x_n)$ with what they are worth: group -> variable -> array, as `to_datatree` names them.

    | group | variable | shape |
    |---|---|---|
    | posterior | SITE: draws of the guide | (1, M, N, *event) |
    | sample_stats | log_weight: $\log p(x_n, z_m) - \log q(z_m \mid x_n)$ | (1, M, N) |
    | log_likelihood | x: $\log p(x_n \mid z_m)$, of the observed entries | (1, M, N) |
    | importance | log_likelihood: $\log \frac1M \sum_m w_m$; effective: $(\sum w)^2 / \sum w^2$; khat: `pareto_khat` | (N,) |
    | observed_data | x, with NaN in missing entries | (N, *event) |
    | constant_data | given inputs | (N, ...) |
    | gibbs | x, SITE: what the chains keep | (C, T, *event) |

    All in nats. The draws are those of the guide: weigh them by `log_weight` for expectations under p(z | x). The
    guide has seen x, so `arviz_stats.loo` of these draws is no estimate for data that it has not seen.

    Arguments:
        x: data of shape (N, *event), with given inputs and a mask as everywhere.
        draws: M, at least 30. chains: of `gibbs`, added as a group. seed: of the draws.

    Raises:
        ConfigError: for fewer draws, draws of more than 1 GiB, or a guide without densities.

    >>> from pyro_hvae.conditionals import Gaussian, StandardNormal
    >>> from pyro_hvae.guides import BottomUp
    >>> from pyro_hvae.models import Chain
    >>> model, guide = Chain(StandardNormal(2), [], Gaussian(2, 4)), BottomUp([Gaussian(4, 2)])
    >>> posterior_draws(model, guide, torch.zeros(3, 4), draws=50)["posterior"]["z1"].shape
    (1, 50, 3, 2)
    """
    if draws < LEAST_DRAWS:
        raise ConfigError(f"draws={draws}: the tail of the weights takes {LEAST_DRAWS} draws or more, such as draws=1000.")
    elbo = ELBO(particles=draws, analytic_kl=False)
    with fixed_seed(seed), pyro.validation_enabled(False):
        _, one = ELBO(particles=1).sites(model, guide, x[:1])
        require_memory(sum(site["value"].numel() for site in one.values()), len(x), draws)
    with fixed_seed(seed), pyro.validation_enabled(False):
        pieces = [_draws_of_batch(elbo, model, guide, batch) for batch in x.split(max(1, ROWS // draws))]
    groups = {
        group: {name: torch.cat([piece[group][name] for piece in pieces], axis).numpy() for name in held}
        for group, held in pieces[0].items()
        for axis in [DIMS[group].index("datum")]
    }
    if chains is not None:
        groups["gibbs"] = {name: value.transpose(0, 1).cpu().numpy() for name, value in {"x": chains.x, **chains.z}.items()}
    return {group: held for group, held in groups.items() if held}


def _draws_of_batch(elbo: ELBO, model: Program, guide: Program, x: Tensor | Batch) -> dict[str, dict[str, Tensor]]:
    """The groups of `posterior_draws` of some data, on the CPU."""
    p, q = elbo.sites(model, guide, x)
    require_density(q)
    log_p, log_q = (torch.broadcast_tensors(*map(site_log_prob, sites.values())) for sites in (p, q))
    log_w = torch.stack(log_p).sum(0) - torch.stack(log_q).sum(0)
    total = torch.logsumexp(log_w.double(), 0)
    require_numbers(total)
    importance = {
        "log_likelihood": total - math.log(elbo.particles),
        "effective": (2 * total - torch.logsumexp(2 * log_w.double(), 0)).exp(),
        "khat": torch.from_numpy(pareto_khat(log_w)),
    }
    groups = {
        "posterior": {name: site["value"][None] for name, site in q.items()},
        "sample_stats": {"log_weight": log_w[None]},
        "log_likelihood": {"x": site_log_prob(p["x"]).expand_as(log_w)[None]},
        "importance": importance,
        "observed_data": {"x": x.with_nan() if isinstance(x, Batch) else x},
        "constant_data": dict(given_of(x)),
    }
    return {group: {name: value.cpu() for name, value in held.items()} for group, held in groups.items()}


@takes_data
def to_datatree(
    model: Program,
    guide: Program,
    x: Tensor | Batch | Rows,
    *,
    draws: int = 1000,
    chains: Chains | None = None,
    seed: int = 0,
) -> Any:
    """The groups of `posterior_draws` as an `xarray.DataTree` with named dims, which ArviZ plots and summarises.

    Dims: chain, draw, datum, and SITE_dim_0, ... of events. Arguments and errors are those of `posterior_draws`. The group
    `gibbs` has a chain for each start: `az.summary(tree, group="gibbs")` gives its R-hat. The draws of `posterior` are
    independent, one chain, which has no R-hat.

    Raises:
        DeviceError: where the extra `arviz` is not installed; `posterior_draws` gives the same arrays without it.
    """
    try:
        from arviz_base import dict_to_dataset
        from xarray import DataTree
    except ImportError as error:
        raise missing_extra("arviz", "a data tree of ArviZ") from error
    groups = posterior_draws(model, guide, x, draws=draws, chains=chains, seed=seed)
    datasets = {
        group: dict_to_dataset(
            held,
            sample_dims=[dim for dim in DIMS[group] if dim != "datum"],
            dims={name: _name_dims(group, name, value) for name, value in held.items()},
        )
        for group, held in groups.items()
    }
    return DataTree.from_dict(datasets)


def _name_dims(group: str, name: str, values: np.ndarray) -> list[str]:
    """The dims after those of the draws."""
    before = DIMS[group]
    return [*(dim for dim in before if dim == "datum"), *(f"{name}_dim_{i}" for i in range(values.ndim - len(before)))]
