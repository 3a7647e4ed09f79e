"""Conditionals of data alone: pixels that are binary or have sharp edges, without a scale from the network."""

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_hvae.errors import ConfigError
from pyro_hvae.networks.parent_network import Net, ParentNetwork, Parents, Shape

__all__ = ["Bernoulli", "Laplace"]


class Bernoulli(ParentNetwork):
    r"""Independent Bernoulli pixels with logits from the network; also accepts targets in [0, 1].

    Arguments as for `Gaussian`; `output_mean` is a probability, clipped to [1e-3, 0.999] before the logit.

    >>> Bernoulli(2, (1, 4, 4))(torch.zeros(3, 2)).log_prob(torch.full((3, 1, 4, 4), 0.5)).shape
    torch.Size([3])
    """

    def __init__(
        self,
        parents: Parents,
        event: Shape,
        hidden: Sequence[int] = (128, 128),
        *,
        activation: str = "relu",
        gain: float = 1.0,
        norm: bool = False,
        input_mean: Tensor | None = None,
        output_mean: Tensor | None = None,
        net: Net | None = None,
    ) -> None:
        super().__init__(parents, event, 0, hidden, activation, gain, norm, True, input_mean, output_mean, net)

    def forward(self, *parents: Tensor) -> dist.Independent:
        # Grey levels in [0, 1] are a usual target; torch's support check admits only {0, 1}.
        return dist.Bernoulli(logits=self.outputs(parents)[0], validate_args=False).to_event(len(self.event))


class Laplace(ParentNetwork):
    r"""Independent Laplace pixels of one fixed scale b, $-\log p(x) = \sum_{d=1}^D |x_d - \mu_d| / b + D \log 2b$ in nats.

    The published code of VLAE (Zhao et al. 2017) weighs the absolute error by 1 / b, 8 on MNIST: b = 0.125. The paper has a
    Gaussian.

    Arguments as for `Gaussian`; `scale` is b, the mean absolute deviation: the standard deviation is sqrt(2) b.

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
        activation: str = "relu",
        gain: float = 1.0,
        norm: bool = False,
        squash: bool = False,
        input_mean: Tensor | None = None,
        output_mean: Tensor | None = None,
        net: Net | None = None,
    ) -> None:
        if not scale > 0:
            raise ConfigError(f"a Laplace distribution's scale must be positive, got {scale!r}.")
        super().__init__(parents, event, 0, hidden, activation, gain, norm, squash, input_mean, output_mean, net)
        self.scale = scale

    def forward(self, *parents: Tensor) -> dist.Independent:
        location, _ = self.location(parents)
        return dist.Laplace(location, torch.full_like(location, self.scale)).to_event(len(self.event))
