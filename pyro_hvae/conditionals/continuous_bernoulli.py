"""Continuous Bernoulli likelihoods, for grey levels: a density on [0, 1] with its bounds."""

from collections.abc import Sequence
from typing import Unpack

import pyro.distributions as dist
from torch import Tensor

from pyro_hvae.conditionals import continuous_bernoulli_law as law
from pyro_hvae.networks import NetworkOptions, ParentNetwork, Parents, Shape


class ContinuousBernoulli(ParentNetwork):
    r"""Independent values in [0, 1] of density proportional to $e^{\eta x}$, with logits $\eta$ from the network.

    What a Bernoulli of grey values lacks to be a density. The mean is not the sigmoid of $\eta$: that of $\eta = 10$ is 0.9.

    Arguments: parents, event, hidden, activation, gain, norm, input_bound, input_mean, output_mean, net as for `Bernoulli`;
    `output_mean` is the mean of x, clipped to [1e-3, 0.999].

    >>> import torch
    >>> ContinuousBernoulli(2, 3, gain=0.0)(torch.zeros(1, 2)).log_prob(torch.rand(1, 3)).abs().item() < 1e-6  # uniform
    True
    """

    def __init__(
        self, parents: Parents, event: Shape, hidden: Sequence[int] = (128, 128), **network: Unpack[NetworkOptions]
    ) -> None:
        mean = network.get("output_mean")
        start: NetworkOptions = {} if mean is None else {"output_mean": law.ContinuousBernoulli.find_logit(mean)}
        super().__init__(parents, event, hidden, **{"gain": 1.0, **network, **start})

    def forward(self, *parents: Tensor) -> dist.Independent:
        return law.ContinuousBernoulli(logits=self.outputs(parents)[0]).to_event(len(self.event))
