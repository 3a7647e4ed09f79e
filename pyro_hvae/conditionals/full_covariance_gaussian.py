"""Correlated Gaussians whose parameters come from a network."""

from collections.abc import Sequence
from typing import Any, Unpack

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal, register_kl

from pyro_hvae.conditionals.gaussian import MeanScaleNetwork
from pyro_hvae.networks import NetworkOptions, Parents, Shape


class FullCovarianceGaussian(MeanScaleNetwork):
    r"""A Gaussian with a full covariance, $N(\mu, L L^T)$ with $L = \mathrm{diag}(\sigma) (I + A)$ and A below the diagonal.

    The network gives $\mu$, $\sigma$ and A. Where A is 0, as near the start, it is the `Gaussian` of the same $\sigma$; the
    standard deviation of $z_i$ is $\sigma_i (1 + \sum_j A_{ij}^2)^{1/2}$. The KL to a diagonal Gaussian has a closed form.

    Arguments:
        event: D, or (D,). std, log_scale, init_log_scale: of $\sigma$, as for `Gaussian`; so are all others.

    Raises:
        ConfigError: for an event of several dims, and as `Gaussian`.

    >>> FullCovarianceGaussian((1, 16, 16), 3)(torch.zeros(7, 5, 1, 16, 16)).covariance_matrix.shape
    torch.Size([7, 5, 3, 3])
    """

    below: Tensor

    def __init__(
        self,
        parents: Parents,
        event: Shape,
        hidden: Sequence[int] = (128, 128),
        *,
        std: str = "exp",
        log_scale: tuple[float, float] = (-8.0, 2.0),
        init_log_scale: float | None = None,
        **network: Unpack[NetworkOptions],
    ) -> None:
        options: dict[str, Any] = {"std": std, "log_scale": log_scale, "init_log_scale": init_log_scale, **network}
        super().__init__(parents, event, hidden, more=lambda features: features * (features - 1) // 2, **options)
        self.register_buffer("below", torch.tril_indices(self.features, self.features, -1), persistent=False)

    def forward(self, *parents: Tensor) -> dist.MultivariateNormal:
        location, scale, below = self.widths(parents)
        factor = torch.diag_embed(torch.ones_like(scale))
        factor = factor.flatten(-2).index_add(-1, self.below[0] * self.features + self.below[1], below)
        factor = scale.unsqueeze(-1) * factor.unflatten(-1, (self.features, self.features))
        return dist.MultivariateNormal(location, scale_tril=factor)


@register_kl(MultivariateNormal, Independent)
def _kl_to_diagonal(p: MultivariateNormal, q: Independent) -> Tensor:
    r"""$\sum_i \left[\frac{(L L^T)_{ii} + (\mu_i - m_i)^2}{2 s_i^2} - \frac12 + \log s_i - \log L_{ii}\right]$, nats."""
    normal = q.base_dist
    if not isinstance(normal, Normal) or q.reinterpreted_batch_ndims != 1:
        raise NotImplementedError(f"no KL from a MultivariateNormal to {q}")
    spread = p._unbroadcasted_scale_tril.square().sum(-1) + (p.loc - normal.loc).square()
    logs = normal.scale.log() - p._unbroadcasted_scale_tril.diagonal(dim1=-2, dim2=-1).log()
    return (0.5 * (spread / normal.scale.square() - 1) + logs).sum(-1)
