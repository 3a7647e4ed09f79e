"""Distributions of 8-bit grey levels, x in {0, 1/255, ..., 1}: a logistic variable rounded to a level, and mixtures of them."""

from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

TOP = 255  # the brightest level
TOLERANCE = 1e-3  # of a level; a byte divided by 255 in single precision is 1e-5 of one off
CHUNK = 15  # levels whose probabilities are held together; 17 of these are all cuts between levels


class GreyLevels(constraints.Constraint):
    """The numbers v / 255 of bytes v, up to rounding."""

    is_discrete = True
    lower_bound, upper_bound = 0.0, 1.0

    def check(self, value: Tensor) -> Tensor:
        steps = value * TOP
        return (steps - steps.round().clamp(0, TOP)).abs() <= TOLERANCE

    def __repr__(self) -> str:
        return "the grey levels v / 255 of bytes v"


GREY_LEVELS = GreyLevels()


class DiscretisedLogistic(TorchDistribution):
    r"""A logistic variable of location mu and scale s, rounded to the nearest grey level; values beyond go to 0 and 1.

    $P(x) = \sigma(a) - \sigma(b)$ with $a = (x + \frac1{510} - \mu) / s$ and $b = (x - \frac1{510} - \mu) / s$; at x = 1 the
    first term is 1, at x = 0 the second is 0. Its logarithm is $\log \sigma(a) + \log \sigma(-b) + \log(1 - e^{b-a})$, in which
    nothing cancels: it and its gradients are finite however far mu is from x.

    Arguments:
        loc, scale: mu and s, in units of x; shapes broadcast.

    >>> levels = torch.arange(256) / 255
    >>> round(DiscretisedLogistic(torch.tensor(0.3), torch.tensor(0.1)).log_prob(levels).exp().sum().item(), 4)
    1.0
    """

    arg_constraints = {  # pyright: ignore[reportAssignmentType]
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    support = GREY_LEVELS  # pyright: ignore[reportAssignmentType]

    def __init__(self, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "DiscretisedLogistic":
        return DiscretisedLogistic(self.loc.expand(batch_shape), self.scale.expand(batch_shape), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        level = (value * TOP).round()
        # Both levels at a cut compute the same number for it, so that probabilities sum to 1 up to rounding.
        upper, lower = (((level + half) / TOP - self.loc) / self.scale for half in (0.5, -0.5))
        width = (-torch.expm1(-1 / (TOP * self.scale))).log()
        below_top, above_0 = level < TOP, level > 0
        log_prob = logsigmoid(upper).where(below_top, 0.0) + logsigmoid(-lower).where(above_0, 0.0)
        return log_prob + width.where(below_top & above_0, 0.0)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            u = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device).clamp(min=torch.finfo(self.loc.dtype).tiny)
            value = self.loc + self.scale * (u.log() - (-u).log1p())
            return (value * TOP).round().clamp(0, TOP) / TOP

    @property
    def mean(self) -> Tensor:
        """E[x], the sum over the cuts between levels of P(x lies above) / 255; it costs 255 sigmoids a value."""
        total, loc, scale = torch.zeros_like(self.loc), self.loc.unsqueeze(-1), self.scale.unsqueeze(-1)
        for first in range(0, TOP, CHUNK):
            cuts = (torch.arange(first, first + CHUNK, dtype=loc.dtype, device=loc.device) + 0.5) / TOP
            total = total + ((loc - cuts) / scale).sigmoid().sum(-1)
        return total / TOP

    @property
    def mode(self) -> Tensor:
        """The likeliest level: that of mu, or 0 or 1, which have the tails."""
        inner = (self.loc * TOP).round().clamp(1, TOP - 1) / TOP
        levels = torch.stack([torch.zeros_like(inner), inner, torch.ones_like(inner)])
        return levels.gather(0, self.log_prob(levels).argmax(0, keepdim=True)).squeeze(0)


class LogisticMixture(TorchDistribution):
    r"""A mixture of K `DiscretisedLogistic`, $P(x) = \sum_k \pi_k P_k(x)$ with $\pi = \mathrm{softmax}(\text{logits})$.

    Arguments:
        logits, loc, scale: of the components, shape (*batch, K).

    >>> LogisticMixture(torch.zeros(4, 3), torch.rand(4, 3), torch.ones(4, 3)).log_prob(torch.zeros(4)).shape
    torch.Size([4])
    """

    arg_constraints = {  # pyright: ignore[reportAssignmentType]
        "logits": constraints.independent(constraints.real, 1),
        "loc": constraints.independent(constraints.real, 1),
        "scale": constraints.independent(constraints.positive, 1),
    }
    support = GREY_LEVELS  # pyright: ignore[reportAssignmentType]

    def __init__(self, logits: Tensor, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        self.logits, self.loc, self.scale = torch.broadcast_tensors(logits, loc, scale)
        super().__init__(self.loc.shape[:-1], validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "LogisticMixture":
        parts = (part.expand(*batch_shape, -1) for part in (self.logits, self.loc, self.scale))
        return LogisticMixture(*parts, validate_args=False)

    @property
    def components(self) -> DiscretisedLogistic:
        """The K components, of batch shape (*batch, K)."""
        return DiscretisedLogistic(self.loc, self.scale, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return (self.logits.log_softmax(-1) + self.components.log_prob(value.unsqueeze(-1))).logsumexp(-1)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with torch.no_grad():
            shape = (*sample_shape, *self.loc.shape)
            chosen = torch.distributions.Categorical(logits=self.logits).sample(torch.Size(sample_shape)).unsqueeze(-1)
            loc, scale = (part.expand(shape).gather(-1, chosen).squeeze(-1) for part in (self.loc, self.scale))
            return DiscretisedLogistic(loc, scale, validate_args=False).sample()

    @property
    def mean(self) -> Tensor:
        return (self.logits.softmax(-1) * self.components.mean).sum(-1)
