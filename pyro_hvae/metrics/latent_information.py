"""Mutual information of datum and latents: of each layer and of all layers together."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pyro_hvae.metrics.aggregate_posterior import AggregateDraws, Posteriors, draw_aggregate, log_ratios

RESOLVED = 2.0  # nats below log N from which on a total says how much the layers know, and not only that N data are few
OWN = 0.2  # weight of the own datum in the ratios of the bias


@dataclass(frozen=True)
class Information:
    r"""An information in nats.

    Attributes:
        value, stderr: the error is over samples; it does not contain the bias.
        limit: log N, the upper limit of the estimate (for I_over times the number of layers but one). An estimate near it says
            that the latents identify the datum, not how well.
        samples: number of draws in the mean. components: number of data that represent the aggregate posterior.
        exact: True where these are all N data; else the value is biased upwards. It says nothing about the data left out of N.
        bias: how many nats the value is too low (I_over: too high where negative) as an information about the population that
            the N data come from: $E \log(1 + e^i / N)$ over the pointwise log-ratios i. It grows with their spread, so an
            information of 7 nats from 5,000 data is 0.2 too low in one dimension and 0.5 in nine. In i the own datum counts a
            fifth, since no data beside it lie near a draw that is unlike all others; for Gaussians in 1 to 30 dimensions, up to
            two nats below log N, this bias is right within a factor of two. Zero where the N data are the population.
    """

    value: float
    stderr: float
    limit: float
    samples: int
    components: int
    exact: bool
    bias: float


@dataclass(frozen=True)
class LayerInformation:
    """Result of `layer_information`.

    Attributes:
        layers: layer -> I(x; z_l).
        total: I(x; z) of all layers; None where they are not independent given x.
        over: sum over layers minus the total, >= 0; None where the total is, or where it is less than two nats below log N: its
            bias, which then is as large as what layers usually share, would count as shared information.
    """

    layers: dict[str, Information]
    total: Information | None
    over: Information | None


def mutual_information(
    q: Posteriors, samples: int = 10_000, seed: int = 0, components: int | None = None, population: bool = False
) -> Information:
    r"""$I(x; z) = E_{q(z, x)} \log q(z \mid x) / q(z)$ of all dimensions of q together, for the N data given; at most log N.

    The estimate is the mean of `log_ratios`: the entropy of the aggregate posterior (Chen et al. 2018) minus that of the
    posteriors. Both use the same draws, which removes most of the variance.

    Arguments and errors as for `draw_aggregate`, and
        population: whether these data are all there are, as a full grid of factors is, and no sample of more.

    >>> q = Posteriors(1000 * torch.arange(8)[:, None], torch.ones(8, 1))
    >>> round(mutual_information(q).value, 6) == round(math.log(8), 6)
    True
    """
    draws = draw_aggregate(q, samples, seed, components)
    ratios = log_ratios(q, draws)
    return _information(ratios, _bias(ratios, draws, population), draws, 1)


def layer_information(
    layers: Mapping[str, Posteriors],
    samples: int = 10_000,
    seed: int = 0,
    components: int | None = None,
    population: bool = False,
) -> LayerInformation:
    r"""$I(x; z_l)$ of each layer, $I(x; z)$ and $I_\mathrm{over} = \sum_l I(x; z_l) - I(x; z)$ (pro-VLAE, section 4).

    For layers that are independent given x, $q(z \mid x) = \prod_l q(z_l \mid x)$ as in a VLAE, $I_\mathrm{over}$ is the total
    correlation of the layers under the aggregate posterior. All terms use the same draws, so the error of the difference is
    much below that of its terms. Layers of a stochastic chain (mixtures, M > 1) depend on each other: there is no total.

    Arguments:
        layers: by name; of the same data in the same order.
        samples, seed, components: as for `draw_aggregate`. population: as for `mutual_information`.

    Raises:
        ConfigError: for no layers, or layers of different numbers of data.
    """
    joint = Posteriors.concatenate(layers.values())
    draws = draw_aggregate(joint, samples, seed, components)
    columns = draws.values.split([q.means.shape[2] for q in layers.values()], dim=1)
    ratios = [log_ratios(q, replace(draws, values=values)) for q, values in zip(layers.values(), columns, strict=True)]
    biases = [_bias(ratio, draws, population) for ratio in ratios]
    each = {name: _information(ratio, bias, draws, 1) for name, ratio, bias in zip(layers, ratios, biases, strict=True)}
    if joint.size > 1:
        return LayerInformation(each, None, None)
    total = log_ratios(joint, draws)
    bias = _bias(total, draws, population)
    found = _information(total, bias, draws, 1)
    if len(each) > 1 and not population and not is_resolved(found):
        return LayerInformation(each, found, None)
    return LayerInformation(each, found, _information(sum(ratios) - total, sum(biases) - bias, draws, len(each) - 1))


def is_resolved(information: Information) -> bool:
    """Whether an information is far enough below log N for sums and differences with it: two nats."""
    return information.value <= information.limit - RESOLVED


def _bias(ratios: Tensor, draws: AggregateDraws, population: bool) -> Tensor:
    """log(1 + e^i / N) of every draw; see `Information`."""
    others = (math.log(draws.data) - ratios).expm1().clamp(min=0)  # the sum of e^-i over other data
    return torch.zeros_like(ratios) if population else (1 / (others + OWN)).log1p()


def _information(ratios: Tensor, bias: Tensor, draws: AggregateDraws, times: int) -> Information:
    return Information(
        value=ratios.mean().item(),
        stderr=(ratios.std() / len(ratios) ** 0.5).item(),
        limit=times * math.log(draws.data),
        samples=len(ratios),
        components=len(draws.components),
        exact=draws.exact,
        bias=bias.mean().item(),
    )
