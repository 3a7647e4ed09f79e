"""The training loop of all recipes: schedule, step, log, evaluate, checkpoint."""

import math
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
from pyro_hvae.data import Batch, Rows
from pyro_hvae.errors import ConfigError
from pyro_hvae.inference import InformationFlow
from pyro_hvae.objectives import Objective, check_data, take_data
from pyro_hvae.recipes import Stage, stage_lengths
from pyro_hvae.runs import (
    Experiment,
    Progress,
    RunDirectory,
    Tracker,
    TrainConfig,
    explain_misfit,
    record_program,
    restore_pair,
    save_checkpoint,
)
from pyro_hvae.runtime import Signals, defer_signals, fixed_seed, limit_threads, pick_device, rng_state, set_rng_state
from pyro_hvae.schedules import Constant, Schedule
from pyro_hvae.training.collapse import describe_collapse
from pyro_hvae.training.data_scale import describe_scale
from pyro_hvae.training.divergence import BLOCK, DivergenceDetector
from pyro_hvae.training.endings import interrupt, make_step_or_give_up, record_failure, refuse_divergence
from pyro_hvae.training.resumption import load_saved
from pyro_hvae.training.session import Session, explain_batch_norm, start_schedule, validation_bound

Row = dict[str, Any]


def fit(
    objective: Objective | Sequence[Stage],
    x: Tensor | Batch | Rows,
    config: TrainConfig | None = None,
    schedule: Schedule | Sequence[Schedule] | None = None,
    out: str | PathLike[str] | None = None,
    *,
    given: Mapping[str, Any] | None = None,
    observed: Any = None,
    validation: Tensor | Batch | Rows | None = None,
    resume: bool = False,
    trackers: Sequence[Tracker] = (),
    experiment: Experiment | None = None,
    progress: bool = True,
) -> list[Row]:
    """Trains a pair (or the stages of a recipe) on x and returns the metric rows, the last of which is of the last step.

    Arguments:
        objective: `ELBO(...)(model, guide)`, or stages trained one after the other.
        x: training data of shape (n, *event): a tensor, or `Rows` such as a data set's `train.x`. NaN are missing entries.
        given: inputs of the programs beside x, name -> values of shape (n, ...). observed: a mask of the entries of x.
        config: see `TrainConfig`. schedule: one per stage; default `Constant(1)`, the bound itself.
        out: run directory for metrics and checkpoints; None keeps nothing.
        validation: data for the unweighted bound that chooses `checkpoints/best.pt`; with given inputs a `Batch`.
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
        Interrupted: after SIGINT, SIGTERM or SIGHUP, once a resumable checkpoint has been written. A step that
            may compile is given up at once where the last checkpoint is of the step before.
    """
    config = config or TrainConfig()
    stages = [Stage("main", objective)] if isinstance(objective, Objective) else list(objective)
    pair = stages[0].objective.model, stages[0].objective.guide
    programs = [program for stage in stages for program in (stage.objective.model, stage.objective.guide)]
    x = take_data(x, *programs, given=given, observed=observed, wait=True)
    validation = None if validation is None else take_data(validation, *programs, wait=True)
    if schedule is None:
        schedule = [Constant() for _ in stages]
    schedules = [schedule] if isinstance(schedule, Schedule) else list(schedule)
    if len(schedules) != len(stages):
        raise ConfigError(f"{len(stages)} stages need as many schedules, got {len(schedules)}.")
    lengths, device = stage_lengths(config.steps, stages), pick_device(config.device)
    run = RunDirectory(out) if out is not None else None
    whole = replace(experiment or Experiment(None, "own data", type(schedules[0]).__name__.lower()), train=config)
    with ExitStack() as stack:
        if run:
            run.require_checkpoint() if resume else run.require_empty()
            stack.enter_context(run.lock())
        saved = load_saved(run, whole, len(stages), pair) if run and resume else None
        if run and saved:
            if config.compile is None:
                config = replace(config, compile=saved.get("compile", False))  # older runs were trained eagerly
            lengths[: saved["stage"]] = saved.get("lengths", lengths)[: saved["stage"]]  # older runs have none
            run.resume(saved["step"], saved.get("rows"))
            if experiment:
                run.write_config(experiment)  # the length may have changed
        for stage, each, length in zip(stages, schedules, lengths, strict=True):
            start_schedule(each, stage.objective, length)  # sets the number of kinds of passes
        graphs = sum(each.pass_kinds for each in schedules)
        compile, why = decide_training(config.compile, config.engine, lengths, graphs, device)
        whole, rows = replace(whole, train=replace(config, compile=compile)), run.rows() if run else []
        if run and not resume:
            run.create(whole, record_program(whole.program, *pair) if whole.recipe is None else None)
        shown = list(trackers) or ([Progress()] if progress else [])
        loop = _Loop(stages, schedules, lengths, whole, run, shown, saved, rows, python=not trackers)
        stack.enter_context(record_failure(run))
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


@dataclass
class _Loop:
    """The stages of one call of `fit`, with what it writes and tells.

    Attributes:
        lengths: planned steps of the stages; for stages that ended early, the steps they took.
        offset: steps of the stages before the present one. signals: received since the start.
        saved_step: of the last checkpoint.
        python: whether warnings are those of Python: the caller gave no tracker.
    """

    stages: list[Stage]
    schedules: list[Schedule]
    lengths: list[int]
    experiment: Experiment
    run: RunDirectory | None
    trackers: list[Tracker]
    saved: dict[str, Any] | None
    rows: list[Row]
    python: bool = False
    signals: Signals = field(default_factory=Signals)
    best: float = -math.inf
    offset: int = 0
    saved_step: int = -1
    warned: bool = False

    @property
    def config(self) -> TrainConfig:
        return self.experiment.train

    def run_stages(self, x: Tensor | Batch | Rows, validation: Tensor | Batch | Rows | None, device: torch.device) -> None:
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
                if self.run and saved and number == current:
                    self.load_programs(number, saved)  # after the session's probing passes, which may move buffers
                    with explain_misfit(self.run.checkpoint()):
                        session.load_state_dict(saved["session"])
                        set_rng_state(saved["rng"])
                    self.best, self.saved_step = saved["best"], saved["step"]
                held = None if validation is None else stage.validation_data(validation, device)
                self.run_stage(number, session, held and check_data(held, stage.objective.model))
            self.offset += self.lengths[number]
        if self.run:
            self.run.update(status="finished", step=self.offset)

    def run_stage(self, number: int, session: Session, validation: Rows | None) -> None:
        config, final = self.config, number == len(self.stages) - 1
        detector = DivergenceDetector()  # each stage has a scale of its own
        if self.run and not self.run.checkpoint().is_file():
            self.save(number, session)  # a run that fails early still has a checkpoint
        if self.run:
            self.run.update(status="running")
        flow = InformationFlow(session.x, config.information_points, seed=config.seed) if config.information_every else None
        if flow:
            InformationFlow(session.x, 2).row(session.objective.guide)  # refuses other guides before hours of training
        while not session.done:
            before = self.offset + session.t
            # A step that may compile can take minutes. It can be given up where the state before it is saved.
            if session.captured is not None and (self.run is None or self.saved_step == before):
                make_step_or_give_up(session, self.signals, self.run, before, self.config.steps)
            else:
                session.step()
            step, last = self.offset + session.t, session.done
            detector.add(step, session.result)
            logged = step % config.log_every == 0 or last or session.entered_main
            validated = validation is not None and (step % config.eval_every == 0 or last)
            informed = flow is not None and (step % config.information_every == 0 or last)
            row = {"step": step, "stage": number, **session.row()} if logged or validated or informed else None
            if logged or len(detector) >= BLOCK:  # never wait for a device at every step
                refuse_divergence(detector, session, self.run)
            if row and validation is not None and validated:
                row["validation_elbo"] = value = validation_bound(session.objective, validation, config.seed)
                if final and session.schedule.final and value > self.best:
                    refuse_divergence(detector, session, self.run, step)
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
                refuse_divergence(detector, session, self.run, step)
                self.save(number, session)
            if self.signals and not (last and final):
                interrupt(self.run, self.signals[0], step, self.config.steps)
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
            "rows": len(self.rows),
            "compile": self.config.compile,
            "config": self.experiment.to_dict(),
        }
        save_checkpoint(self.run.checkpoint(which), content)
        self.saved_step = content["step"] if which == "last" else self.saved_step

    def load_programs(self, number: int, saved: Mapping[str, Any]) -> None:
        if self.run:
            restore_pair(self.stages[number].objective, saved["programs"][number], self.run.checkpoint())

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
        session.schedule.require_usable()
        self.warned = True
        self.warn(session.describe_initial_phase())
