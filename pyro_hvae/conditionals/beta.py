"""Beta likelihoods, for shares strictly between 0 and 1."""

import math
from collections.abc import Sequence
from typing import Unpack

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_hvae.errors import ConfigError
from pyro_hvae.networks import NetworkOptions, ParentNetwork, Parents, Shape, soft_clamp

LOGIT = (-8.0, 8.0)  # of the mean, beyond which it grows with the logarithm of the excess: no concentration becomes 0
LOG_PRECISION = (-3.0, 10.0)


class Beta(ParentNetwork):
    r"""Independent Beta values, $p(x) = \prod_d \mathrm{Beta}(x_d; \mu_d \nu_d, (1 - \mu_d) \nu_d)$.

    The mean $\mu$ is from the network, the precision $\nu$ is trained, one a column; variances are $\mu (1 - \mu) / (\nu + 1)$.
    It has no density at the bounds 0 and 1.

    Arguments: `precision` is where $\nu$ starts. parents, event, hidden, activation, gain, norm, input_bound, input_mean,
    output_mean, net as for `Gaussian` with `squash`.

    Raises:
        ConfigError: for a precision that is not positive, and as `Gaussian`.

    >>> Beta(2, 3, gain=0.0, precision=2.0)(torch.zeros(1, 2)).log_prob(torch.rand(1, 3)).abs().item() < 1e-6  # uniform
    True
    """

    def __init__(
        self,
        parents: Parents,
        event: Shape,
        hidden: Sequence[int] = (128, 128),
        *,
        precision: float = 10.0,
        **network: Unpack[NetworkOptions],
    ) -> None:
        if not precision > 0:
            raise ConfigError(f"a Beta distribution's precision must be positive, got {precision!r}.")
        super().__init__(parents, event, hidden, squash=True, **network)
        self.log_precision = nn.Parameter(torch.full(self.event, math.log(precision)))

    def forward(self, *parents: Tensor) -> dist.Independent:
        logit = soft_clamp(self.outputs(parents)[0], *LOGIT)
        precision = soft_clamp(self.log_precision, *LOG_PRECISION).exp()
        # The sigmoid of -logit is 1 - mean without its rounding.
        return dist.Beta(precision * logit.sigmoid(), precision * logit.neg().sigmoid()).to_event(len(self.event))
