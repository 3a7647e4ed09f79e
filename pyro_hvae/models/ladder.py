"""The ladder: independent latents that enter the generating network at different depths."""

from collections.abc import Mapping, Sequence

import pyro
import torch
from torch import Tensor, nn

from pyro_hvae.errors import require_known
from pyro_hvae.networks import Gate, join_parents, take_parents

JOINS = ("concat", "gated", "sum")


class Rung(nn.Module):
    r"""One step down the ladder, $g_l = f_l([\alpha_l m_l(z_l); g_{l+1}])$ (VLAE, eq. 11; pro-VLAE, eq. 7 and 9).

    Arguments:
        branch: m_l, from z_l to `width` features. net: f_l.
        width: features that the branch gives.
        join: how these features join those from above: `concat` (the papers); `gated`, their sum with a learnt weight for each
            feature of the branch, 0.1 at first (the VLAE authors' code on MNIST); `sum`. The top rung joins nothing.

    Shapes: z (*plates, d_l), g (*plates, features of g_{l+1}) or None at the top -> (*plates, features of g_l).

    A rung with a closed gate does not run its branch: the branch's parameters get no gradient, and an optimiser has no memory
    of them when the gate opens.

    Raises:
        ConfigError: for an unknown join.

    >>> Rung(nn.Linear(2, 8), nn.Linear(24, 5), 8)(torch.zeros(3, 2), torch.zeros(3, 16)).shape
    torch.Size([3, 5])
    """

    def __init__(self, branch: nn.Module, net: nn.Module, width: int, join: str = "concat") -> None:
        super().__init__()
        require_known("join", join, JOINS)
        self.branch, self.net, self.width, self.join = branch, net, width, join
        self.gate = Gate()
        self.weight = nn.Parameter(torch.full((width,), 0.1)) if join == "gated" else None

    def forward(self, z: Tensor, g: Tensor | None = None) -> Tensor:
        if g is None:
            return self.net(self.gate(self.branch(z)))
        m = g.new_zeros(self.width) if self.gate.closed else self.gate(self.branch(z))
        if self.join == "concat":
            return self.net(join_parents([m, g], [(self.width,)]))
        return self.net(g + (m if self.weight is None else self.weight * m))


class Ladder(nn.Module):
    r"""$p(x, z) = p(x \mid z_1, \ldots, z_L) \prod_l p(z_l)$ with $g_l = f_l(g_{l+1}, z_l)$ and $p(x \mid z) = r(x; f_0(g_1))$.

    The generative program of VLAE (Zhao et al. 2017, eq. 8-11) and pro-VLAE (eq. 1, 5 and 7; its eq. 5 decodes g_0 where g_1
    is meant): the layers do not depend on each other; they differ in the depth of the network between them and x.

    Arguments:
        priors: site -> conditional without parents, from the top down ("z3", "z2", "z1").
        rungs: site -> `Rung`, in the same order; the first sees z_L alone.
        likelihood: conditional of x given g_1.
        given: names of inputs y for $p(x \mid y)$, which join z_L in the branch of the top rung: every g_l depends on them.
            The input `size_factor` is the last parent of the likelihood instead (see `Chain`).

    Shapes: plate `data` at dim -1 without subsample scaling, of len(x) rows, or `size` without x; y has the shape (rows, n), or
    (1, n). Returns x of shape (*plates, *event).

    Raises:
        ContractError: when called without a given input, or with another one.

    >>> from pyro_hvae.conditionals import Bernoulli, StandardNormal
    >>> priors = {"z2": StandardNormal(3), "z1": StandardNormal(2)}
    >>> rungs = {"z2": Rung(nn.Linear(3, 8), nn.ReLU(), 8), "z1": Rung(nn.Linear(2, 8), nn.ReLU(), 8)}
    >>> Ladder(priors, rungs, Bernoulli(16, (1, 4, 4)))(size=5).shape
    torch.Size([5, 1, 4, 4])
    """

    def __init__(
        self,
        priors: Mapping[str, nn.Module],
        rungs: Mapping[str, nn.Module],
        likelihood: nn.Module,
        given: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.given = tuple(given)
        self.priors, self.rungs, self.likelihood = nn.ModuleDict(priors), nn.ModuleDict(rungs), likelihood

    @property
    def gates(self) -> dict[str, Gate]:
        """Site -> gate of its branch, from the top down."""
        return {site: rung.gate for site, rung in self.rungs.items() if isinstance(rung, Rung)}

    def forward(self, x: Tensor | None = None, size: int = 1, **given: Tensor) -> Tensor:
        (y, size_factor), g = take_parents(self.given, given), None
        with pyro.plate("data", size if x is None else x.shape[0], dim=-1):
            for site, prior in self.priors.items():
                z = pyro.sample(site, prior())
                g = self.rungs[site](join_parents([z, *y], [(1,)]) if y and g is None else z, g)
            return pyro.sample("x", self.likelihood(g, *size_factor), obs=x)
