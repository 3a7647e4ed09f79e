"""Categorical likelihoods, for columns of classes or of few levels."""

import math
from collections.abc import Sequence
from typing import Unpack

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_hvae.errors import ConfigError
from pyro_hvae.networks import NetworkOptions, ParentNetwork, Parents, Shape, event_shape


class Categorical(ParentNetwork):
    r"""Independent entries that are one of L levels, $p(x) = \prod_d \pi_{d, x_d}$, with logits of all $\pi$ from the network.

    x holds the numbers of the levels, 0.0, 1.0, ..., L - 1, as floats. They have no order and no mean: pictures show the mode.

    Arguments: `levels` is L, the same for all entries; those that an entry never has cost little. parents, event, hidden,
    activation, gain, norm, input_bound, input_mean, net as for `Gaussian`, the network with L outputs for each entry, level by
    level; `output_mean` are the probabilities of the levels, shape (levels, *event), at least 1e-3.

    Raises:
        ConfigError: for less than two levels, and as `Gaussian`.

    >>> Categorical(2, 3, levels=4, gain=0.0)(torch.zeros(1, 2)).log_prob(torch.tensor([[0.0, 3.0, 1.0]]))  # -3 log 4
    tensor([-4.1589], grad_fn=<SumBackward1>)
    """

    def __init__(
        self,
        parents: Parents,
        event: Shape,
        hidden: Sequence[int] = (128, 128),
        *,
        levels: int,
        **network: Unpack[NetworkOptions],
    ) -> None:
        if levels < 2:
            raise ConfigError(f"a Categorical has at least two levels, got levels={levels}.")
        mean = network.get("output_mean")
        if mean is not None:
            network = {**network, "output_mean": mean.clamp(min=1e-3).log()}
        super().__init__(parents, event, hidden, extra=(levels - 1) * math.prod(event_shape(event)), **network)
        self.levels = levels

    def forward(self, *parents: Tensor) -> dist.Independent:
        first, others = self.outputs(parents)
        level = -1 - len(self.event)
        others = others.reshape(*others.shape[:-1], self.levels - 1, *self.event)
        logits = torch.cat([first.unsqueeze(level), others], level).movedim(level, -1)
        return dist.Categorical(logits=logits).to_event(len(self.event))
