"""The bridge to stock `pyro.infer.SVI`, which trains nothing when handed plain modules."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from pyro.infer import SVI
from pyro.optim.optim import PyroOptim
from torch import Tensor, nn

from pyro_hvae.objectives import ELBO, Estimate, Objective
from pyro_hvae.schedules import Constant, Schedule

__all__ = ["for_svi", "ScheduledELBO", "SVIOptimizer"]

_pairs = itertools.count()


def for_svi(model: nn.Module, guide: nn.Module) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The pair as programs that register their parameters with `pyro.module`, for `pyro.infer.SVI`.

    SVI steps only what is in the parameter store; a plain `nn.Module` never gets there, so SVI would run and train
    *nothing*, without a warning. Each call uses names of its own, so that several pairs can live in one process.

    >>> from pyro_hvae.conditionals import Gaussian, StandardNormal
    >>> from pyro_hvae.guides import BottomUp
    >>> from pyro_hvae.models import Chain
    >>> model, guide = for_svi(Chain(StandardNormal(2), [], Gaussian(2, 4)), BottomUp([Gaussian(4, 2)]))
    >>> svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), pyro.infer.Trace_ELBO())
    >>> isinstance(svi.step(torch.zeros(8, 4)), float)
    True
    """
    number = next(_pairs)

    def register(role: str, module: nn.Module) -> Callable[..., Any]:
        def program(*args: Any, **kwargs: Any) -> Any:
            pyro.module(f"pyro_hvae.{number}.{role}", module)
            return module(*args, **kwargs)

        return program

    return register("model", model), register("guide", guide)


class ScheduledELBO(ELBO):
    """An `ELBO` for SVI that lets a schedule watch the constraint and weigh the loss of every step.

    Parameters that the schedule holds back (REWO's initial phase) receive no gradient, so SVI's per-parameter optimisers
    do not step them, nor advance their state.

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
        self.schedule, self.reconstruction, self.seen = schedule or Constant(), reconstruction, seen

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        estimate = self.estimate(model, guide, *args, **kwargs)
        measure = self.schedule.measure
        self.schedule.update(estimate.constraint(measure) if measure else None)
        loss = estimate.loss(self.schedule.weights())
        loss.backward(inputs=self.reconstruction if self.schedule.initial else None)
        if self.seen is not None:
            self.seen(estimate, loss.detach())
        return loss.item()


class SVIOptimizer:
    """`pyro.infer.SVI` with a `PyroOptim`, behind the few methods `fit` needs of an optimiser.

    A parameter store of its own must surround all steps (`Session.scope`).

    Arguments:
        groups: factor on the learning rate -> parameters.
    """

    def __init__(self, objective: Objective, groups: Mapping[float, list[nn.Parameter]], elbo: ScheduledELBO) -> None:
        self.parameters = [(factor, p) for factor, group in groups.items() for p in group]
        self.optim = PyroOptim(torch.optim.Adam, {"lr": 0.0})  # every step sets it
        self.svi = SVI(*for_svi(objective.model, objective.guide), self.optim, elbo)

    def step(self, batch: Tensor, lr: float) -> None:
        for factor, parameter in self.parameters:
            if parameter not in self.optim.optim_objs:
                self.optim.optim_objs[parameter] = torch.optim.Adam([parameter])
            for group in self.optim.optim_objs[parameter].param_groups:  # type: ignore[union-attr]
                group["lr"] = lr * factor
        self.svi.step(batch)

    def state_dict(self) -> dict[str, Any]:
        """Position of the parameter -> state of its optimiser."""
        made: Mapping[Any, Any] = self.optim.optim_objs
        return {str(i): made[p].state_dict() for i, (_, p) in enumerate(self.parameters) if p in made}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for i, (_, parameter) in enumerate(self.parameters):
            if str(i) in state:
                self.optim.optim_objs[parameter] = torch.optim.Adam([parameter])
                self.optim.optim_objs[parameter].load_state_dict(state[str(i)])
