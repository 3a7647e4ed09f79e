"""The guide of a ladder of independent latents: one head per layer, at different depths of one network."""

from collections.abc import Mapping, Sequence

import pyro
from torch import Tensor, nn

from pyro_hvae.networks import Gate, join_inputs, mask_input, take_parents


class Heads(nn.Module):
    r"""$q(z \mid x) = \prod_l q(z_l \mid \alpha_l h_l)$ with $h_l = s_l(h_{l-1})$ and $h_0$ = x or trunk(x).

    The guide of VLAE (Zhao et al. 2017, eq. 12-13) and pro-VLAE (eq. 2 and 9); the gate scales what the head reads, not h_l.
    The top layer is sampled first, as in `Ladder`, so that every KL has a closed form.

    Arguments:
        heads: site -> conditional of h_l, from the bottom up ("z1", "z2", "z3").
        steps: site -> network from h_{l-1} to h_l; a site without one reads what the site below reads.
        trunk: network from x to h_0; without it h_0 is x flattened.
        given, mask: as for `BottomUp`; mask and y are flattened and joined to x, where it enters.

    Shapes: h_l (B, features); the others, and errors, as for `BottomUp`.

    >>> import torch
    >>> from pyro_hvae.conditionals.gaussian import Gaussian
    >>> guide = Heads({"z1": Gaussian(16, 2), "z2": Gaussian(8, 3)}, {"z2": nn.Linear(16, 8)})
    >>> guide(torch.zeros(5, 1, 4, 4)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        heads: Mapping[str, nn.Module],
        steps: Mapping[str, nn.Module] | None = None,
        trunk: nn.Module | None = None,
        given: Sequence[str] = (),
        mask: bool = False,
    ) -> None:
        super().__init__()
        self.given, self.mask = tuple(given), mask
        self.heads, self.steps, self.trunk = nn.ModuleDict(heads), nn.ModuleDict(steps or {}), trunk
        self.gates = nn.ModuleDict({site: Gate() for site in heads})

    def forward(self, x: Tensor, size: int = 1, observed: Tensor | None = None, **given: Tensor) -> Tensor:
        y, size_factor = take_parents(self.given, given)
        inputs = join_inputs([x, *mask_input(x, observed, self.mask), *y, *size_factor])
        h, q = inputs.flatten(1) if self.trunk is None else self.trunk(inputs), {}
        for site, head in self.heads.items():
            if site in self.steps:
                h = self.steps[site](h)
            q[site] = head(self.gates[site](h))
        with pyro.plate("data", x.shape[0], dim=-1):
            drawn = [pyro.sample(site, q[site]) for site in reversed(q)]
        return drawn[-1]
