"""The bottom-up guide: a chain of conditionals x -> z_1 -> ... -> z_L."""

from collections.abc import Sequence

import pyro
from torch import Tensor, nn

from pyro_hvae.networks import mask_input, take_parents


class BottomUp(nn.Module):
    r"""$q(z \mid x) = q(z_1 \mid x) \prod_{l>1} q(z_l \mid z_{l-1})$.

    Here z_l precedes its model parent z_{l+1}, so the KL of a site below the top has no closed form and the ELBO takes the
    Monte Carlo log-ratio (stock `TraceMeanField_ELBO` is silently biased for this guide).

    Arguments:
        levels: conditionals q(z_1 | x), q(z_2 | z_1), ..., from the bottom up.
        first: number of the lowest latent (see `Chain`).
        given: names of inputs y (see `Chain`), the last parents of every conditional; `size_factor` of q(z_1 | x) alone.
        mask: q(z_1 | x, mask, y) is told which entries are observed, as numbers 0 and 1 in the shape of x. Without it a missing
            entry looks like a 0.

    Shapes: x (B, *event) with 0 in missing entries; observed, booleans of that shape, or None for all; y (B, ...) or (1, ...).

    Raises:
        ContractError: when called without a given input, or with another one.

    >>> import torch
    >>> from pyro_hvae.conditionals.gaussian import Gaussian
    >>> BottomUp([Gaussian((1, 4, 4), 3), Gaussian(3, 2)])(torch.zeros(5, 1, 4, 4)).shape
    torch.Size([5, 2])
    >>> guide = BottomUp([Gaussian([(4,), (4,), (10,)], 3)], given=["y"], mask=True)
    >>> guide(torch.zeros(5, 4), observed=torch.ones(5, 4) > 0, y=torch.eye(10)[[7]]).shape
    torch.Size([5, 3])
    """

    def __init__(self, levels: Sequence[nn.Module], first: int = 1, given: Sequence[str] = (), mask: bool = False) -> None:
        super().__init__()
        self.first, self.given, self.mask = first, tuple(given), mask
        self.levels = nn.ModuleList(levels)

    def forward(self, x: Tensor, size: int = 1, observed: Tensor | None = None, **given: Tensor) -> Tensor:
        y, size_factor = take_parents(self.given, given)
        h, last = [x, *mask_input(x, observed, self.mask)], size_factor
        with pyro.plate("data", x.shape[0], dim=-1):
            for level, q in enumerate(self.levels, start=self.first):
                h, last = [pyro.sample(f"z{level}", q(*h, *y, *last))], []
        return h[0]
