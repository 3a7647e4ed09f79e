"""Schedules that move beta by the reconstruction constraint: GECO and REWO."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pyro_hvae.errors import ConfigError
from pyro_hvae.schedules.schedule import Schedule


class _Constrained(Schedule):
    r"""The running average of the constraint in GECO and REWO, below eq. 5 of Klushyn et al. 2019.

    $\hat C_t = (1 - \alpha) \hat C_{ba} + \alpha \hat C_{t-1}$, $\hat C_0 = \hat C_{ba}$: alpha weighs the OLD value.
    """

    average: Tensor
    ALLOWED: tuple[float, float]

    def __init__(
        self,
        beta0: float = 1.0,
        kappa: float = 1.0,
        nu: float = 1e-3,
        alpha: float = 0.99,
        measure: str | Callable[..., Any] = "nats",
    ) -> None:
        super().__init__(beta0)
        if not (kappa > 0 and nu > 0):
            raise ConfigError(f"kappa and nu must be positive, got kappa={kappa!r}, nu={nu!r}.")
        if not 0 <= alpha <= 1:
            raise ConfigError(f"alpha, the weight of the old average, must lie in [0, 1], got {alpha!r}.")
        if not callable(measure) and measure not in ("nats", "rmse"):
            raise ConfigError(f"measure must be 'nats', 'rmse' or a function (x, p(x | z)) -> C, got {measure!r}.")
        if callable(measure):
            _require_two_arguments(measure)
        self.kappa, self.nu, self.alpha = kappa, nu, alpha
        object.__setattr__(self, "measure", measure)  # a module is found there, and not behind the attribute of the class
        if isinstance(measure, nn.Module):  # moves with the schedule
            self.distance = measure
        self.register_buffer("average", torch.tensor(math.nan, dtype=torch.float64))

    def update(self, constraint: Tensor | None = None) -> None:
        super().update(constraint)
        if constraint is None:
            raise ValueError("GECO and REWO need the batch mean of the constraint at every update.")
        new = constraint.detach().to(self.average)
        old = torch.where(self.average.isnan(), new, self.average)  # C_0 is the first batch
        parts = ((1 - self.alpha, new), (self.alpha, old))
        self.average.copy_(torch.stack([weight * value for weight, value in parts if weight]).sum(0))  # 0 inf is NaN
        exponent = self._exponent(self.average - self.kappa**2).clamp(-1.0, 1.0)
        self.beta.mul_(exponent.exp()).clamp_(*self.ALLOWED)

    def _exponent(self, delta: Tensor) -> Tensor:
        r"""$\log (\beta_t / \beta_{t-1})$ for $\delta = \hat C_t - \kappa^2$."""
        raise NotImplementedError

    def log(self) -> dict[str, Tensor]:
        return {"beta": self.beta, "constraint": self.average}

    def require_usable(self) -> None:
        if callable(self.measure) and self.average.isinf():  # see `Estimate.constraint`
            raise ConfigError(
                f"the measure of the constraint, {_name(self.measure)}, gave NaN or an infinite value where log p(x | z) is "
                "finite, and beta cannot follow it. Let it give a finite number for each datum: add a small number inside a "
                "square root or a logarithm, and to what it divides by."
            )


def _name(measure: Any) -> str:
    return getattr(measure, "__name__", type(measure).__name__)


def _require_two_arguments(measure: Callable[..., Any]) -> None:
    """Raises `ConfigError` for a function that cannot be called with x and p(x | z)."""
    try:
        signature = inspect.signature(measure.forward if isinstance(measure, nn.Module) else measure)
    except (TypeError, ValueError):  # of a built-in function without one
        return
    try:
        signature.bind(None, None)
    except TypeError as error:
        raise ConfigError(
            f"measure must be a function (x, p(x | z)) -> C of two arguments, but {_name(measure)}{signature} is not: {error}. "
            "Example: measure=lambda x, fn: (x - fn.mean).square().flatten(1).mean(1)."
        ) from error


class Geco(_Constrained):
    r"""GECO in its beta form, $\beta_t = \beta_{t-1} e^{-\nu (\hat C_t - \kappa^2)}$, changed at most by a factor e a step
    (Rezende and Viola 2018; Klushyn et al. 2019, eq. 5 with lambda = 1 / beta).

    Arguments:
        beta0: initial beta. kappa: target, C <= kappa^2. nu: rate of the update. alpha: weight of the old average.
        measure: "nats" (C = -log p(x|z) without constants), "rmse" (C = squared error per pixel, kappa its root), or a function
            (x, p(x|z)) -> C of shape (*plates,), which a module may be: it is called in evaluation mode and without gradients,
            and moves to the schedule's device. A run does not record it: give it again to resume.

    beta may exceed one: the loss is then a scaled bound. Two deviations from the formula: beta is kept in [1e-6, 1e6], and its
    exponent is clipped to [-1, 1], so that one wild batch changes beta at most by a factor e.

    >>> geco = Geco(beta0=1.0, kappa=1.0, nu=1.0)
    >>> geco.update(torch.tensor(6.0))  # the formula gives exp(-5) = 0.0067
    >>> round(geco.beta.item(), 4)
    0.3679
    """

    ALLOWED = (1e-6, 1e6)

    def _exponent(self, delta: Tensor) -> Tensor:
        return -self.nu * delta


class Rewo(_Constrained):
    r"""REWO (Klushyn et al. 2019, eqs. 11-12 and Algorithm 1), whose beta changes at most by a factor e a step.

    $\beta_t = \beta_{t-1} e^{\nu f(\beta_{t-1}, \delta) \delta}$ with $\delta = \hat C_t - \kappa^2$,
    $f = (1 - H(\delta)) \tanh(\tau (\beta - 1)) - H(\delta)$.

    Until the average first falls below kappa^2 (the initial phase) beta stays at beta0, and only the parameters that reach
    log p(x|z) are stepped. From then on, for good, beta moves within [1e-8, 1] and everything is stepped. A deviation from the
    formula: the exponent is clipped to [-1, 1], so that one wild batch changes beta at most by a factor e.

    Arguments as for `Geco`, and tau: slope of the pull towards beta = 1.

    >>> rewo = Rewo(beta0=1e-3, kappa=1.0, nu=10.0, alpha=0.0)
    >>> rewo.update(torch.tensor(0.0))  # ends the initial phase; the formula gives 0.001 exp(9.95) = 21
    >>> round(rewo.beta.item(), 6)  # 0.001 e
    0.002718
    """

    ALLOWED = (1e-8, 1.0)
    pass_kinds = 2
    main: Tensor

    def __init__(
        self,
        beta0: float = 1e-3,
        kappa: float = 1.0,
        nu: float = 1e-3,
        tau: float = 3.0,
        alpha: float = 0.99,
        measure: str | Callable[..., Any] = "nats",
    ) -> None:
        super().__init__(beta0, kappa, nu, alpha, measure)
        if not 0 < beta0 <= 1:
            raise ConfigError(f"REWO's beta0 must lie in (0, 1], got {beta0!r}.")
        self.tau = tau
        self.register_buffer("main", torch.tensor(False))

    def _exponent(self, delta: Tensor) -> Tensor:
        self.main |= delta < 0
        f = torch.where(delta > 0, -torch.ones_like(delta), torch.tanh(self.tau * (self.beta - 1)))
        return torch.where(self.main, self.nu * f * delta, torch.zeros_like(delta))

    @property
    def initial(self) -> bool:
        return not bool(self.main)

    def log(self) -> dict[str, Tensor]:
        return {**super().log(), "main": self.main}
