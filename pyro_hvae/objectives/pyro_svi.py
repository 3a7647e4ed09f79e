"""Adapters to stock `pyro.infer.SVI`, which trains nothing when it receives plain modules."""

import itertools
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import torch
from pyro.optim.optim import PyroOptim
from torch import Tensor, nn

from pyro_hvae.objectives.elbo import ELBO, Estimate
from pyro_hvae.schedules import Constant, Schedule

_pairs = itertools.count()


def for_svi(model: nn.Module, guide: nn.Module) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The pair as programs that register their parameters with `pyro.module`, for `pyro.infer.SVI`.

    SVI steps only the parameters in the store. Those of a plain `nn.Module` are not there, so SVI would run and train
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
    name = f"pyro_hvae.{next(_pairs)}"
    return partial(_run_registered, f"{name}.model", model), partial(_run_registered, f"{name}.guide", guide)


def _run_registered(name: str, module: nn.Module, /, *args: Any, **kwargs: Any) -> Any:
    with warnings.catch_warnings():
        # Frozen parameters are left out on purpose.
        warnings.filterwarnings("ignore", message=".*was not registered in the param store.*")
        pyro.module(name, module)
    return module(*args, **kwargs)


class ScheduledELBO(ELBO):
    """An `ELBO` for SVI that gives the constraint of every step to a schedule, and the schedule's weights to the loss.

    Parameters that REWO's initial phase holds back receive no gradient: torch optimisers neither step nor remember them.

    Arguments:
        elbo: the bound. schedule: its controller. reconstruction: parameters that are trained in the initial phase.
        on_estimate: called with every estimate and its loss, for logging.
    """

    def __init__(
        self,
        elbo: ELBO,
        schedule: Schedule | None = None,
        reconstruction: list[nn.Parameter] | None = None,
        on_estimate: Callable[[Estimate, Tensor], None] = lambda estimate, loss: None,
    ) -> None:
        super().__init__(elbo.particles, elbo.shared, elbo.alpha, elbo.analytic_kl)
        self.estimate = elbo.estimate  # the bound's own, with what its class adds
        self.schedule, self.reconstruction, self.on_estimate = schedule or Constant(), reconstruction, on_estimate

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        estimate = self.estimate(model, guide, *args, **kwargs)
        measure = self.schedule.measure
        self.schedule.update(estimate.constraint(measure) if measure else None)
        loss = estimate.loss(self.schedule.weights())
        loss.backward(inputs=self.reconstruction if self.schedule.initial else None)
        self.on_estimate(estimate, loss.detach())
        return loss.item()


class FunctionOptim(PyroOptim):
    """A `PyroOptim`, which SVI requires, that steps by calling a function: one torch optimiser serves both engines."""

    def __init__(self, step: Callable[[], None]) -> None:
        super().__init__(torch.optim.Adam, {})
        self._step = step

    def __call__(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self._step()
