"""Negative binomial likelihoods, for counts that vary more than a Poisson's."""

import math
from collections.abc import Sequence
from typing import Unpack

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_hvae.conditionals.count_network import CountNetwork
from pyro_hvae.errors import ConfigError
from pyro_hvae.networks import NetworkOptions, Parents, Shape, soft_clamp

# Single precision loses 2e-3 nats even of counts near 100 at a dispersion of e^-8, where their variance is 103, more below it.
LOG_DISPERSION = (-8.0, 5.0)


class NegativeBinomial(CountNetwork):
    r"""Independent counts of mean $\mu$ from the network and variance $\mu + \alpha \mu^2$, one trained $\alpha$ a column.

    With $r = 1 / \alpha$, $p(x) = \prod_d \binom{x_d + r_d - 1}{x_d} (\frac{\mu_d}{\mu_d + r_d})^{x_d}
    (\frac{r_d}{\mu_d + r_d})^{r_d}$. Small $\alpha$ gives a Poisson, $\alpha = 1$ a geometric distribution.
    Single precision loses nats of large counts, as in `Poisson`.

    Arguments: `dispersion` is where $\alpha$ starts. parents, event, hidden, activation, gain, norm, input_bound, input_mean,
    output_mean, net, size_factor as for `Poisson`: a size s makes the mean $s \mu$, and leaves $\alpha$ as it is.

    Raises:
        ConfigError: for a dispersion that is not positive, and as `Gaussian`.

    >>> p = NegativeBinomial(2, 3, gain=0.0, dispersion=0.5, output_mean=torch.full((3,), 4.0))(torch.zeros(1, 2))
    >>> p.mean, p.variance
    (tensor([[4., 4., 4.]], grad_fn=<MulBackward0>), tensor([[12., 12., 12.]], grad_fn=<DivBackward0>))
    """

    def __init__(
        self,
        parents: Parents,
        event: Shape,
        hidden: Sequence[int] = (128, 128),
        *,
        dispersion: float = 1.0,
        size_factor: bool = False,
        **network: Unpack[NetworkOptions],
    ) -> None:
        if not dispersion > 0:
            raise ConfigError(f"a negative binomial's dispersion must be positive, got {dispersion!r}.")
        super().__init__(parents, event, hidden, size_factor=size_factor, **network)
        self.log_dispersion = nn.Parameter(torch.full(self.event, math.log(dispersion)))

    def forward(self, *parents: Tensor) -> dist.Independent:
        log_mean = self.log_mean(parents)
        log_dispersion = soft_clamp(self.log_dispersion, *LOG_DISPERSION)
        fn = dist.NegativeBinomial(log_dispersion.neg().exp(), logits=log_mean + log_dispersion)
        return fn.to_event(len(self.event))
