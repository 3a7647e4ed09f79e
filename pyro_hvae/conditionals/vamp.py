"""The VampPrior: a mixture of the guide's own posteriors at learnt pseudo-inputs (Tomczak and Welling 2018)."""

import math
from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_hvae.errors import ConfigError
from pyro_hvae.networks import mask_input


class GaussianMixture(TorchDistribution):
    r"""A mixture of C diagonal Gaussians with equal weights, $\frac1C \sum_c N(m_c, \mathrm{diag}\, s_c^2)$.

    The density of (*plates, D) values takes two matrix products and no (*plates, C, D) tensor. The products expand a square,
    which loses nats in single precision where components are narrow: they are in double. Each value draws its component.

    Arguments:
        loc, scale: of the components, shape (C, D).

    >>> p = GaussianMixture(torch.zeros(5, 2), torch.ones(5, 2))
    >>> torch.allclose(p.log_prob(torch.ones(3, 2)), dist.Normal(0.0, 1.0).log_prob(torch.ones(3, 2)).sum(-1))
    True
    """

    arg_constraints = {  # pyright: ignore[reportAssignmentType]
        "loc": constraints.independent(constraints.real, 2),
        "scale": constraints.independent(constraints.positive, 2),
    }
    support = constraints.real_vector  # pyright: ignore[reportAssignmentType]

    def __init__(self, loc: Tensor, scale: Tensor, batch_shape: Sequence[int] = (), validate_args: bool | None = None) -> None:
        self.loc, self.scale = loc, scale
        super().__init__(torch.Size(batch_shape), loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "GaussianMixture":
        return GaussianMixture(self.loc, self.scale, batch_shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        centre = self.loc.mean(0)  # small numbers lose fewer digits
        exact = value.dtype if value.device.type == "mps" else torch.float64  # MPS has no double precision
        loc, z, scale = (t.to(exact) for t in (self.loc - centre, value - centre, self.scale))
        precision = scale.reciprocal().square()
        energy = z.square() @ precision.T - 2 * z @ (loc * precision).T + (loc.square() * precision).sum(-1)
        size, features = loc.shape
        normaliser = scale.log().sum(-1) + 0.5 * features * math.log(2 * math.pi)
        values = (torch.logsumexp(-0.5 * energy - normaliser, -1) - math.log(size)).to(value.dtype)
        return values.expand(torch.broadcast_shapes(self.batch_shape, values.shape))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with torch.no_grad():
            component = torch.randint(len(self.loc), (*sample_shape, *self.batch_shape), device=self.loc.device)
            return torch.normal(self.loc[component], self.scale[component])

    @property
    def mean(self) -> Tensor:
        return self.loc.mean(0).expand(*self.batch_shape, -1)


class Vamp(nn.Module):
    r"""The prior $p(z) = \frac1C \sum_c q(z \mid u_c)$ with the guide's own conditional q and learnt pseudo-inputs u_c.

    Gradients reach the shared conditional. The KL to a mixture has no closed form: the ELBO takes the Monte Carlo log-ratio.

    Arguments:
        encoder: the `Gaussian` q(z | x) of the guide, a diagonal one over an event of shape (D,).
        data: values near which the pseudo-inputs start, shape (C, *event of x): random training data.
        clip: range the pseudo-inputs are clipped to, such as (0, 1) for images. They start strictly inside, u = low +
            (0.05 + 0.9 x) (high - low) for x in [0, 1], since outside the range the clipping passes no gradient.
            None leaves them free. The published code starts them at N(0.05, 0.01^2) instead.
        given: where the pseudo-inputs' own given inputs start, for an encoder q(z | x, y), each (C, ...). They are learnt, too.
        mask: the encoder is q(z | x, mask, y); no entry of a pseudo-input is missing.

    Raises:
        ConfigError: for no data.

    >>> from pyro_hvae.conditionals.gaussian import Gaussian
    >>> Vamp(Gaussian((1, 4, 4), 3), torch.rand(10, 1, 4, 4))().sample((7,)).shape
    torch.Size([7, 3])
    """

    def __init__(
        self,
        encoder: nn.Module,
        data: Tensor,
        clip: tuple[float, float] | None = (0.0, 1.0),
        given: Sequence[Tensor] = (),
        mask: bool = False,
    ) -> None:
        super().__init__()
        if len(data) < 1:
            raise ConfigError("a VampPrior needs at least one pseudo-input.")
        start = data.detach().clone()
        if clip is not None:
            low, high = clip
            start = low + (high - low) * (0.05 + 0.9 * (start - low) / (high - low))
        self.encoder, self.clip, self.mask = encoder, clip, mask
        self.pseudo_inputs = nn.Parameter(start + 0.01 * torch.randn_like(start))
        self.pseudo_given = nn.ParameterList([nn.Parameter(y.detach().clone()) for y in given])

    def forward(self) -> GaussianMixture:
        inputs = self.pseudo_inputs if self.clip is None else self.pseudo_inputs.clamp(*self.clip)
        components: dist.Independent = self.encoder(inputs, *mask_input(inputs, None, self.mask), *self.pseudo_given)
        normal = components.base_dist
        return GaussianMixture(normal.loc, normal.scale, validate_args=False)
