"""The top-down guide of the ladder VAE: bottom-up messages fused with the generative conditionals on the way down."""

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from pyro_hvae.networks import join_inputs, mask_input, take_parents


def fuse(message: dist.Independent, prior: dist.Independent) -> dist.Independent:
    r"""The normalised product of two diagonal Gaussians, weighted by precision (Soenderby et al. 2016, eq. 16-18).

    $v = 1 / (1/\hat v + 1/v_p)$, $m = v (\hat m / \hat v + m_p / v_p)$. A factor of infinite variance leaves the other.

    >>> import torch
    >>> one, two = (dist.Normal(torch.tensor([m]), torch.ones(1)).to_event(1) for m in (0.0, 1.0))
    >>> fuse(one, two).mean, fuse(one, two).variance
    (tensor([0.5000]), tensor([0.5000]))
    """
    m, p = message.base_dist, prior.base_dist
    precise_m, precise_p = m.scale.square().reciprocal(), p.scale.square().reciprocal()
    variance = (precise_m + precise_p).reciprocal()
    mean = variance * (m.loc * precise_m + p.loc * precise_p)
    return dist.Normal(mean, variance.sqrt()).to_event(len(prior.event_shape))


class TopDown(nn.Module):
    r"""$q(z_L \mid x) \prod_{l<L} q_l(z_l \mid z_{l+1}, x)$ with $q_l \propto \hat q_l(z_l; x) \, p(z_l \mid z_{l+1})$.

    The guide of the ladder VAE (Soenderby et al. 2016): a deterministic upward pass gives a message for every layer; on the
    way down each but the top one is fused with the model's conditional, the very module (the published code does not share
    them by default). All sites follow their model parents, so the KLs have closed forms.

    Arguments:
        steps: networks d_l = step_l(d_{l-1}) with d_0 = x flattened, from the bottom up.
        messages: conditionals of d_1, ..., d_L giving Gaussians over z_1, ..., z_L, from the bottom up.
        levels: the model's conditionals p(z_{L-1} | z_L), ..., p(z_1 | z_2), from the top down.
        given, mask: as for `BottomUp`; mask and y are flattened and joined to x, and y is the last parent of every level.

    Shapes and errors: as for `BottomUp`.

    >>> import torch
    >>> from pyro_hvae.conditionals.gaussian import Gaussian
    >>> steps = [nn.Linear(16, 8), nn.Linear(8, 4)]
    >>> TopDown(steps, [Gaussian(8, 3), Gaussian(4, 2)], [Gaussian(2, 3)])(torch.zeros(5, 1, 4, 4)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        steps: Sequence[nn.Module],
        messages: Sequence[nn.Module],
        levels: Sequence[nn.Module],
        given: Sequence[str] = (),
        mask: bool = False,
    ) -> None:
        super().__init__()
        self.given, self.mask = tuple(given), mask
        self.steps, self.messages = nn.ModuleList(steps), nn.ModuleList(messages)
        self.levels = nn.ModuleList(levels)

    def forward(self, x: Tensor, size: int = 1, observed: Tensor | None = None, **given: Tensor) -> Tensor:
        y, size_factor = take_parents(self.given, given)
        d, messages = join_inputs([x, *mask_input(x, observed, self.mask), *y, *size_factor]).flatten(1), []
        for step, message in zip(self.steps, self.messages, strict=True):
            d = step(d)
            messages.append(message(d))
        with pyro.plate("data", x.shape[0], dim=-1):
            z = pyro.sample(f"z{len(messages)}", messages.pop())
            for p in self.levels:
                z = pyro.sample(f"z{len(messages)}", fuse(messages.pop(), p(z, *y)))
        return z
