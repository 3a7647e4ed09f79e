"""The continuous Bernoulli distribution, exact at every logit."""

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

SMALL = 0.05  # logits below which series take the place of differences that cancel


class ContinuousBernoulli(dist.ContinuousBernoulli):
    r"""The density $p(x) = \frac{\eta}{e^\eta - 1} e^{\eta x}$ on [0, 1] of a logit (Loaiza-Ganem and Cunningham 2019).

    PyTorch's has probabilities where this has logits. In single precision theirs end at a logit of 16, beyond which the density
    does not integrate to 1 and the mean stays at 0.06 or 0.94.

    >>> p = ContinuousBernoulli(logits=torch.tensor([-1000.0, 0.0, 1000.0]))
    >>> p.mean, p.log_prob(torch.tensor([0.0, 0.5, 1.0])).exp().round()
    (tensor([0.0010, 0.5000, 0.9990]), tensor([1000.,    1., 1000.]))
    """

    def _halves(self) -> tuple[Tensor, Tensor, Tensor]:
        """Where the logit is small; half the logit there; and half the logit elsewhere."""
        half: Any = self.logits / 2
        small = half.abs() < SMALL / 2
        return small, half.where(small, 0.0), half.where(~small, 1.0)

    def _cont_bern_log_norm(self) -> Tensor:
        small, s, y = self._halves()
        # log(2 y / tanh y)
        return 0.6931471805599453 + torch.where(small, s**2 / 3 - 7 * s**4 / 90 + 62 * s**6 / 2835, (y / y.tanh()).log())

    @property
    def mean(self) -> Tensor:
        small, s, y = self._halves()
        return 0.5 + 0.5 * torch.where(small, s / 3 - s**3 / 45 + 2 * s**5 / 945, 1 / y.tanh() - 1 / y)

    @property
    def variance(self) -> Tensor:
        small, s, y = self._halves()
        return 0.25 * torch.where(small, 1 / 3 - s**2 / 15 + 2 * s**4 / 189, 1 / y**2 - 1 / y.sinh() ** 2)

    def icdf(self, value: Tensor) -> Tensor:
        logits: Any = self.logits
        size = logits.abs().where(logits != 0, 1.0)
        lower = torch.where(logits > 0, 1 - value, value)  # the law of 1 - x has the logit -eta
        x = (torch.log1p(lower * torch.expm1(-size)) / -size).clamp(0, 1)
        return torch.where(logits == 0, value, torch.where(logits > 0, 1 - x, x))

    @classmethod
    def find_logit(cls, mean: Tensor) -> Tensor:
        """The logits of some means, clipped to [1e-3, 0.999], by bisection.

        >>> ContinuousBernoulli.find_logit(torch.tensor([0.0, 0.5, 0.9])).round(decimals=3)
        tensor([-1000.0000,     0.0000,     9.9950])
        """
        target = mean.double().clamp(1e-3, 0.999)
        low, high = torch.full_like(target, -1001.0), torch.full_like(target, 1001.0)
        for _ in range(60):
            middle = (low + high) / 2
            above = cls(logits=middle).mean > target
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return ((low + high) / 2).to(mean.dtype)
