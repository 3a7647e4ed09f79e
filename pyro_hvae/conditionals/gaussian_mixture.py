"""Mixtures of diagonal Gaussians: the distribution, and the prior whose weights, means and variances are learnt."""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_hvae.errors import ConfigError
from pyro_hvae.networks import soft_clamp


class GaussianMixture(TorchDistribution):
    r"""A mixture of C diagonal Gaussians, $\sum_c w_c N(m_c, \mathrm{diag}\, s_c^2)$.

    The density of (*plates, D) values takes two matrix products and no (*plates, C, D) tensor. The products expand a square,
    which loses nats in single precision where components are narrow: they are in double. Each value draws its component.
    A value with infinite entries has the log-density -inf, as with a Gaussian, and one with NaN has NaN.

    Arguments:
        loc, scale: of the components, shape (C, D).
        logits: log w up to a constant, shape (C,); None for equal weights.

    >>> p = GaussianMixture(torch.tensor([[-1.0], [1.0]]), torch.ones(2, 1))
    >>> p.responsibilities(torch.zeros(3, 1))[0]
    tensor([0.5000, 0.5000])
    """

    arg_constraints = {  # pyright: ignore[reportAssignmentType]
        "loc": constraints.independent(constraints.real, 2),
        "scale": constraints.independent(constraints.positive, 2),
        "logits": constraints.real_vector,
    }
    support = constraints.real_vector  # pyright: ignore[reportAssignmentType]

    def __init__(
        self,
        loc: Tensor,
        scale: Tensor,
        logits: Tensor | None = None,
        batch_shape: Sequence[int] = (),
        validate_args: bool | None = None,
    ) -> None:
        self.loc, self.scale, self.equal = loc, scale, logits is None
        self.logits = loc.new_zeros(len(loc)) if logits is None else logits
        super().__init__(torch.Size(batch_shape), loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "GaussianMixture":
        logits = None if self.equal else self.logits
        return GaussianMixture(self.loc, self.scale, logits, batch_shape, validate_args=False)

    def _parts(self, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log w_c + log N(z; m_c, s_c) as a part of each component (*plates, C) and a common one (*plates,), and |z|^2.

        They are in double precision where the device has it. What is common would hide all else of a value far away. Where
        |z|^2 is not finite the parts are those of a zero.
        """
        centre = self.loc.mean(0)  # small numbers lose fewer digits
        exact = value.dtype if value.device.type == "mps" else torch.float64  # MPS has no double precision
        loc, z, scale = (t.to(exact) for t in (self.loc - centre, value - centre, self.scale))
        square = z.detach().square().sum(-1)
        z = z.where(square.isfinite()[..., None], 0)
        precision = scale.reciprocal().square()
        least = precision.detach().amin(0)
        energy = z.square() @ (precision - least).T - 2 * z @ (loc * precision).T + (loc.square() * precision).sum(-1)
        normaliser = scale.log().sum(-1) + 0.5 * loc.shape[1] * math.log(2 * math.pi)
        own = self.logits.to(exact).log_softmax(-1) - 0.5 * energy - normaliser
        return own, -0.5 * z.square() @ least, square

    def log_prob(self, value: Tensor) -> Tensor:
        own, common, square = self._parts(value)
        values = (torch.logsumexp(own, -1) + common).where(square.isfinite(), -square).to(value.dtype)
        return values.expand(torch.broadcast_shapes(self.batch_shape, values.shape))

    def responsibilities(self, value: Tensor) -> Tensor:
        r"""$p(c \mid z) \propto w_c N(z; m_c, s_c)$, the probability that each component made a value; (*plates, C).

        NaN of a value with infinite entries.
        """
        own, _, square = self._parts(value)
        return own.softmax(-1).where(square.isfinite()[..., None], math.nan).to(value.dtype)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with torch.no_grad():
            shape = (*sample_shape, *self.batch_shape)
            if self.equal:
                component = torch.randint(len(self.loc), shape, device=self.loc.device)
            else:
                component = torch.distributions.Categorical(logits=self.logits, validate_args=False).sample(shape)
            return torch.normal(self.loc[component], self.scale[component])

    @property
    def weights(self) -> Tensor:
        """w, shape (C,)."""
        return self.logits.softmax(-1)

    @property
    def mean(self) -> Tensor:
        return (self.weights @ self.loc).expand(*self.batch_shape, -1)

    @property
    def variance(self) -> Tensor:
        off = self.loc - self.weights @ self.loc
        return (self.weights @ (self.scale.square() + off.square())).expand(*self.batch_shape, -1)


START = 0.9  # standard deviation of a component at the start


class GaussianMixturePrior(nn.Module):
    r"""The parentless prior $p(z) = \sum_c w_c N(m_c, \mathrm{diag}\, s_c^2)$ with learnt weights, means and variances.

    Its components are clusters: `responsibilities` says to which of them a datum belongs. The KL to a mixture has no closed
    form: the ELBO takes the Monte Carlo log-ratio.

    It starts near N(0, I): weights are equal, sigmas s = 0.9, and means drawn from N(0, (1 - s^2) I). A component that starts
    narrow misses the codes, and few take them all; components whose means nearly coincide stay alike. We chose s on digits.

    Arguments:
        features: D of the event, of shape (D,).
        components: C.

    Raises:
        ConfigError: for fewer than one feature or component, and numbers that are not whole.

    >>> GaussianMixturePrior(3, components=4)().sample((7,)).shape
    torch.Size([7, 3])
    """

    def __init__(self, features: int, components: int = 10) -> None:
        super().__init__()
        if not all(isinstance(number, Integral) and number >= 1 for number in (features, components)):
            raise ConfigError(
                "a Gaussian mixture needs features and components, whole numbers and at least one each, got "
                f"{features!r} and {components!r}."
            )
        self.logits = nn.Parameter(torch.zeros(components))
        self.loc = nn.Parameter(math.sqrt(1 - START**2) * torch.randn(components, features))
        self.log_scale = nn.Parameter(torch.full((components, features), math.log(START)))

    def forward(self) -> GaussianMixture:
        return GaussianMixture(self.loc, soft_clamp(self.log_scale, -8.0, 2.0).exp(), self.logits, validate_args=False)
