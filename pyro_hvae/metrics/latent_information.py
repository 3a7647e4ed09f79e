"""How much the latent variables know about the datum: mutual information, per layer and of all layers together."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from pyro_hvae.metrics.aggregate_posterior import AggregateDraws, Posteriors, draw_aggregate, log_ratios

__all__ = ["Information", "LayerInformation", "layer_information", "mutual_information"]


@dataclass(frozen=True)
class Information:
    """An information in nats.

    Attributes:
        value, stderr: the error is over samples; it does not know of the bias of too few components.
        limit: what the true value cannot exceed; an estimate near it says that the data are told apart, not by how much.
        samples: how many draws it is the mean of.
        components: how many data stood for the aggregate posterior.
        exact: whether those were all data; otherwise the value is biased upwards.
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
        layers: I(x; z_l) by layer.
        total: I(x; z) of all layers, or None where they are not independent given x.
        over: sum of the layers' minus the total, >= 0, or None with it.
    """

    layers: dict[str, Information]
    total: Information | None
    over: Information | None


def mutual_information(q: Posteriors, samples: int = 10_000, seed: int = 0, components: int | None = None) -> Information:
    r"""$I(x; z) = E_{q(z, x)} \log q(z \mid x) / q(z)$ of all dimensions of q together, for the N data given.

    The mean over samples of `log_ratios`: the entropy of the aggregate posterior (Chen et al. 2018) minus that of the
    posteriors, both at the same draws, which takes most of the variance away. At most log N.

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

    For layers independent given x, $q(z \mid x) = \prod_l q(z_l \mid x)$ as in a VLAE, $I_\mathrm{over}$ is the total
    correlation of the layers under the aggregate posterior. All use the same draws, so that the error of the difference is much
    below that of its parts. A layer of a stochastic chain (a mixture, M > 1) depends on its neighbours: with one among the
    layers there is no total.

    Arguments:
        layers: by name; of the same data in the same order.
        samples, seed, components: as for `draw_aggregate`.

    Raises:
        ConfigError: for no layers, or layers of different numbers of data.
    """
    joint = Posteriors.concatenate(layers.values())
    draws = draw_aggregate(joint, samples, seed, components)
    widths = [q.means.shape[2] for q in layers.values()]
    columns = draws.values.split(widths, dim=1)
    ratios = [
        log_ratios(q, AggregateDraws(values, draws.rows, draws.components, draws.data))
        for q, values in zip(layers.values(), columns, strict=True)
    ]
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
