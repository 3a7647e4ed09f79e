"""The chain of latents z_L -> ... -> z_1 -> x, Markov or with skip connections from every layer above."""

from collections.abc import Sequence

import pyro
from torch import Tensor, nn

from pyro_hvae.networks import take_parents


class Chain(nn.Module):
    r"""$p(x, z) = p(z_L) \prod_{l<L} p(z_l \mid z_{l+1}) \, p(x \mid z_1)$, or with `skip` all latents above as parents.

    One level is a VAE; two levels are the VHP, whose z1 is the paper's z and z2 its zeta (Klushyn et al. 2019, eq. 7);
    any number is the Markov HVAE (Zhao et al. 2017, eq. 4, where p(x | z_l) is a misprint for p(x | z_1)). With `skip`
    it is the autoregressive HVAE, $p(x \mid z_1, \ldots, z_L) \prod_l p(z_l \mid z_{l+1}, \ldots, z_L)$ (eq. 3).

    Arguments:
        prior: conditional without parents, for the top latent.
        levels: conditionals of z_{L-1}, ..., z_1, from the top down; empty for one level.
        likelihood: conditional of x.
        first: number of the latent next to x; 2 where x is itself the first layer of a larger hierarchy.
        skip: give every conditional all latents above it, the nearest first, instead of the nearest alone.
        given: names of inputs y for $p(x \mid y)$: the last parents of the likelihood and of every level, not of the prior.
            The input `size_factor` is the last parent of the likelihood alone, which multiplies the means of counts (see
            `Poisson`).

    Shapes: plate `data` at dim -1 without subsample scaling, of len(x) rows, or `size` without x; y has as many rows, or one.
    Returns x of shape (*plates, *event).

    Raises:
        ContractError: when called without a given input, or with another one.

    >>> import torch
    >>> from pyro_hvae.conditionals.gaussian import Gaussian, StandardNormal
    >>> Chain(StandardNormal(2), [], Gaussian(2, (1, 4, 4)))(size=3).shape
    torch.Size([3, 1, 4, 4])
    >>> Chain(StandardNormal(2), [], Gaussian(2 + 10, (1, 4, 4)), given=["y"])(size=3, y=torch.eye(10)[[7]]).shape
    torch.Size([3, 1, 4, 4])
    """

    def __init__(
        self,
        prior: nn.Module,
        levels: Sequence[nn.Module],
        likelihood: nn.Module,
        skip: bool = False,
        first: int = 1,
        given: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.first, self.given = first, tuple(given)
        self.prior, self.levels, self.likelihood, self.skip = prior, nn.ModuleList(levels), likelihood, skip

    def forward(self, x: Tensor | None = None, size: int = 1, **given: Tensor) -> Tensor:
        y, size_factor = take_parents(self.given, given)
        depth = len(self.levels) + self.first
        with pyro.plate("data", size if x is None else x.shape[0], dim=-1):
            above = [pyro.sample(f"z{depth}", self.prior())]
            for level, p in zip(range(depth - 1, self.first - 1, -1), self.levels, strict=True):
                z = pyro.sample(f"z{level}", p(*above, *y))
                above = [z, *above] if self.skip else [z]
            return pyro.sample("x", self.likelihood(*above, *y, *size_factor), obs=x)
