"""The bridge to stock `pyro.infer.SVI`, which trains nothing when handed plain modules."""

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro.optim.optim import PyroOptim
from torch import Tensor, nn

from pyro_hvae.objectives.elbo import ELBO, Estimate
from pyro_hvae.schedules import Constant, Schedule

__all__ = ["for_svi", "ScheduledELBO", "FunctionOptim"]

_pairs = itertools.count()


def for_svi(model: nn.Module, guide: nn.Module) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The pair as programs that register their parameters with `pyro.module`, for `pyro.infer.SVI`.

    SVI steps only what is in the parameter store; a plain `nn.Module` never gets there, so SVI would run and train
    *nothing*, without a warning. Each call uses names of its own, so that several pairs can live in one process.

    >>> from pyro_hvae.conditionals.gaussian import Gaussian, StandardNormal
    >>> from pyro_hvae.guides import BottomUp
    >>> from pyro_hvae.models import Chain
    >>> model, guide = for_svi(Chain(StandardNormal(2), [], Gaussian(2, 4)), BottomUp([Gaussian(4, 2)]))
    >>> from pyro.infer import SVI
    >>> svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), pyro.infer.Trace_ELBO())
    >>> isinstance(svi.step(torch.zeros(8, 4)), float)
    True
    """
    number = next(_pairs)

    def register(role: str, module: nn.Module) -> Callable[..., Any]:
        def program(*args: Any, **kwargs: Any) -> Any:
            with warnings.catch_warnings():
                # Frozen parameters are left out, and were frozen on purpose.
                warnings.filterwarnings("ignore", message=".*was not registered in the param store.*")
                pyro.module(f"pyro_hvae.{number}.{role}", module)
            return module(*args, **kwargs)

        return program

    return register("model", model), register("guide", guide)


class ScheduledELBO(ELBO):
    """An `ELBO` for SVI that lets a schedule watch the constraint and weigh the loss of every step.

    Parameters that the schedule holds back (REWO's initial phase) receive no gradient, so torch optimisers neither step
    them nor give birth to their state.

    Arguments:
        elbo: the bound. schedule: its controller. reconstruction: parameters that are trained in the initial phase.
        seen: called with every estimate, for logging.
    """

    def __init__(
        self,
        elbo: ELBO,
        schedule: Schedule | None = None,
        reconstruction: list[nn.Parameter] | None = None,
        seen: Callable[[Estimate, Tensor], None] | None = None,
    ) -> None:
        super().__init__(elbo.particles, elbo.shared, elbo.alpha, elbo.analytic_kl)
        self.elbo = elbo
        self.schedule, self.reconstruction, self.seen = schedule or Constant(), reconstruction, seen

    def estimate(self, model: Any, guide: Any, x: Tensor) -> Estimate:
        """The given bound's own estimate, whatever its class adds to it."""
        return self.elbo.estimate(model, guide, x)

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        estimate = self.estimate(model, guide, *args, **kwargs)
        measure = self.schedule.measure
        self.schedule.update(estimate.constraint(measure) if measure else None)
        loss = estimate.loss(self.schedule.weights())
        loss.backward(inputs=self.reconstruction if self.schedule.initial else None)
        if self.seen is not None:
            self.seen(estimate, loss.detach())
        return loss.item()


class FunctionOptim(PyroOptim):
    """A `PyroOptim`, as SVI demands one, that steps by calling a function of ours: one optimiser for both engines."""

    def __init__(self, step: Callable[[], None]) -> None:
        super().__init__(torch.optim.Adam, {})
        self._step = step

    def __call__(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self._step()
