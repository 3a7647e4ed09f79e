"""The training loop of all recipes: schedule, step, log, evaluate, checkpoint."""

import math
import signal
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any

import pyro
import torch
from torch import Tensor

from pyro_hvae.compilation import decide_training
from pyro_hvae.data import Rows
from pyro_hvae.errors import ConfigError, DivergenceError, Interrupted
from pyro_hvae.inference import InformationFlow
from pyro_hvae.objectives import Objective, check_data, take_data
from pyro_hvae.recipes import Stage, stage_lengths
from pyro_hvae.runs import Experiment, Progress, RunDirectory, Tracker, TrainConfig, load_checkpoint, save_checkpoint
from pyro_hvae.runtime import defer_signals, fixed_seed, limit_threads, pick_device, rng_state, set_rng_state
from pyro_hvae.schedules import Constant, Schedule
from pyro_hvae.training.collapse import describe_collapse
from pyro_hvae.training.data_scale import describe_scale
from pyro_hvae.training.divergence import BLOCK, DivergenceDetector
from pyro_hvae.training.session import Session, explain_batch_norm, start_schedule, validation_bound

Row = dict[str, Any]


def fit(
    objective: Objective | Sequence[Stage],
    x: Tensor | Rows,
    config: TrainConfig | None = None,
    schedule: Schedule | Sequence[Schedule] | None = None,
    out: str | PathLike[str] | None = None,
    *,
    validation: Tensor | Rows | None = None,
    resume: bool = False,
    trackers: Sequence[Tracker] = (),
    experiment: Experiment | None = None,
    progress: bool = True,
) -> list[Row]:
    """Trains a pair (or the stages of a recipe) on x and returns the metric rows, the last of which is of the last step.

    Arguments:
        objective: `ELBO(...)(model, guide)`, or stages trained one after the other.
        x: training data of shape (n, *event): a tensor, or `Rows` such as a data set's `train.x`.
        config: see `TrainConfig`. schedule: one per stage; default `Constant(1)`, the bound itself.
        out: run directory for metrics and checkpoints; None keeps nothing.
        validation: data for the unweighted bound that chooses `checkpoints/best.pt`.
        resume: go on from `out`'s last checkpoint. On the CPU the result is bit-identical to an uninterrupted run.
        trackers: told of every step (see `Tracker`). experiment: the configuration to write into the run, for recipes.
        progress: without trackers, show a bar on stderr, or a line every so often where that is no terminal.

    Rows hold step, stage, loss (weighted), elbo (unweighted bound), distortion, rate.SITE, rate_total, the values that the
    schedule logs (beta, constraint, ...), penalty.NAME and lr, in nats per datum of the step's batch; at some steps also
    validation_elbo and information.SITE (see `InformationFlow`).

    The caller's random streams stay as they are; noise comes from `config.seed`. The pair is in training mode while it is
    trained, and in evaluation mode afterwards, as a run that `load` opens.

    Raises:
        ContractError, ConfigError, DataError: for a pair, data or a combination that cannot be trained.
        DivergenceError: when the loss is not finite or above a million times the first one seen (at least 1e6 nats), or
            weights to be saved are not finite; the last checkpoint stays.
        Interrupted: after SIGINT or SIGTERM, once a resumable checkpoint has been written.
    """
    config = config or TrainConfig()
    stages = [Stage("main", objective)] if isinstance(objective, Objective) else list(objective)
    pair = stages[0].objective.model, stages[0].objective.guide
    x, validation = take_data(x, *pair), None if validation is None else take_data(validation, *pair)
    if schedule is None:
        schedule = [Constant() for _ in stages]
    schedules = [schedule] if isinstance(schedule, Schedule) else list(schedule)
    if len(schedules) != len(stages):
        raise ConfigError(f"{len(stages)} stages need as many schedules, got {len(schedules)}.")
    lengths, device = stage_lengths(config.steps, stages), pick_device(config.device)
    run = RunDirectory(out) if out is not None else None
    saved = _load_saved(run, config, len(stages)) if run and resume else None
    if run and saved:
        if config.compile is None:
            config = replace(config, compile=saved.get("compile", False))  # older runs were trained eagerly
        lengths[: saved["stage"]] = saved.get("lengths", lengths)[: saved["stage"]]  # older runs have none
        run.resume(saved["step"], *pair)
        if experiment:
            run.write_config(experiment)  # the length may have changed
    for stage, each, length in zip(stages, schedules, lengths, strict=True):
        start_schedule(each, stage.objective, length)  # sets the number of kinds of passes
    graphs = sum(each.pass_kinds for each in schedules)
    compile, why = decide_training(config.compile, config.engine, lengths, graphs, device)
    config = replace(config, compile=compile)
    if run and not resume:
        given = replace(experiment, train=config) if experiment else None
        run.create(given or Experiment(None, "own data", type(schedules[0]).__name__.lower(), config), *pair)
    shown = list(trackers) or ([Progress()] if progress else [])
    loop = _Loop(stages, schedules, lengths, config, run, shown, saved, run.rows() if run else [], python=not trackers)
    with ExitStack() as stack:
        stack.enter_context(fixed_seed(config.seed))
        stack.enter_context(limit_threads(config.threads))
        stack.enter_context(pyro.validation_enabled(False))
        stack.enter_context(pyro.get_param_store().scope())  # programs may announce their parameters by `pyro.module`
        loop.signals = stack.enter_context(defer_signals())
        for tracker in loop.trackers:
            tracker.start(sum(lengths), saved["step"] if saved else 0)
            stack.callback(tracker.close)
        loop.tell(why)
        with explain_batch_norm(stages):
            loop.run_stages(x, validation, device)
    for stage in stages:
        stage.objective.eval()
    return loop.rows


def _load_saved(run: RunDirectory, config: TrainConfig, stages: int) -> dict[str, Any]:
    """The last checkpoint of a run to resume; raises `ConfigError` where its length does not go with the settings."""
    saved = load_checkpoint(run.require_checkpoint())
    if saved["step"] > config.steps or (stages > 1 and saved["steps"] != config.steps):
        raise ConfigError(
            f"the run is at step {saved['step']} of {saved['steps']}; it cannot go on with {config.steps} steps. Only a "
            "run of one stage can be made longer, and none shorter than it is. Leave the steps out to go on as planned."
        )
    return saved


@dataclass
class _Loop:
    """The stages of one call of `fit`, with what it writes and tells.

    Attributes:
        lengths: planned steps of the stages; for stages that ended early, the steps they took.
        offset: steps of the stages before the present one. signals: received since the start.
        python: whether warnings are those of Python: the caller gave no tracker.
    """

    stages: list[Stage]
    schedules: list[Schedule]
    lengths: list[int]
    config: TrainConfig
    run: RunDirectory | None
    trackers: list[Tracker]
    saved: dict[str, Any] | None
    rows: list[Row]
    python: bool = False
    signals: list[int] = field(default_factory=list)
    best: float = -math.inf
    offset: int = 0
    warned: bool = False

    def run_stages(self, x: Tensor | Rows, validation: Tensor | Rows | None, device: torch.device) -> None:
        """Trains the stages that are not finished."""
        saved, current = self.saved, self.saved["stage"] if self.saved else -1
        if saved:
            for number in range(len(self.stages)):  # also the start of stages that have not begun
                self.load_programs(number, saved)
        for number, stage in enumerate(self.stages):
            stage.objective.to(device).train()
            if stage.before and number > current:
                stage.before()
            if number >= current:
                schedule, length = self.schedules[number], self.lengths[number]
                for tracker in self.trackers if len(self.stages) > 1 else []:
                    tracker.stage(stage.name, length)
                data, settings = stage.training_data(x, device), replace(self.config, **stage.settings)
                if number == 0 and not saved and (far := describe_scale(data, stage.objective.model)):
                    self.warn(far, depth=4)
                session = Session(stage.objective, data, settings, schedule, length, stage.until, self.tell, self.warn)
                if saved and number == current:
                    self.load_programs(number, saved)  # after the session's probing passes, which may move buffers
                    session.load_state_dict(saved["session"])
                    set_rng_state(saved["rng"])
                    self.best = saved["best"]
                held = None if validation is None else stage.validation_data(validation, device)
                self.run_stage(number, session, held and check_data(held, stage.objective.model))
            self.offset += self.lengths[number]
        if self.run:
            self.run.update(status="finished", step=self.offset)

    def run_stage(self, number: int, session: Session, validation: Rows | None) -> None:
        config, final = self.config, number == len(self.stages) - 1
        self.detector = DivergenceDetector()  # each stage has a scale of its own
        if self.run and not self.run.checkpoint().is_file():
            self.save(number, session)  # a run that fails early still has a checkpoint
        if self.run:
            self.run.update(status="running")
        flow = InformationFlow(session.x, config.information_points, seed=config.seed) if config.information_every else None
        if flow:
            InformationFlow(session.x, 2).row(session.objective.guide)  # refuses other guides before hours of training
        while not session.done:
            session.step()
            step, last = self.offset + session.t, session.done
            self.detector.add(step, session.result)
            logged = step % config.log_every == 0 or last or session.entered_main
            validated = validation is not None and (step % config.eval_every == 0 or last)
            informed = flow is not None and (step % config.information_every == 0 or last)
            row = {"step": step, "stage": number, **session.row()} if logged or validated or informed else None
            if logged or len(self.detector) >= BLOCK:  # never wait for a device at every step
                self.check(session)
            if row and validation is not None and validated:
                row["validation_elbo"] = value = validation_bound(session.objective, validation, config.seed)
                if final and session.schedule.final and value > self.best:
                    self.check(session, step)
                    self.best = value
                    self.save(number, session, "best")
            if row and flow and informed:
                row |= flow.row(session.objective.guide)
            if row:
                self.rows.append(row)
                if self.run:
                    self.run.append_row(row)
            for tracker in self.trackers:
                tracker.step(row)
            self.warn_if_stuck(session, last)
            if step % config.save_every == 0 or last or self.signals:
                self.check(session, step)
                self.save(number, session)
            if self.signals and not (last and final):
                self.interrupt(step)
        if final and self.rows and (collapse := describe_collapse(self.rows[-1])):
            self.end_with(collapse)
        if session.t < self.lengths[number]:
            for tracker in self.trackers:
                tracker.shorten(self.lengths[number] - session.t)
            self.lengths[number] = session.t

    def save(self, number: int, session: Session, which: str = "last") -> None:
        if self.run is None:
            return
        programs = [{"model": s.objective.model.state_dict(), "guide": s.objective.guide.state_dict()} for s in self.stages]
        content = {
            "stage": number,
            "step": self.offset + session.t,
            "steps": self.config.steps,
            "lengths": self.lengths,
            "programs": programs,
            "session": session.state_dict(),
            "rng": rng_state(),
            "best": self.best,
            "compile": self.config.compile,
        }
        save_checkpoint(self.run.checkpoint(which), content)

    def load_programs(self, number: int, saved: Mapping[str, Any]) -> None:
        objective, programs = self.stages[number].objective, saved["programs"][number]
        objective.model.load_state_dict(programs["model"])
        objective.guide.load_state_dict(programs["guide"])

    def check(self, session: Session, saving: int | None = None) -> None:
        """Stops a run whose losses are no longer usable, or whose weights are not when they are to be saved (step `saving`)."""
        if divergence := self.detector.check():
            step, what = divergence
        elif saving is not None and not all(bool(p.isfinite().all()) for p in session.objective.parameters()):
            step, what = saving, f"weights became infinite or NaN at step {saving}"
        else:
            return
        where = ""
        if self.run:
            self.run.update(status="diverged", step=step)
            last = self.run.checkpoint()
            where = f" The last good checkpoint is kept: {last}." if last.is_file() else ""
        raise DivergenceError(f"{what}.{where} Try lr={session.lr / 10:.1g}, or clip gradients by grad_clip=10.")

    def tell(self, message: str) -> None:
        for tracker in self.trackers if message else ():
            tracker.tell(message)

    def end_with(self, message: str) -> None:
        if self.run:
            self.run.update(warning=message)
        self.tell(message)
        if not self.trackers:
            warnings.warn(message, stacklevel=5)

    def warn(self, message: str, depth: int = 6) -> None:
        if self.run:
            self.run.update(warning=message)
        for tracker in () if self.python else self.trackers:
            tracker.warn(message)
        if self.python:
            warnings.warn(message, stacklevel=depth)

    def warn_if_stuck(self, session: Session, last: bool) -> None:
        """Warns once, after a quarter of the stage, when REWO's initial phase may never end: kappa is too small."""
        if not session.initial or self.warned or not (last or session.t >= session.length // 4):
            return
        self.warned = True
        self.warn(session.describe_initial_phase())

    def interrupt(self, step: int) -> None:
        message = f"stopped by {signal.Signals(self.signals[0]).name} at step {step} of {self.config.steps}."
        if self.run:
            self.run.update(status="interrupted", step=step)
            message += f" Saved {self.run.checkpoint()}; go on with: pyro-hvae train --resume {self.run.path}"
        raise Interrupted(message, self.signals[0])
