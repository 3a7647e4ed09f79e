"""Latent traversals: x as one latent dimension varies, for every dimension in use."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pyro_hvae.conditionals import FlowDistribution
from pyro_hvae.data import Batch, Rows
from pyro_hvae.errors import ConfigError
from pyro_hvae.inference.bounds_and_active_units import variances_of_means
from pyro_hvae.inference.layer_effects import check_noise, decode_noise, posterior_noise
from pyro_hvae.inference.layer_posteriors import posteriors
from pyro_hvae.inference.sampling import Fixed, latents
from pyro_hvae.metrics import MEANINGFUL_VARIANCE
from pyro_hvae.objectives import CORRELATED, Record, given_for, is_point, run_program, scalar_family, takes_data
from pyro_hvae.runtime import fixed_seed, in_evaluation_mode

Program = Callable[..., Any]
MAX_STEPS = 100
WITHOUT_POSTERIORS = (*CORRELATED, FlowDistribution, torch.distributions.TransformedDistribution)


@dataclass(frozen=True)
class Unit:
    r"""A latent dimension.

    Attributes:
        site: its layer. dimension: its index in the flattened event of the layer.
        variance: $\mathrm{Var}_x\, E[z_j \mid x]$, of its posterior means over the data.

    >>> Unit("z3", 1, 0.93).name
    'z3[1]'
    """

    site: str
    dimension: int
    variance: float

    @property
    def name(self) -> str:
        return f"{self.site}[{self.dimension}]"


@dataclass(frozen=True, eq=False)
class Traversals:
    r"""Result of `traverse`.

    Attributes:
        units: one for each row: layers from the top down, units of a layer by decreasing variance.
        values: of the noise, (steps,). images: E[x | z], (rows, steps, *event).
        dead: site -> number of dimensions that were left out because they know nothing of x.
        hidden: site -> number of dimensions in use that `most` left out.
    """

    units: list[Unit]
    values: Tensor
    images: Tensor
    dead: dict[str, int]
    hidden: dict[str, int] = field(default_factory=dict)

    def describe_left_out(self) -> str:
        """The dimensions without a row, by their site."""
        kinds = {"dead and left out": self.dead, "in use but not shown": self.hidden}
        texts = {kind: ", ".join(f"{n} of {site}" for site, n in counts.items() if n) for kind, counts in kinds.items()}
        return "; ".join(f"{kind}: {text or 'none'}" for kind, text in texts.items() if text or kind.startswith("dead"))


@torch.no_grad()
@in_evaluation_mode
def vary_dimension(
    model: Program, noise: Mapping[str, Tensor], site: str, dimension: int, values: Tensor, *, given: Fixed = None
) -> Tensor:
    r"""E[x | z] for given values of one dimension of one layer's noise, all other noise fixed; shape (steps, *event).

    With $z_l = \mu_l(z_{>l}) + \sigma_l(z_{>l}) \epsilon_l$ the layers below follow the varied one. In a flat model with a
    standard normal prior the noise is z, and with a mixture prior z less its mean, in its standard deviations. For a prior
    without standard noise, such as a flow, z itself takes the values.

    Arguments:
        noise: of every layer of one datum, site -> (1, *event of the site), such as `posterior_noise`.
        dimension: of the site's flattened event. values: (steps,), in standard deviations. given: inputs of the model, one row.

    Raises:
        ConfigError: for an unknown site or dimension, or a model with a site that has parents but no standard noise.
    """
    check_noise(model, site, noise, given)
    last = noise[site].numel() - 1
    if not 0 <= dimension <= last:
        raise ConfigError(f"layer {site} has the dimensions 0 to {last}, got {dimension}.")
    held = {name: value.expand(len(values), *value.shape[1:]) for name, value in noise.items()}
    varied = held[site].reshape(len(values), -1).clone()
    varied[:, dimension] = values.to(varied)
    return decode_noise(model, {**held, site: varied.reshape(held[site].shape)}, given)


@takes_data
@torch.no_grad()
@in_evaluation_mode
def traverse(
    model: Program,
    guide: Program,
    x: Tensor | Batch,
    data: Tensor | Batch | Rows,
    reach: float = 2.5,
    steps: int = 9,
    most: int | None = None,
    draws: int = 16,
    seed: int = 0,
    *,
    under: Fixed = None,
) -> Traversals:
    r"""Latent traversals of one datum, a row for every dimension in use (Li et al. 2020, figure 4).

    All noise is that of the datum's posterior means (see `posterior_noise`; the authors' code uses a draw); one dimension at a
    time takes `steps` values from -`reach` to `reach`. Dimensions with $\mathrm{Var}_x\, E[z_j \mid x] \le 0.01$ are left out.

    Arguments:
        x: the datum, (1, *event). data: the data for the variances, (N, *event); a `Batch` where inputs are given beside them.
        reach: in standard deviations. most: number of rows for a layer; default all.
        draws, seed: as for `posteriors`, of which the variances are.
        under: given inputs to decode under, one row, instead of those beside x.

    Raises:
        ConfigError: for a number out of range, a guide without Gaussian posteriors, no dimension in use; as `vary_dimension`.
    """
    if not 0 < reach < math.inf:
        raise ConfigError(f"a traversal goes from -range to range, which is positive and finite, got {reach:g}.")
    if not 2 <= steps <= MAX_STEPS:
        raise ConfigError(f"a traversal has from 2 to {MAX_STEPS} steps, got {steps}.")
    if most is not None and most < 1:
        raise ConfigError(f"a traversal shows at least one dimension of a layer, got {most}.")
    variances = _posterior_mean_variances(guide, data, draws, seed)
    given = given_for(model, x[:1]) | dict(under or {})
    with fixed_seed(seed):
        noise = posterior_noise(model, guide, x[:1])
        units, dead, hidden = list[Unit](), dict[str, int](), dict[str, int]()
        for site in noise:
            layer = [Unit(site, j, value) for j, value in enumerate(variances[site].tolist())]
            used = sorted((unit for unit in layer if unit.variance > MEANINGFUL_VARIANCE), key=lambda unit: -unit.variance)
            units, dead[site] = units + used[:most], len(layer) - len(used)
            hidden[site] = len(used) - len(used[:most])
        if not units:
            largest = max(value.max().item() for value in variances.values())
            raise ConfigError(
                f"nothing to traverse: the posterior has collapsed. No variance of posterior means over the data is above "
                f"{MEANINGFUL_VARIANCE:g} (the largest is {largest:.2g}). Train longer, or with a smaller weight of the rate."
            )
        values = torch.linspace(-reach, reach, steps)
        images = [vary_dimension(model, noise, unit.site, unit.dimension, values, given=given) for unit in units]
    return Traversals(units, values, torch.stack(images), dead, hidden)


def _posterior_mean_variances(guide: Program, data: Tensor | Batch | Rows, draws: int, seed: int) -> dict[str, Tensor]:
    """Site -> variance of the posterior means over the data, for each dimension. The mean of a point mass is the point.

    Those of correlated Gaussians and of flows are from means or draws (see `active_units`), as there are no `posteriors`.
    """
    with fixed_seed(seed), Record() as record:
        run_program(guide, data[:2])
    if all(is_point(site) for site in record.sites.values()):
        means = latents(guide, data, mean=True)
        return {site: mean.flatten(1).double().var(0, correction=0).cpu() for site, mean in means.items()}
    if any(isinstance(scalar_family(site["fn"]), WITHOUT_POSTERIORS) for site in record.sites.values()):
        with fixed_seed(seed):
            return {site: value.clamp(min=0.0) for site, value in variances_of_means(guide, data, draws).items()}
    return {site: q.variance_of_means for site, q in posteriors(guide, data, draws, seed).items()}
