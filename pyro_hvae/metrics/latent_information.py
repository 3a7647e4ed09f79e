"""Mutual information of datum and latents: of each layer and of all layers together."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from pyro_hvae.metrics.aggregate_posterior import AggregateDraws, Posteriors, draw_aggregate, log_ratios


@dataclass(frozen=True)
class Information:
    """An information in nats.

    Attributes:
        value, stderr: the error is over samples; it does not contain the bias of too few components.
        limit: upper limit of the true value. An estimate near it says that the latents identify the datum, not how well.
        samples: number of draws in the mean. components: number of data that represent the aggregate posterior.
        exact: True where these are all data; else the value is biased upwards.
    """

    value: float
    stderr: float
    limit: float
    samples: int
    components: int
    exact: bool


@dataclass(frozen=True)
class LayerInformation:
    """Result of `layer_information`.

    Attributes:
        layers: layer -> I(x; z_l).
        total: I(x; z) of all layers; None where they are not independent given x.
        over: sum over layers minus the total, >= 0; None where the total is.
    """

    layers: dict[str, Information]
    total: Information | None
    over: Information | None


def mutual_information(q: Posteriors, samples: int = 10_000, seed: int = 0, components: int | None = None) -> Information:
    r"""$I(x; z) = E_{q(z, x)} \log q(z \mid x) / q(z)$ of all dimensions of q together, for the N data given; at most log N.

    The estimate is the mean of `log_ratios`: the entropy of the aggregate posterior (Chen et al. 2018) minus that of the
    posteriors. Both use the same draws, which removes most of the variance.

    Arguments and errors as for `draw_aggregate`.

    >>> import torch
    >>> q = Posteriors(1000 * torch.arange(8)[:, None], torch.ones(8, 1))
    >>> round(mutual_information(q).value, 6) == round(math.log(8), 6)
    True
    """
    draws = draw_aggregate(q, samples, seed, components)
    return _information(log_ratios(q, draws), draws, 1)


def layer_information(
    layers: Mapping[str, Posteriors], samples: int = 10_000, seed: int = 0, components: int | None = None
) -> LayerInformation:
    r"""$I(x; z_l)$ of each layer, $I(x; z)$ and $I_\mathrm{over} = \sum_l I(x; z_l) - I(x; z)$ (pro-VLAE, section 4).

    For layers that are independent given x, $q(z \mid x) = \prod_l q(z_l \mid x)$ as in a VLAE, $I_\mathrm{over}$ is the total
    correlation of the layers under the aggregate posterior. All terms use the same draws, so the error of the difference is
    much below that of its terms. Layers of a stochastic chain (mixtures, M > 1) depend on each other: there is no total.

    Arguments:
        layers: by name; of the same data in the same order.
        samples, seed, components: as for `draw_aggregate`.

    Raises:
        ConfigError: for no layers, or layers of different numbers of data.
    """
    joint = Posteriors.concatenate(layers.values())
    draws = draw_aggregate(joint, samples, seed, components)
    columns = draws.values.split([q.means.shape[2] for q in layers.values()], dim=1)
    ratios = [log_ratios(q, replace(draws, values=values)) for q, values in zip(layers.values(), columns, strict=True)]
    each = {name: _information(ratio, draws, 1) for name, ratio in zip(layers, ratios, strict=True)}
    if joint.size > 1:
        return LayerInformation(each, None, None)
    total = log_ratios(joint, draws)
    over = sum(ratios) - total
    return LayerInformation(each, _information(total, draws, 1), _information(over, draws, len(each) - 1))


def _information(ratios: Tensor, draws: AggregateDraws, times: int) -> Information:
    return Information(
        value=ratios.mean().item(),
        stderr=(ratios.std() / len(ratios) ** 0.5).item(),
        limit=times * math.log(draws.data),
        samples=len(ratios),
        components=len(draws.components),
        exact=draws.exact,
    )
