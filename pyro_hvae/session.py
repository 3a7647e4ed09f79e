"""One stage of training in motion: batches, optimiser, schedule and the last estimate."""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pyro
import torch
from pyro.infer import SVI
from torch import Tensor

from pyro_hvae.config import TrainConfig
from pyro_hvae.data import Batches, Rows
from pyro_hvae.errors import ConfigError
from pyro_hvae.flatness import Flat, Flatness
from pyro_hvae.gates import gates_of, set_gates
from pyro_hvae.objectives import Estimate, Objective
from pyro_hvae.schedules import Schedule
from pyro_hvae.svi import ScheduledELBO, SteppedBy, for_svi

__all__ = ["Session", "begin", "learning_rate"]


def begin(schedule: Schedule, objective: Objective, steps: int) -> None:
    """Tells a schedule of the run it is to govern, and moves the pair's gates to where it wants them first.

    Raises:
        ConfigError: when the schedule moves gates and model and guide do not have the same.
    """
    schedule.start(steps, list(gates_of(objective.model)))
    _move_gates(schedule, objective)


def _move_gates(schedule: Schedule, objective: Objective) -> None:
    alphas = schedule.alphas()
    if alphas is not None:
        set_gates(objective.model, alphas.model)
        set_gates(objective.guide, alphas.guide)


def learning_rate(lr: float, decay: float, step: int, steps: int, floor: float = 0.02) -> float:
    """lr, taken down to `floor` of itself by a cosine over the last fraction `decay` of the steps; step = 1 ... steps.

    >>> [round(learning_rate(1.0, 0.5, t, 100), 3) for t in (1, 50, 75, 100)]
    [1.0, 1.0, 0.5, 0.02]
    """
    begin = (1 - decay) * steps
    if step <= begin or decay == 0:
        return lr
    return lr * max(floor, 0.5 * (1 + math.cos(math.pi * (step - begin) / (steps - begin))))


class Session:
    """Steps an objective. Everything that decides the next step is in `state_dict` (and the global random streams).

    Arguments:
        x: the training data, as the stage sees them and on its device.
        until: end before `length` when the loss is flat.

    Attributes:
        t, length: steps done and planned. estimate, loss: of the last batch. lr: of the last step.
        entered_main: whether the schedule's initial phase ended in the last step.
    """

    estimate: Estimate
    loss: Tensor

    def __init__(
        self,
        objective: Objective,
        x: Tensor | Rows,
        config: TrainConfig,
        schedule: Schedule,
        length: int,
        until: Flat | None = None,
    ) -> None:
        self.objective, self.config, self.schedule, self.length = objective, config, schedule, length
        self.t, self.lr, self.entered_main = 0, config.lr, False
        self.x, self.batches = x, Batches(x, min(config.batch_size, len(x)), config.seed)
        self.flatness = Flatness(until, len(x) // config.batch_size)
        begin(schedule, objective, length)
        # What REWO's initial phase trains.
        self.reconstruction = objective.reconstruction_parameters(x[:2]) if schedule.initial else None
        if schedule.initial and not self.reconstruction:
            raise ConfigError(
                "nothing that reaches log p(x|z) can be trained (all frozen?), so REWO's initial phase cannot end."
            )
        parameters = [p for p in objective.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(parameters, config.lr, fused=x.device.type in ("cpu", "cuda"))
        self.svi = self._stock_svi() if config.engine == "svi" else None

    def _stock_svi(self) -> SVI:
        elbo = ScheduledELBO(self.objective.elbo, self.schedule, self.reconstruction, self._seen)
        return SVI(*for_svi(self.objective.model, self.objective.guide), SteppedBy(self._apply), elbo)

    @property
    def done(self) -> bool:
        """Whether all steps are, or the loss is flat."""
        return self.t >= self.length or self.flatness.reached

    def scope(self) -> AbstractContextManager[Any]:
        """What must surround the steps: a parameter store of its own for SVI, nothing otherwise."""
        return pyro.get_param_store().scope() if self.config.engine == "svi" else nullcontext()

    def step(self) -> None:
        """One batch: pass, schedule, loss, gradient, step (Klushyn et al. 2019, Algorithm 1, in this order)."""
        self.t += 1
        self.lr = learning_rate(self.config.lr, self.config.lr_decay, self.t, self.length)
        before = self.schedule.initial
        batch = self.batches.next()
        _move_gates(self.schedule, self.objective)
        if self.svi is not None:
            self.optimizer.zero_grad(set_to_none=True)  # SVI only zeroes what it has seen
            self.svi.step(batch)
        else:
            self._step(batch)
        self.entered_main = before and not self.schedule.initial

    def _step(self, batch: Tensor) -> None:
        estimate = self.objective.estimate(batch)
        measure = self.schedule.measure
        self.schedule.update(estimate.constraint(measure) if measure else None)
        loss = estimate.loss(self.schedule.weights())
        # Parameters without a gradient are skipped by the optimiser, and their Adam state stays unborn.
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward(inputs=self.reconstruction if self.schedule.initial else None)
        self._apply()
        self._seen(estimate, loss.detach())

    def _apply(self) -> None:
        """Clips the gradients there are and steps, at the learning rate of this step."""
        if self.config.grad_clip:
            torch.nn.utils.clip_grad_norm_(self.objective.parameters(), self.config.grad_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        self.optimizer.step()

    def _seen(self, estimate: Estimate, loss: Tensor) -> None:
        self.estimate, self.loss = estimate, loss
        if self.flatness.rule:
            weights = {name: float(weight) for name, weight in self.schedule.weights().items()}
            self.flatness.add(self._without_constants(estimate), weights)

    @torch.no_grad()
    def _without_constants(self, estimate: Estimate) -> Tensor:
        """Minus the bound, less the constants of p(x | z): a Gaussian's would hide what still falls."""
        constants = estimate.distortion() - estimate.constraint("nats")
        return -estimate.bound_unweighted().mean() - constants + sum(p.mean() for p in estimate.penalties.values())

    def row(self) -> dict[str, Any]:
        """Metrics of the last batch, nats per datum."""
        with torch.no_grad():
            estimate = self.estimate
            elbo, distortion = estimate.bound_unweighted().mean(), estimate.distortion()
            values: dict[str, Tensor] = {"loss": self.loss, "elbo": elbo, "distortion": distortion}
            values |= {f"rate.{name}": rate for name, rate in estimate.rates().items()}
            values |= {"rate_total": -elbo - distortion, **self.schedule.log()}
            values |= {f"penalty.{name}": value for name, value in estimate.penalties.items()}
            row: dict[str, Any] = {k: bool(v) if v.dtype == torch.bool else v.item() for k, v in values.items()}
        return {**row, "lr": self.lr}

    def worst_site(self) -> str:
        """The site whose term is not finite, or the largest, with its value."""
        means = {name: term.detach().double().abs().mean().item() for name, term in self.estimate.terms.items()}
        bad = [name for name, value in means.items() if not math.isfinite(value)]
        name = bad[0] if bad else max(means, key=lambda n: means[n])
        return f"'{name}' (mean |log-ratio| {means[name]:.3g})"

    def state_dict(self) -> dict[str, Any]:
        return {
            "t": self.t,
            "optimizer": self.optimizer.state_dict(),
            "schedule": dict(self.schedule.state_dict()),
            "batches": self.batches.state_dict(),
            "flatness": self.flatness.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.t = state["t"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.batches.load_state_dict(state["batches"])
        if "flatness" in state:  # older runs have none
            self.flatness.load_state_dict(state["flatness"])
