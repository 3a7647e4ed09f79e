"""Schedules that raise beta from zero to one as a function of the step alone: linear and exponential."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pyro_hvae.errors import ConfigError
from pyro_hvae.schedules.schedule import Schedule


class _Annealed(Schedule):
    """beta as a function of t and a length T in steps; T below one is a fraction of the planned run."""

    length: Tensor
    risen = 1.0  # beta from which on it counts as risen

    def __init__(self, name: str, length: float) -> None:
        super().__init__(1.0)
        if not length > 0:
            raise ConfigError(f"{name} must be positive (steps, or a fraction below one of the run), got {length!r}.")
        self.asked = length
        self.register_buffer("length", torch.tensor(float(length), dtype=torch.float64))

    def start(self, steps: int, layers: Sequence[str] = ()) -> None:
        super().start(steps, layers)
        self.length.fill_(self.asked if self.asked >= 1 else max(1, round(self.asked * steps)))
        self.beta.copy_(self._beta(self.t + 1))

    def update(self, constraint: Tensor | None = None) -> None:
        super().update(constraint)
        self.beta.copy_(self._beta(self.t))

    @property
    def settled(self) -> bool:
        return bool(self.beta >= self.risen)

    def _beta(self, t: Tensor) -> Tensor:
        raise NotImplementedError


class WarmUp(_Annealed):
    r"""Linear annealing, $\beta_t = \min(1, t / T)$ with t = 1, 2, ... and T = `warmup` (Soenderby et al. 2016).

    `warmup` is a number of steps; below one it is a fraction of the run.
    """

    def __init__(self, warmup: float = 0.2) -> None:
        super().__init__("warmup", warmup)

    def _beta(self, t: Tensor) -> Tensor:
        return (t / self.length.clamp(min=1)).clamp(max=1.0)


class Cyclical(_Annealed):
    r"""Linear annealing that begins anew, $\beta_t = \min(1, \tau / r)$ with $\tau$ the part of its cycle that step t ends.

    Of Fu et al. 2019: the codes of a cycle start from those that the cycle before has found. The run has `cycles` of equal
    length, and in each beta rises over the first share `rise` = r.
    """

    def __init__(self, cycles: int = 4, rise: float = 0.5) -> None:
        if cycles < 1:
            raise ConfigError(f"cycles is how often beta rises, at least 1, got {cycles}.")
        if not 0 < rise <= 1:
            raise ConfigError(f"rise is the share of a cycle in which beta rises, above 0 and at most 1, got {rise}.")
        super().__init__("cycles", 1 / cycles)
        self.rise = rise

    def start(self, steps: int, layers: Sequence[str] = ()) -> None:
        super().start(steps, layers)
        self.length.fill_(steps * min(self.asked, 1.0))
        self.beta.copy_(self._beta(self.t + 1))

    @property
    def settled(self) -> bool:
        return super().settled and bool(self.t > (round(1 / self.asked) - 1) * self.length)  # in the last cycle

    def _beta(self, t: Tensor) -> Tensor:
        # The step that ends a cycle belongs to it.
        part = (t / self.length) - torch.ceil(t / self.length - 1e-9) + 1
        return (part / self.rise).clamp(max=1.0)


class Ramp(_Annealed):
    r"""Exponential annealing, $\beta_t = 1 - e^{-t / T}$ with t = 1, 2, ... and T = `ramp` (the VLAE authors' code).

    `ramp` is a number of steps; below one it is a fraction of the run.
    """

    risen = 0.95  # after 3 T

    def __init__(self, ramp: float = 2000) -> None:
        super().__init__("ramp", ramp)

    def _beta(self, t: Tensor) -> Tensor:
        return -torch.expm1(-t / self.length)
