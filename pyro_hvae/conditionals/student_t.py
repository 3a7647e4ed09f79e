"""Student-t likelihoods, for data with outliers."""

import math
from collections.abc import Sequence
from typing import Any, Unpack

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_hvae.errors import ConfigError
from pyro_hvae.networks import NetworkOptions, ParentNetwork, Parents, Shape, soft_clamp

LOG_DF = (-4.0, 6.0)  # of the learned degrees of freedom less one; at 400 it is a Gaussian
WAY = 8.0  # that a learned log scale goes from its start, beyond which it grows with the logarithm of the excess


class StudentT(ParentNetwork):
    r"""Independent Student-t values around $\mu$ from the network, $p(x) = \prod_d t_{\nu_d}((x_d - \mu_d) / s) / s$.

    An outlier of k scales costs about $(\nu + 1) \log k$ nats, not $k^2 / 2$.

    Arguments: `scale` is s, `learn_scale` trains it, one for all columns. `df` fixes the degrees of freedom $\nu$; None
    (default) trains them, one a column, above 1 from 4 on, so that there is a mean. parents, event, hidden, activation, gain,
    norm, input_bound, input_mean, output_mean, net as for `Gaussian`.

    Raises:
        ConfigError: for a scale or degrees of freedom that are not positive, and as `Gaussian`.

    >>> StudentT(2, 3, gain=0.0, df=1.0)(torch.zeros(1, 2)).log_prob(torch.zeros(1, 3))  # -3 log pi
    tensor([-3.4342], grad_fn=<SumBackward1>)
    """

    log_df: nn.Parameter | None
    log_scale: nn.Parameter | None

    def __init__(
        self,
        parents: Parents,
        event: Shape,
        hidden: Sequence[int] = (128, 128),
        *,
        scale: float = 1.0,
        learn_scale: bool = False,
        df: float | None = None,
        **network: Unpack[NetworkOptions],
    ) -> None:
        if not scale > 0:
            raise ConfigError(f"a Student-t distribution's scale must be positive, got {scale!r}.")
        if df is not None and not df > 0:
            raise ConfigError(f"a Student-t distribution's degrees of freedom must be positive, got {df!r}.")
        super().__init__(parents, event, hidden, **network)
        self.df, self.scale = df, scale
        self.register_parameter("log_df", nn.Parameter(torch.full(self.event, math.log(3.0))) if df is None else None)
        self.register_parameter("log_scale", nn.Parameter(torch.tensor(math.log(scale))) if learn_scale else None)

    def forward(self, *parents: Tensor) -> dist.Independent:
        location, _ = self.location(parents)
        df: Any = self.df if self.log_df is None else 1 + soft_clamp(self.log_df, *LOG_DF).exp()
        scale: Any = self.scale
        if self.log_scale is not None:
            scale = soft_clamp(self.log_scale, math.log(self.scale) - WAY, math.log(self.scale) + WAY).exp()
        return dist.StudentT(df, location, scale).to_event(len(self.event))
