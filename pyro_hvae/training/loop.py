"""The one training loop: schedule, step, log, evaluate, checkpoint."""

import math
import signal
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from os import PathLike
from typing import Any

import pyro
from torch import Tensor

from pyro_hvae.compilation.policy import decide_training
from pyro_hvae.data import Rows
from pyro_hvae.errors import ConfigError, DivergenceError, Interrupted
from pyro_hvae.inference.information_flow import InformationFlow
from pyro_hvae.objectives.elbo import Objective
from pyro_hvae.recipes import Stage, stage_lengths
from pyro_hvae.runs.checkpoints import load_checkpoint, save_checkpoint
from pyro_hvae.runs.experiment import Experiment
from pyro_hvae.runs.run_directory import RunDirectory
from pyro_hvae.runs.trackers import Tracker
from pyro_hvae.runs.train_config import TrainConfig
from pyro_hvae.runtime.devices import limit_threads, pick_device
from pyro_hvae.runtime.random_state import fixed_seed, rng_state, set_rng_state
from pyro_hvae.runtime.signals import defer_signals
from pyro_hvae.schedules import Constant, Schedule
from pyro_hvae.training.divergence import BLOCK, Watch
from pyro_hvae.training.session import Session, begin
from pyro_hvae.training.trial_starts import placed, validated

__all__ = ["fit"]

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
) -> list[Row]:
    """Trains a pair (or the stages of a recipe) on x and returns the metric rows, the last of which is of the last step.

    Arguments:
        objective: `ELBO(...)(model, guide)`, or stages trained one after the other.
        x: training data of shape (n, *event): a tensor, or `Rows` such as a data set's `train.x`.
        config: see `TrainConfig`. schedule: one per stage; default `Constant(1)`, the bound itself.
        out: run directory for metrics and checkpoints; None keeps nothing.
        validation: data for the unweighted bound that chooses `checkpoints/best.pt`.
        resume: go on from `out`'s last checkpoint. On the CPU the result is bit-identical to an uninterrupted run.
        trackers: told of every row (see `tracking`). experiment: what to write into the run, for recipes.

    Rows hold step, stage, loss (weighted), elbo (unweighted bound), distortion, rate.SITE, rate_total, what the schedule logs
    (beta, constraint, ...), penalty.NAME, lr, and at times validation_elbo and information.SITE (`InformationFlow`), in nats
    per datum; what is not named after other data is of the batch of that step.

    The caller's random streams are left as they were; noise comes from `config.seed`.

    Raises:
        ContractError, ConfigError: for a pair or combination that cannot be trained.
        DivergenceError: when the loss is not finite or above a million times the first one seen (at least 1e6 nats), or
            weights to be saved are not finite; the last checkpoint stays.
        Interrupted: after SIGINT or SIGTERM, once a resumable checkpoint has been written.
    """
    config = config or TrainConfig()
    stages = [Stage("main", objective)] if isinstance(objective, Objective) else list(objective)
    if schedule is None:
        schedule = [Constant() for _ in stages]
    schedules = [schedule] if isinstance(schedule, Schedule) else list(schedule)
    if len(schedules) != len(stages):
        raise ConfigError(f"{len(stages)} stages need as many schedules, got {len(schedules)}.")
    lengths, device = stage_lengths(config.steps, stages), pick_device(config.device)
    run = RunDirectory(out) if out is not None else None
    saved = None
    if run and resume:
        saved = load_checkpoint(run.require_checkpoint())
        if config.compile is None:
            config = replace(config, compile=saved.get("compile", False))  # older runs were trained eagerly
        if saved["step"] > config.steps or (len(stages) > 1 and saved["steps"] != config.steps):
            raise ConfigError(
                f"the run is at step {saved['step']} of {saved['steps']}; it cannot go on with {config.steps} steps. Only a "
                "run of one stage can be made longer, and none shorter than it is. Leave --steps out to go on as planned."
            )
        lengths[: saved["stage"]] = saved.get("lengths", lengths)[: saved["stage"]]  # older runs have none
        run.forget_after(saved["step"])
        if experiment:
            run.write_config(experiment)  # the length may have changed
    for stage, each, length in zip(stages, schedules, lengths, strict=True):
        begin(each, stage.objective, length)  # how many kinds of passes there are is then known
    graphs = sum(each.pass_kinds for each in schedules)
    compile, why = decide_training(config.compile, config.engine, lengths, graphs, device)
    config = replace(config, compile=compile)
    if run and not resume:
        given = replace(experiment, train=config) if experiment else None
        run.create(given or Experiment(None, "own data", type(schedules[0]).__name__.lower(), config))
    loop = _Loop(stages, run, trackers, config, lengths)
    with ExitStack() as stack:
        stack.enter_context(fixed_seed(config.seed))
        stack.enter_context(limit_threads(config.threads))
        stack.enter_context(pyro.validation_enabled(False))
        loop.stop = stack.enter_context(defer_signals())
        for tracker in loop.trackers:
            tracker.start(sum(lengths), saved["step"] if saved else 0)
            stack.callback(tracker.close)
        loop.tell(why)
        offset = 0
        if saved:
            for number in range(len(stages)):  # also those that have not begun: their start
                loop.load_programs(number, saved)
        for number, (stage, length) in enumerate(zip(stages, lengths, strict=True)):
            stage.objective.to(device).train()
            settings = replace(config, **stage.settings)
            if stage.before and (not saved or number > saved["stage"]):
                stage.before()
            if not saved or number >= saved["stage"]:
                for tracker in loop.trackers if len(stages) > 1 else []:
                    tracker.stage(stage.name, length)
                seen, schedule_ = stage.learns_from(x, device), placed(schedules[number], device)
                session = Session(stage.objective, seen, settings, schedule_, length, stage.until, loop.tell, loop.warn)
                stack.enter_context(session.scope())
                if saved and number == saved["stage"]:
                    loop.load_programs(number, saved)  # after the session's probing passes, which may move buffers
                    session.load_state_dict(saved["session"])
                    set_rng_state(saved["rng"])
                    loop.best = saved["best"]
                judged = None if validation is None else stage.judged_on(validation, device)
                loop.run_stage(number, session, offset, judged)
            offset += lengths[number]
        if run:
            run.update(status="finished", step=offset)
    return loop.rows


class _Loop:
    """The parts of `fit` that stay the same from stage to stage."""

    stop: list[int]

    def __init__(
        self,
        stages: list[Stage],
        run: RunDirectory | None,
        trackers: Sequence[Tracker],
        config: TrainConfig,
        lengths: list[int],
    ) -> None:
        self.stages, self.run, self.trackers, self.config = stages, run, list(trackers), config
        self.lengths = lengths  # planned, and of stages that ended before that, taken
        self.rows: list[Row] = run.rows() if run else []
        self.best = -math.inf
        self.watch = Watch()
        self.warned = False

    def run_stage(self, number: int, session: Session, offset: int, validation: Rows | None) -> None:
        config, final = self.config, number == len(self.stages) - 1
        self.watch = Watch()  # each stage has a scale of its own
        if self.run and not self.run.checkpoint().is_file():
            self.save(number, session, offset)  # a run that fails early still has something to look at
        if self.run:
            self.run.update(status="running")
        flow = InformationFlow(session.x, config.information_points, seed=config.seed) if config.information_every else None
        if flow:
            # A guide without such posteriors is refused before hours go into it.
            InformationFlow(session.x, 2).row(session.objective.guide)
        while not session.done:
            session.step()
            step, last = offset + session.t, session.done
            self.watch.see(step, session.found)
            row = None
            if step % config.log_every == 0 or last or session.entered_main:
                row = {"step": step, "stage": number, **session.row()}
            if row or len(self.watch) >= BLOCK:  # never wait for a device at every step
                self.check(session)
            if validation is not None and (step % config.eval_every == 0 or last):
                row = row or {"step": step, "stage": number, **session.row()}
                row["validation_elbo"] = value = validated(session.objective, validation, config.seed)
                if final and session.schedule.final and value > self.best:
                    self.check(session, step)
                    self.best = value
                    self.save(number, session, offset, "best")
            if flow and (step % config.information_every == 0 or last):
                row = row or {"step": step, "stage": number, **session.row()}
                row |= flow.row(session.objective.guide)
            if row:
                self.rows.append(row)
                if self.run:
                    self.run.append(row)
            for tracker in self.trackers:
                tracker.step(row)
            self.warn_if_stuck(session, last)
            if step % config.save_every == 0 or last or self.stop:
                self.check(session, step)
                self.save(number, session, offset)
            if self.stop and not (last and final):
                self.interrupted(step)
        if session.t < self.lengths[number]:
            for tracker in self.trackers:
                tracker.shorten(self.lengths[number] - session.t)
            self.lengths[number] = session.t

    def save(self, number: int, session: Session, offset: int, which: str = "last") -> None:
        if self.run is None:
            return
        programs = [{"model": s.objective.model.state_dict(), "guide": s.objective.guide.state_dict()} for s in self.stages]
        content = {
            "stage": number,
            "step": offset + session.t,
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
        """Stops a run whose losses (or, before they are saved at a step, whose weights) are no longer usable."""
        if trouble := self.watch.trouble():
            step, what = trouble.step, f"the loss became {trouble.loss:.3g} at step {trouble.step}; worst site {trouble.site}"
        elif saving is not None and not all(bool(p.isfinite().all()) for p in session.objective.parameters()):
            step, what = saving, f"weights became infinite or NaN at step {saving}"
        else:
            return
        where = ""
        if self.run:
            self.run.update(status="diverged", step=step)
            kept = self.run.checkpoint()
            where = f" The last good checkpoint is kept: {kept}." if kept.is_file() else ""
        what_next = f" Try a smaller learning rate (--lr {session.lr / 10:.1g}) or clip gradients (-o grad_clip=10)."
        raise DivergenceError(f"{what}.{where}{what_next}")

    def tell(self, message: str) -> None:
        for tracker in self.trackers if message else ():
            tracker.tell(message)

    def warn(self, message: str) -> None:
        if self.run:
            self.run.update(warning=message)
        for tracker in self.trackers:
            tracker.warn(message)
        if not self.trackers:
            warnings.warn(message, stacklevel=5)

    def warn_if_stuck(self, session: Session, last: bool) -> None:
        """REWO's initial phase ends silently never when kappa cannot be reached."""
        if not session.initial or self.warned or not (last or session.t >= session.length // 4):
            return
        self.warned = True
        state = session.schedule.log()
        kappa2 = getattr(session.schedule, "kappa", math.nan) ** 2
        message = (
            f"the initial phase has not ended after {session.t} steps: the constraint average {float(state['constraint']):.4g} "
            f"is still above kappa^2 = {kappa2:.4g}, so beta stays at {float(state['beta']):.3g} and the prior is not "
            f"trained. Raise kappa (-o kappa={1.1 * math.sqrt(float(state['constraint'])):.3g}), or train longer."
        )
        self.warn(message)

    def interrupted(self, step: int) -> None:
        how = ""
        if self.run:
            self.run.update(status="interrupted", step=step)
            how = f" Saved {self.run.checkpoint()}; go on with: pyro-hvae train --resume {self.run.path}"
        name = signal.Signals(self.stop[0]).name
        raise Interrupted(f"stopped by {name} at step {step} of {self.config.steps}.{how}", self.stop[0])
