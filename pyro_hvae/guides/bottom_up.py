"""The bottom-up guide: a chain of conditionals x -> z_1 -> ... -> z_L."""

from collections.abc import Sequence

import pyro
from torch import Tensor, nn


class BottomUp(nn.Module):
    r"""$q(z \mid x) = q(z_1 \mid x) \prod_{l>1} q(z_l \mid z_{l-1})$.

    Here z_l precedes its model parent z_{l+1}, so the KL of a site below the top has no closed form and the ELBO takes the
    Monte Carlo log-ratio (stock `TraceMeanField_ELBO` is silently biased for this guide).

    Arguments:
        levels: conditionals q(z_1 | x), q(z_2 | z_1), ..., from the bottom up.
        first: number of the lowest latent (see `Chain`).

    >>> import torch
    >>> from pyro_hvae.conditionals.gaussian import Gaussian
    >>> BottomUp([Gaussian((1, 4, 4), 3), Gaussian(3, 2)])(torch.zeros(5, 1, 4, 4)).shape
    torch.Size([5, 2])
    """

    def __init__(self, levels: Sequence[nn.Module], first: int = 1) -> None:
        super().__init__()
        self.first = first
        self.levels = nn.ModuleList(levels)

    def forward(self, x: Tensor, size: int = 1) -> Tensor:
        h = x
        with pyro.plate("data", x.shape[0], dim=-1):
            for level, q in enumerate(self.levels, start=self.first):
                h = pyro.sample(f"z{level}", q(h))
        return h
