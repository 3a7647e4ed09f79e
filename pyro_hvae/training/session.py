"""One stage of training in motion: batches, optimiser, schedule and the last estimate."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pyro
import torch
from pyro.infer import SVI
from torch import Tensor

from pyro_hvae.compilation.captured_loss import Captured, capture
from pyro_hvae.data import Batches, Rows
from pyro_hvae.errors import ConfigError
from pyro_hvae.networks.layer_gates import program_gates, set_gates
from pyro_hvae.objectives.elbo import Estimate, Objective
from pyro_hvae.objectives.pyro_svi import FunctionOptim, ScheduledELBO, for_svi
from pyro_hvae.runs.train_config import TrainConfig
from pyro_hvae.runtime.random_state import set_torch_rng_state, torch_rng_state
from pyro_hvae.schedules import Schedule
from pyro_hvae.schedules.plateau import PlateauDetector, PlateauRule
from pyro_hvae.training.training_step import Found, TrainingPass

__all__ = ["Session", "begin", "learning_rate"]


def begin(schedule: Schedule, objective: Objective, steps: int) -> None:
    """Tells a schedule of the run it is to govern, and moves the pair's gates to where it wants them first.

    Raises:
        ConfigError: when the schedule moves gates and model and guide do not have the same.
    """
    schedule.start(steps, list(program_gates(objective.model)))
    _move_gates(schedule, objective)


def _move_gates(schedule: Schedule, objective: Objective) -> None:
    alphas = schedule.gate_alphas()
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
        tell, warn: called with a line about every graph that is compiled (`config.compile`, where None is taken for False),
            and about what cannot be.

    Attributes:
        t, length: steps done and planned. found: in the last batch. lr: of the last step.
        initial: whether the schedule's initial phase still lasts. entered_main: whether it ended in the last step.
    """

    found: Found

    def __init__(
        self,
        objective: Objective,
        x: Tensor | Rows,
        config: TrainConfig,
        schedule: Schedule,
        length: int,
        until: PlateauRule | None = None,
        tell: Callable[[str], Any] | None = None,
        warn: Callable[[str], Any] | None = None,
    ) -> None:
        self.objective, self.config, self.schedule, self.length = objective, config, schedule, length
        self.t, self.lr, self.entered_main = 0, config.lr, False
        self.x, self.batches = x, Batches(x, min(config.batch_size, len(x)), config.seed)
        self.flatness = PlateauDetector(until, len(x) // config.batch_size)
        begin(schedule, objective, length)
        self.initial = schedule.initial
        # What REWO's initial phase trains.
        self.reconstruction = objective.reconstruction_parameters(x[:2]) if self.initial else None
        if self.initial and not self.reconstruction:
            raise ConfigError(
                "nothing that reaches log p(x|z) can be trained (all frozen?), so REWO's initial phase cannot end."
            )
        parameters = [p for p in objective.parameters() if p.requires_grad]
        stepped = {id(p) for p in self.reconstruction or ()}
        self.held = [p for p in parameters if id(p) not in stepped] if self.initial else []
        self.optimizer = torch.optim.Adam(parameters, config.lr, fused=x.device.type in ("cpu", "cuda"))
        self.passing = TrainingPass(objective, schedule, nats=until is not None, precision=config.precision)
        self.captured = capture(self.passing, tell=tell, warn=warn) if config.compile else None
        self.svi = self._stock_svi() if config.engine == "svi" else None

    def _stock_svi(self) -> SVI:
        elbo = ScheduledELBO(self.objective.elbo, self.schedule, self.reconstruction, self._seen_by_svi)
        return SVI(*for_svi(self.objective.model, self.objective.guide), FunctionOptim(self._apply), elbo)

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
        before = self.initial
        batch = self.batches.next()
        _move_gates(self.schedule, self.objective)
        if self.svi is not None:
            self.optimizer.zero_grad(set_to_none=True)  # SVI only zeroes what it has seen
            self.svi.step(batch)
        else:
            self._step(batch)
        self.entered_main = before and not self.initial

    def _step(self, batch: Tensor) -> None:
        captured = None if self.schedule.unique_pass else self.captured
        weights = self.passing.arguments(self.schedule)
        # Parameters without a gradient are skipped by the optimiser, and their Adam state stays unborn.
        if captured is not None:
            values = self._run(captured, batch, *weights)
        else:
            values = self.passing(batch, *weights)
            self._look_at_phase()
            self.optimizer.zero_grad(set_to_none=True)
            values["loss"].backward(inputs=self.reconstruction if self.initial else None)
        self._apply()
        self._seen(self.passing.found(values))

    def _look_at_phase(self) -> None:
        """It ends once and for all, so that a device is not asked at every step."""
        self.initial = self.initial and self.schedule.initial

    def _run(self, captured: Captured, *arguments: Tensor) -> Any:
        """A captured pass; in the initial phase without the gradients of what is not stepped.

        Whether the phase ends with this batch is only known afterwards. The step that ends it is of all parameters, so that one
        pass is done again, from the same state and with the same noise.
        """
        if not self.initial:
            return captured(*arguments)
        buffers = [(buffer, buffer.clone()) for buffer in self.passing.buffers()]
        drawn = torch_rng_state({self.x.device} if self.x.device.type == "cuda" else ())
        with _fixed(self.held):
            values = captured(*arguments)
        self._look_at_phase()
        if self.initial:
            return values
        set_torch_rng_state(drawn)
        for buffer, before in buffers:
            buffer.copy_(before)
        return captured(*arguments)

    def _apply(self) -> None:
        """Clips the gradients there are and steps, at the learning rate of this step."""
        if self.config.grad_clip:
            torch.nn.utils.clip_grad_norm_(self.objective.parameters(), self.config.grad_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        self.optimizer.step()

    def _seen(self, found: Found) -> None:
        self.found = found
        if self.flatness.rule and found.nats is not None:
            weights = {name: float(weight) for name, weight in self.schedule.weights().items()}
            # Minus the bound, less the constants of p(x | z): a Gaussian's would hide what still falls.
            constants = found.terms.distortion() - found.nats
            penalties = sum(p.mean() for p in found.terms.penalties.values())
            self.flatness.add(-found.terms.bound_unweighted().mean() - constants + penalties, weights)

    def _seen_by_svi(self, estimate: Estimate, loss: Tensor) -> None:
        self._look_at_phase()
        self._seen(Found(loss, estimate, estimate.constraint("nats") if self.flatness.rule else None))

    def row(self) -> dict[str, Any]:
        """Metrics of the last batch, nats per datum."""
        with torch.no_grad():
            terms = self.found.terms
            elbo, distortion = terms.bound_unweighted().mean(), terms.distortion()
            values: dict[str, Tensor] = {"loss": self.found.loss, "elbo": elbo, "distortion": distortion}
            values |= {f"rate.{name}": rate for name, rate in terms.rates().items()}
            values |= {"rate_total": -elbo - distortion, **self.schedule.log()}
            values |= {f"penalty.{name}": value for name, value in terms.penalties.items()}
            row: dict[str, Any] = {k: bool(v) if v.dtype == torch.bool else v.item() for k, v in values.items()}
        return {**row, "lr": self.lr}

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
        self.initial = self.schedule.initial
        self.batches.load_state_dict(state["batches"])
        if "flatness" in state:  # older runs have none
            self.flatness.load_state_dict(state["flatness"])


@contextmanager
def _fixed(parameters: Sequence[Tensor]) -> Iterator[None]:
    """These parameters without gradients."""
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_()
