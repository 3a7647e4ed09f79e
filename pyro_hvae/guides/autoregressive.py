"""The autoregressive guide: sites in any order, each given x and all sites before it."""

from collections.abc import Mapping, Sequence

import pyro
from torch import Tensor, nn

from pyro_hvae.networks import join_inputs, mask_input, take_parents


class Autoregressive(nn.Module):
    r"""$q(z \mid x) = \prod_i q(z_{o_i} \mid x, z_{o_{i-1}}, \ldots, z_{o_1})$ for sites in the order o.

    In the order z1, z2, ..., zL it is the guide of the autoregressive HVAE; as q(z2 | x) q(z1 | x, z2) it is that of the
    two-level VampPrior (Tomczak and Welling 2018, eq. 14).

    Arguments:
        levels: site -> conditional given the features of x and the sites before it, the latest first; in sampling order.
        trunk: network from x to the features that all conditionals share; without it they get x itself.
        given, mask: as for `BottomUp`. A trunk gets x, mask and y flattened and joined; without it they are the first
            parents of every conditional.

    Shapes and errors: as for `BottomUp`.

    >>> import torch
    >>> from pyro_hvae.conditionals.gaussian import Gaussian
    >>> guide = Autoregressive({"z2": Gaussian(16, 2), "z1": Gaussian([(16,), (2,)], 3)})
    >>> guide(torch.zeros(5, 16)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        levels: Mapping[str, nn.Module],
        trunk: nn.Module | None = None,
        given: Sequence[str] = (),
        mask: bool = False,
    ) -> None:
        super().__init__()
        self.given, self.mask = tuple(given), mask
        self.levels, self.trunk = nn.ModuleDict(levels), trunk

    def forward(self, x: Tensor, size: int = 1, observed: Tensor | None = None, **given: Tensor) -> Tensor:
        y, size_factor = take_parents(self.given, given)
        inputs = [x, *mask_input(x, observed, self.mask), *y, *size_factor]
        features = inputs if self.trunk is None else [self.trunk(join_inputs(inputs))]
        drawn: list[Tensor] = []
        with pyro.plate("data", x.shape[0], dim=-1):
            for name, q in self.levels.items():
                drawn = [pyro.sample(name, q(*features, *drawn)), *drawn]
        return drawn[0]
