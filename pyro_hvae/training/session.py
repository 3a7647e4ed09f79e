"""A training session of one stage: batches, optimiser, schedule and the steps."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from pyro.infer import SVI
from torch import Tensor

from pyro_hvae.compilation import Captured, OptimizerStep, capture
from pyro_hvae.data import Batch, Batches, Rows
from pyro_hvae.errors import ConfigError
from pyro_hvae.networks import program_gates, set_gates
from pyro_hvae.objectives import (
    Estimate,
    FunctionOptim,
    Objective,
    ScheduledELBO,
    check_data,
    for_svi,
    refuse_stored_parameters,
)
from pyro_hvae.recipes import Stage
from pyro_hvae.runs import TrainConfig, check_tensors, restore_optimizer
from pyro_hvae.runtime import (
    average_values,
    process_count,
    require_shares,
    set_torch_rng_state,
    share_mean,
    share_of,
    shared_batch,
    torch_rng_state,
)
from pyro_hvae.schedules import Constant, PlateauDetector, PlateauRule, Schedule
from pyro_hvae.training.gradient_average import GradientAverage
from pyro_hvae.training.optimizers import MakeOptimizer, learning_rate, make_optimizer
from pyro_hvae.training.training_step import StepResult, TrainingPass


def start_schedule(schedule: Schedule, objective: Objective, steps: int) -> None:
    """Starts a schedule for a pair and a number of steps, and sets the pair's gates to its first values.

    Raises:
        ConfigError: when the schedule moves gates, and model and guide do not have the same.
    """
    schedule.start(steps, list(program_gates(objective.model)))
    _set_gates(schedule, objective)


def require_warm_up(schedule: Schedule) -> None:
    """Raises `ConfigError` for a schedule under which beta is never below 1, where balance would change nothing."""
    weight = schedule.weights().get("x")
    if weight is None or (isinstance(schedule, Constant) and weight <= 1):
        raise ConfigError(
            f"balance=true weighs the layers while beta is below 1, which the schedule {type(schedule).__name__.lower()} never "
            "has. Use another one, such as warmup or cyclical, or leave balance out."
        )


def _set_gates(schedule: Schedule, objective: Objective) -> None:
    if (alphas := schedule.gate_alphas()) is not None:
        set_gates(objective.model, alphas.model)
        set_gates(objective.guide, alphas.guide)


@contextmanager
def explain_batch_norm(stages: Iterable[Stage]) -> Iterator[None]:
    """Turns torch's error about a batch of one under batch normalisation into a `ConfigError`."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        modules = (module for stage in stages for module in stage.objective.modules())
        norms = sorted({type(module).__name__ for module in modules if "BatchNorm" in type(module).__name__})
        raise ConfigError(
            f"a batch size of 1 leaves batch normalisation ({', '.join(norms)}) no variance to divide by. Use a batch size of "
            "2 or more and as many training data, or a pair without batch normalisation (norm=false, of a ladder norm=none)."
        ) from error


class Session:
    """Trains an objective step by step. `state_dict` and the global random streams decide the next step.

    It runs in a parameter store of its own, which the caller opens: programs may announce parameters by `pyro.module`.

    Arguments:
        x: the stage's view of the training data, on its device. schedule: moved to that device.
        until: end before `length` when the loss is flat.
        tell, warn: called with a line about every compiled graph (if `config.compile`), and with a warning where that fails.
        optimizer: makes an optimiser of one's own, whose learning rates are its own; see `make_optimizer`.

    Attributes:
        t, length: steps done and planned. result: of the last batch. lr: of the last step (of the first group of parameters).
        initial: whether the schedule's initial phase still lasts. entered_main: whether it ended in the last step.
    """

    result: StepResult

    def __init__(
        self,
        objective: Objective,
        x: Tensor | Batch | Rows,
        config: TrainConfig,
        schedule: Schedule,
        length: int,
        until: PlateauRule | None = None,
        tell: Callable[[str], Any] | None = None,
        warn: Callable[[str], Any] | None = None,
        optimizer: MakeOptimizer | None = None,
    ) -> None:
        schedule = (schedule.float() if x.device.type == "mps" else schedule).to(x.device)  # MPS has no float64
        self.objective, self.config, self.schedule, self.length = objective, config, schedule, length
        self.t, self.entered_main = 0, False
        size = min(config.batch_size, len(x))
        if size < config.batch_size and tell:
            tell(f"A batch has {size} data, all that there are, instead of {config.batch_size}.")
        check_data(x, objective.model)
        if config.gradient:
            objective.elbo.set_gradient(config.gradient)
        refuse_stored_parameters(objective, x[:size])
        require_shares(size)
        share = share_of(size)
        self.share = share.stop - share.start
        self.x, self.batches = x, Batches(x, size, config.seed)
        self.flatness = PlateauDetector(until, len(x) // size)
        start_schedule(schedule, objective, length)
        self.initial = schedule.initial
        # The parameters that REWO's initial phase trains.
        self.reconstruction = objective.reconstruction_parameters(x[:size]) if self.initial else None
        if self.initial and not self.reconstruction:
            raise ConfigError(
                "nothing that reaches log p(x|z) can be trained (all frozen?), so REWO's initial phase cannot end."
            )
        parameters = [p for p in objective.parameters() if p.requires_grad]
        if not parameters:
            raise ConfigError("model and guide have no parameters to train. Are all frozen, or hidden in functions?")
        trained = {id(p) for p in self.reconstruction or ()}
        self.frozen = [p for p in parameters if id(p) not in trained] if self.initial else []
        self.optimizer = make_optimizer(config.optimizer, parameters, config.lr, x.device, optimizer)
        self.optimizer_step = OptimizerStep(self.optimizer)
        self.average = GradientAverage(objective, self.share / size) if process_count() > 1 else None
        self.rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.lr = self.rates[0]
        if config.balance:
            require_warm_up(schedule)
        rates = (config.free_bits, config.balance)
        self.training_pass = TrainingPass(objective, schedule, until is not None, config.precision, *rates)
        self.captured = capture(self.training_pass, tell=tell, warn=warn) if config.compile else None
        self.svi: SVI | None = None
        if config.engine == "svi":
            elbo = ScheduledELBO(objective.elbo, schedule, self.reconstruction, self._record_svi, *rates)
            self.svi = SVI(*for_svi(objective.model, objective.guide), FunctionOptim(self._apply), elbo)

    @property
    def done(self) -> bool:
        """Whether all steps are done or the loss is flat."""
        return self.t >= self.length or self.flatness.reached

    def step(self) -> None:
        """Trains on one batch: pass, schedule, loss, gradient, step (Klushyn et al. 2019, Algorithm 1, in this order)."""
        self.t += 1
        before = self.initial
        batch = self.batches.next()
        _set_gates(self.schedule, self.objective)
        with shared_batch():
            if self.svi is not None:
                self.optimizer.zero_grad(set_to_none=True)  # SVI only zeroes what it has seen
                self.svi.step(batch)
            else:
                self._step(batch)
        self.entered_main = before and not self.initial

    def _step(self, batch: Tensor | Batch) -> None:
        captured = None if self.schedule.unique_pass else self.captured
        weights = self.training_pass.arguments(self.schedule)
        # The optimiser skips parameters without a gradient and makes no Adam state for them.
        if captured is not None:
            values = self._run_captured(captured, batch, *weights)
        else:
            values = self.training_pass(batch, *weights)
            self._update_phase()
            self.optimizer.zero_grad(set_to_none=True)
            values["loss"].backward(inputs=self.reconstruction if self.initial else None)
        self._apply()
        self._record(self.training_pass.result(values))

    def _update_phase(self) -> None:
        """Reads whether the initial phase lasts; once it has ended, no later step waits for the device."""
        self.initial = self.initial and self.schedule.initial

    def _run_captured(self, captured: Captured, *arguments: Tensor | Batch) -> Any:
        """Runs a captured pass; in the initial phase without gradients of frozen parameters.

        Only the pass itself shows whether the phase ends with this batch. The step that ends it is of all parameters, so this
        pass runs again, from the same state and with the same noise.
        """
        if not self.initial:
            return captured(*arguments)
        buffers = [(buffer, buffer.clone()) for buffer in self.training_pass.buffers()]
        drawn = torch_rng_state({self.x.device} if self.x.device.type == "cuda" else ())
        for parameter in self.frozen:
            parameter.requires_grad_(False)
        try:
            values = captured(*arguments)
        finally:
            for parameter in self.frozen:
                parameter.requires_grad_()
        self._update_phase()
        if self.initial:
            return values
        set_torch_rng_state(drawn)
        for buffer, before in buffers:
            buffer.copy_(before)
        return captured(*arguments)

    def stop_together(self, asked: bool) -> bool:
        """Whether to stop after this step: a process alone once it is `asked`, several alike, two steps after one was asked."""
        if self.average is None:
            return asked
        self.average.asked = asked
        return self.average.agreed

    def _apply(self) -> None:
        """Averages gradients over processes, clips them and makes the optimiser's step at the present learning rate."""
        if self.average:
            self.average.run()
        if self.config.grad_clip:
            largest = self.config.grad_clip * self.schedule.gradient_scale
            torch.nn.utils.clip_grad_norm_(self.objective.parameters(), largest)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = learning_rate(rate, self.config.lr_decay, self.t, self.length)
        self.lr = self.optimizer.param_groups[0]["lr"]
        self.optimizer_step()

    def _record(self, result: StepResult) -> None:
        if (scale := self.schedule.gradient_scale) != 1:
            result = result._replace(loss=result.loss / scale)
        self.result = result
        if self.flatness.rule and result.nats is not None:
            weights = {name: float(weight) for name, weight in self.schedule.weights().items()}
            # Minus the bound without the constants of p(x | z); those of a Gaussian would hide a loss that still falls.
            constants = result.terms.distortion() - result.nats
            penalties = sum(p.mean() for p in result.terms.penalties.values())
            loss = -result.terms.bound_unweighted().mean() - constants + penalties
            self.flatness.add(share_mean(loss, self.share), weights)

    def _record_svi(self, estimate: Estimate, loss: Tensor) -> None:
        self._update_phase()
        self._record(StepResult(loss, estimate, estimate.constraint("nats") if self.flatness.rule else None))

    def row(self) -> dict[str, Any]:
        """Metrics of the last batch, nats per datum."""
        with torch.no_grad():
            terms = self.result.terms
            elbo, distortion = terms.bound_unweighted().mean(), terms.distortion()
            values: dict[str, Tensor] = {"loss": self.result.loss, "elbo": elbo, "distortion": distortion}
            values |= {f"rate.{name}": rate for name, rate in terms.rates().items()}
            values |= {"rate_total": -elbo - distortion}
            penalties = {f"penalty.{name}": value for name, value in terms.penalties.items()}
            means = average_values(values | penalties, self.share / self.batches.batch_size)
            values = {key: means[key] for key in values} | self.schedule.log() | {key: means[key] for key in penalties}
            row: dict[str, Any] = {k: bool(v) if v.dtype == torch.bool else v.item() for k, v in values.items()}
        return {**row, "lr": self.lr}

    def describe_initial_phase(self) -> str:
        """A warning about REWO's initial phase, which lasts: kappa may be too small."""
        state, kappa = self.schedule.log(), getattr(self.schedule, "kappa", math.nan)
        constraint = float(state["constraint"])
        return (
            f"the initial phase has not ended after {self.t} steps: the constraint average {constraint:.4g} "
            f"is still above kappa^2 = {kappa**2:.4g}, so beta stays at {float(state['beta']):.3g} and the prior is not "
            f"trained. Raise kappa to {1.1 * math.sqrt(constraint):.3g}, or train longer."
        )

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
        restore_optimizer(self.optimizer, state["optimizer"])
        check_tensors(self.schedule.state_dict(), state["schedule"], "schedule", exact=False)
        self.schedule.load_state_dict(state["schedule"])
        self.initial = self.schedule.initial
        self.batches.load_state_dict(state["batches"])
        if "flatness" in state:  # older runs have none
            self.flatness.load_state_dict(state["flatness"])
