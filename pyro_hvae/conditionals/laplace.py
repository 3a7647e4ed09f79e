"""Laplace likelihoods, for data with sharp edges."""

from collections.abc import Sequence
from typing import Unpack

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_hvae.errors import ConfigError
from pyro_hvae.networks import NetworkOptions, ParentNetwork, Parents, Shape


class Laplace(ParentNetwork):
    r"""Independent Laplace pixels of one fixed scale b, $-\log p(x) = \sum_{d=1}^D |x_d - \mu_d| / b + D \log 2b$ in nats.

    VLAE's published code (Zhao et al. 2017) weighs the absolute error by 1 / b = 8 on MNIST; the paper has a Gaussian.

    Arguments: `scale` is b, the mean absolute deviation (the standard deviation is sqrt(2) b). parents, event, hidden, squash,
    activation, gain, norm, input_mean, output_mean, net as for `Gaussian`.

    Raises:
        ConfigError: as `Gaussian`.

    >>> Laplace(2, 4, scale=0.125, gain=0.0)(torch.zeros(3, 2)).log_prob(torch.full((3, 4), 0.25))  # -4 (2 + log 0.25)
    tensor([-2.4548, -2.4548, -2.4548], grad_fn=<SumBackward1>)
    """

    def __init__(
        self,
        parents: Parents,
        event: Shape,
        hidden: Sequence[int] = (128, 128),
        *,
        scale: float,
        squash: bool = False,
        **network: Unpack[NetworkOptions],
    ) -> None:
        if not scale > 0:
            raise ConfigError(f"a Laplace distribution's scale must be positive, got {scale!r}.")
        super().__init__(parents, event, hidden, squash=squash, **network)
        self.scale = scale

    def forward(self, *parents: Tensor) -> dist.Independent:
        location, _ = self.location(parents)
        return dist.Laplace(location, torch.full_like(location, self.scale)).to_event(len(self.event))
