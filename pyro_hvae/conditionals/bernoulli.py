"""Bernoulli likelihoods, for binary pixels and grey levels."""

from collections.abc import Sequence
from typing import Unpack

import pyro.distributions as dist
from torch import Tensor

from pyro_hvae.networks import NetworkOptions, ParentNetwork, Parents, Shape


class Bernoulli(ParentNetwork):
    r"""Independent Bernoulli pixels with logits from the network; also accepts targets in [0, 1].

    Arguments: parents, event, hidden, activation, gain, norm, input_bound, input_mean, output_mean, net as for `Gaussian`;
    `gain` is 1, for nothing is sampled below x and a logit costs at most its own size; `output_mean` is a probability, clipped
    to [1e-3, 0.999] before the logit.

    >>> import torch
    >>> Bernoulli(2, (1, 4, 4))(torch.zeros(3, 2)).log_prob(torch.full((3, 1, 4, 4), 0.5)).shape
    torch.Size([3])
    """

    def __init__(
        self, parents: Parents, event: Shape, hidden: Sequence[int] = (128, 128), **network: Unpack[NetworkOptions]
    ) -> None:
        super().__init__(parents, event, hidden, squash=True, **{"gain": 1.0, **network})

    def forward(self, *parents: Tensor) -> dist.Independent:
        # Grey levels in [0, 1] are a usual target; torch's support check admits only {0, 1}.
        return dist.Bernoulli(logits=self.outputs(parents)[0], validate_args=False).to_event(len(self.event))
