"""A flow around a diagonal Gaussian: a guide that starts as the Gaussian does and can become correlated, skewed or bimodal."""

from collections.abc import Sequence
from typing import Any, Unpack

import pyro.distributions as dist
from torch import Tensor
from torch.distributions import AffineTransform

from pyro_hvae.conditionals.flow import Flow, start_near_identity, zuko_flows
from pyro_hvae.conditionals.gaussian import MeanScaleNetwork
from pyro_hvae.networks import NetworkOptions, Parents, Shape


class GaussianFlow(MeanScaleNetwork):
    r"""$z = \mu + \sigma u$ with u from a conditional flow, $u = f^{-1}(\epsilon; c)$ and $\epsilon \sim N(0, I)$.

    The network gives $\mu$, $\sigma$ and the context c. f is made of coupling layers of rational-quadratic splines (Durkan et
    al. 2019) that start near the identity, and it is the identity beyond 5: a draw costs two passes of each layer, a density
    one. Needs the extra `flows`.

    Arguments:
        event: D, or (D,). transforms: coupling layers; even numbers treat all dims alike. context: numbers in c.
        width: of the layers' networks, which have two hidden layers. bins: of a spline.
        std, log_scale, init_log_scale: of $\sigma$, as for `Gaussian`; so are all others.

    Raises:
        ConfigError: for an event of several dims, and as `Gaussian`. DeviceError: without zuko.

    >>> import torch
    >>> q = GaussianFlow((1, 16, 16), 3)(torch.zeros(7, 5, 1, 16, 16))
    >>> q.log_prob(q.sample()).shape
    torch.Size([7, 5])
    """

    def __init__(
        self,
        parents: Parents,
        event: Shape,
        hidden: Sequence[int] = (128, 128),
        *,
        transforms: int = 2,
        context: int = 16,
        width: int = 32,
        bins: int = 8,
        std: str = "exp",
        log_scale: tuple[float, float] = (-8.0, 2.0),
        init_log_scale: float | None = None,
        **network: Unpack[NetworkOptions],
    ) -> None:
        options: dict[str, Any] = {"std": std, "log_scale": log_scale, "init_log_scale": init_log_scale, **network}
        super().__init__(parents, event, hidden, more=lambda _: context, **options)
        layers: dict[str, Any] = {"transforms": transforms, "passes": 2, "bins": bins, "hidden_features": (width, width)}
        flow = zuko_flows().NSF(self.features, context, **layers)
        start_near_identity(flow)
        self.flow = Flow(flow, context)

    def forward(self, *parents: Tensor) -> dist.TransformedDistribution:
        location, scale, context = self.widths(parents)
        return dist.TransformedDistribution(self.flow(context), [AffineTransform(location, scale, event_dim=1)])
