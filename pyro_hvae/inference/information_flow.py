"""How much each layer knows about x as training goes on, measured on the same data with the same noise every time."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pyro_hvae.data import Rows
from pyro_hvae.errors import ConfigError
from pyro_hvae.inference.layer_posteriors import posteriors
from pyro_hvae.metrics import layer_information
from pyro_hvae.runtime.module_modes import evaluation_mode

__all__ = ["InformationFlow"]


class InformationFlow:
    r"""$I(x; z_l)$ of each layer, $I(x; z)$ and $I_\mathrm{over} = \sum_l I(x; z_l) - I(x; z)$ of a guide, whenever asked.

    The information flow of pro-VLAE (section 4, figure 5). There all training data make up the aggregate posterior, after
    Chen et al. 2018; here it is that of N of them, exactly, so that the values say how far *these* are told apart. None exceeds
    log N (8.5 nats for 5,000), and one of I nats is some $\log(1 + e^I / N)$ too low: 0.03 at 5 nats, 0.2 at 7, all above
    log N at 12. Where the total is that near the limit, what the layers know together seems to be known twice, in
    $I_\mathrm{over}$. More points cost passes through the guide, which take most of the time for images.

    Arguments:
        x: training data of shape (n, *event), on the guide's device.
        points: N, chosen at random; all where there are no more.
        samples: how many of them get a draw of z to average over.
        draws: for layers that depend on those below (see `posteriors`); they cost so many times as much.
        seed: of all that, the same at every measurement: what differs between two of them is the guide.

    Raises:
        ConfigError: for fewer than two data.

    >>> from pyro_hvae import BottomUp, Gaussian
    >>> flow = InformationFlow(torch.rand(100, 4), points=50)
    >>> list(flow.row(BottomUp([Gaussian(4, 2)])))
    ['information.z1', 'information.total', 'information.over', 'information.limit']
    """

    def __init__(self, x: Tensor | Rows, points: int = 5000, samples: int = 1000, draws: int = 16, seed: int = 0) -> None:
        rows = Rows.of(x)
        if min(points, len(rows)) < 2:
            raise ConfigError(
                f"information about which datum it is needs at least two data, got {points} points of {len(rows)} data."
            )
        chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:points]
        # Read or drawn once, but kept as small as it is stored.
        self.x = replace(rows, store=rows.raw(chosen), select=None, ahead=False)
        self.samples, self.draws, self.seed = samples, draws, seed

    def row(self, guide: Callable[..., Any]) -> dict[str, float]:
        """`information.SITE` of every layer, `information.total`, `information.over` and `information.limit` (log N), in nats.

        Where a layer depends on another one given x, total and over are left out, and the layer's own value is an upper bound
        that falls with the number of draws. The guide is measured in evaluation mode and nothing of it is changed, nor of any
        global random stream: training goes on as if it had not been looked at.

        Raises:
            ConfigError: for a guide with other posteriors than Gaussians, or with parameters that are not finite.
        """
        with evaluation_mode(guide):
            layers = posteriors(guide, self.x, self.draws, self.seed)
        found = layer_information(layers, self.samples, self.seed)
        parts = {**found.layers, "total": found.total, "over": found.over}
        values = {f"information.{name}": part.value for name, part in parts.items() if part is not None}
        return {**values, "information.limit": math.log(len(self.x))}
