"""Schedules that anneal beta from nothing to one whatever happens."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pyro_hvae.errors import ConfigError
from pyro_hvae.schedules.schedule import Schedule

__all__ = ["Ramp", "WarmUp"]


class WarmUp(Schedule):
    r"""Linear annealing, $\beta_t = \min(1, t / T)$ with t = 1, 2, ... (Soenderby et al. 2016).

    Arguments:
        warmup: T in steps; a number below one is a fraction of the planned run.
    """

    length: Tensor

    def __init__(self, warmup: float = 0.2) -> None:
        super().__init__(1.0)
        if not warmup > 0:
            raise ConfigError(f"warmup must be positive (steps, or a fraction below one of the run), got {warmup!r}.")
        self.warmup = warmup
        self.register_buffer("length", torch.tensor(float(warmup), dtype=torch.float64))

    def start(self, steps: int, layers: Sequence[str] = ()) -> None:
        super().start(steps, layers)
        length = self.warmup if self.warmup >= 1 else max(1, round(self.warmup * steps))
        self.length.fill_(length)
        self.beta.fill_(min(1.0, 1.0 / length))

    def update(self, constraint: Tensor | None = None) -> None:
        super().update(constraint)
        self.beta.copy_((self.t / self.length.clamp(min=1)).clamp(max=1.0))


class Ramp(Schedule):
    r"""Exponential annealing, $\beta_t = 1 - e^{-t / T}$ with t = 1, 2, ... (the VLAE authors' code).

    Arguments:
        ramp: T in steps; a number below one is a fraction of the planned run.
    """

    length: Tensor

    def __init__(self, ramp: float = 2000) -> None:
        super().__init__(1.0)
        if not ramp > 0:
            raise ConfigError(f"ramp must be positive (steps, or a fraction below one of the run), got {ramp!r}.")
        self.ramp = ramp
        self.register_buffer("length", torch.tensor(float(ramp), dtype=torch.float64))

    def start(self, steps: int, layers: Sequence[str] = ()) -> None:
        super().start(steps, layers)
        length = self.ramp if self.ramp >= 1 else max(1.0, self.ramp * steps)
        self.length.fill_(length)
        self.beta.fill_(-math.expm1(-1 / length))

    def update(self, constraint: Tensor | None = None) -> None:
        super().update(constraint)
        self.beta.copy_(-torch.expm1(-self.t / self.length))
