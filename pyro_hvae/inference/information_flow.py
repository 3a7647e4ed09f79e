"""Information of each layer about x during training, measured every time on the same data with the same noise."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyro_hvae.data import Batch, Rows
from pyro_hvae.errors import ConfigError
from pyro_hvae.inference.layer_posteriors import posteriors
from pyro_hvae.metrics import layer_information


class InformationFlow:
    r"""Measures $I(x; z_l)$ of each layer, $I(x; z)$ and $I_\mathrm{over} = \sum_l I(x; z_l) - I(x; z)$ of a guide.

    This is the information flow of pro-VLAE (section 4, figure 5), whose aggregate posterior is that of all training data (Chen
    et al. 2018); ours is the exact one of N of them. No value exceeds log N (8.5 nats for 5,000). A value is too low by about
    its bias, which stands beside it (see `Information`): 0.15 at 5 nats in nine dimensions, 0.5 at 7; at 12, all above log N.
    Where the total is less than two nats below log N, $I_\mathrm{over}$ is left out. Points cost passes through the guide.

    Arguments:
        x: training data of shape (n, *event), on the guide's device. With inputs y beside them all are of the pair, I(x, y; z).
        points: N, chosen at random; at most all data. samples: number of these data that get a draw of z.
        draws: M of the mixtures of layers that depend on those below (see `posteriors`); the cost is proportional to M.
        seed: of points, samples and draws, the same at every measurement, so only the guide differs.

    Raises:
        ConfigError: for fewer than two data.

    >>> from pyro_hvae import BottomUp, Gaussian
    >>> flow = InformationFlow(torch.rand(100, 4), points=50)
    >>> list(flow.row(BottomUp([Gaussian(4, 2)])))[:4]
    ['information.z1', 'information.total', 'information.over', 'information.limit']
    """

    def __init__(
        self, x: Tensor | Batch | Rows, points: int = 5000, samples: int = 1000, draws: int = 16, seed: int = 0
    ) -> None:
        rows = Rows.of(x)
        if min(points, len(rows)) < 2:
            raise ConfigError(f"information about the datum needs at least two data, got {points} points of {len(rows)} data.")
        chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:points]
        self.x = rows.hold(chosen)
        self.samples, self.draws, self.seed = samples, draws, seed

    def row(self, guide: Callable[..., Any]) -> dict[str, float]:
        """`information.SITE` of every layer, `information.total`, `information.over` and `information.limit` (log N), in nats.

        `information_bias.SITE`, `.total` and `.over` say how many nats these values are too low about the population of x.
        Where a layer depends on another one given x, total and over are left out; the value of that layer is an upper bound
        that falls with the number of draws. Neither the guide nor a global random stream changes, so the measurement does not
        influence training.

        Raises:
            ConfigError: for a guide with other posteriors than Gaussians, or with parameters that are not finite.
        """
        layers = posteriors(guide, self.x, self.draws, self.seed)
        result = layer_information(layers, self.samples, self.seed)
        terms = {**result.layers, "total": result.total, "over": result.over}
        known = {name: term for name, term in terms.items() if term is not None}
        values = {f"information.{name}": term.value for name, term in known.items()}
        biases = {f"information_bias.{name}": term.bias for name, term in known.items()}
        return {**values, "information.limit": math.log(len(self.x)), **biases}
