"""Poisson likelihoods, for counts."""

from collections.abc import Sequence
from typing import Unpack

import pyro.distributions as dist
from torch import Tensor

from pyro_hvae.networks import NetworkOptions, ParentNetwork, Parents, Shape, soft_clamp

LOG_MEAN = (-15.0, 20.0)  # of a count, beyond which it grows with the logarithm of the excess: its exp stays finite


def start_at_counts(network: NetworkOptions) -> NetworkOptions:
    """The options of a network whose outputs are log means of counts, with the logarithm of `output_mean`, at least 1e-3."""
    mean = network.get("output_mean")
    return network if mean is None else {**network, "output_mean": mean.clamp(min=1e-3).log()}


class Poisson(ParentNetwork):
    r"""Independent counts, $\log p(x) = \sum_d x_d \log \lambda_d - \lambda_d - \log x_d!$, with log rates from the network.

    Arguments: parents, event, hidden, activation, gain, norm, input_bound, input_mean, output_mean, net as for `Gaussian`;
    `output_mean` is of the counts, at least 1e-3. Log rates beyond [-15, 20] grow with the logarithm of their excess only.

    >>> import torch
    >>> Poisson(2, 3, gain=0.0, output_mean=torch.ones(3))(torch.zeros(1, 2)).log_prob(torch.tensor([[0.0, 1.0, 2.0]]))
    tensor([-3.6931], grad_fn=<SumBackward1>)
    """

    def __init__(
        self, parents: Parents, event: Shape, hidden: Sequence[int] = (128, 128), **network: Unpack[NetworkOptions]
    ) -> None:
        super().__init__(parents, event, hidden, **start_at_counts(network))

    def forward(self, *parents: Tensor) -> dist.Independent:
        return dist.Poisson(soft_clamp(self.outputs(parents)[0], *LOG_MEAN).exp()).to_event(len(self.event))
