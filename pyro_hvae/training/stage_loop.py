"""The loop over the stages of a training: step, log, evaluate, checkpoint."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from signal import SIGTERM
from typing import Any

import torch
from torch import Tensor

from pyro_hvae.data import Batch, Rows
from pyro_hvae.inference import InformationFlow
from pyro_hvae.objectives import check_data
from pyro_hvae.recipes import Stage
from pyro_hvae.runs import Experiment, RunDirectory, Tracker, TrainConfig, explain_misfit, restore_pair, save_checkpoint
from pyro_hvae.runtime import (
    Signals,
    gather,
    is_writer,
    noise_seed,
    process_count,
    process_rank,
    rng_state,
    seed_streams,
    set_rng_state,
)
from pyro_hvae.schedules import Schedule
from pyro_hvae.training.collapse import describe_collapse
from pyro_hvae.training.data_scale import describe_scale
from pyro_hvae.training.divergence import BLOCK, DivergenceDetector
from pyro_hvae.training.early_stopping import EarlyStopping
from pyro_hvae.training.endings import interrupt, make_step_or_give_up, refuse_divergence
from pyro_hvae.training.optimizers import MakeOptimizer
from pyro_hvae.training.session import Session
from pyro_hvae.training.validation import choose_validation, validation_bound


@dataclass
class StageLoop:
    """The stages of one call of `fit`, with what it writes and tells.

    Attributes:
        lengths: planned steps of the stages; for stages that ended early, the steps they took.
        offset: steps of the stages before the present one. signals: received since the start.
        saved_step: of the last checkpoint. far: how the scale of the stage's data and that of their likelihood differ.
        optimizer: of the caller's own. ending: why the training ended early, "" where it did not.
        compiled: whether all stages that ran were compiled.
        python: whether warnings are those of Python: the caller gave no tracker.
    """

    stages: list[Stage]
    schedules: list[Schedule]
    lengths: list[int]
    experiment: Experiment
    run: RunDirectory | None
    trackers: list[Tracker]
    saved: dict[str, Any] | None
    rows: list[dict[str, Any]]
    optimizer: MakeOptimizer | None = None
    python: bool = False
    compiled: bool = True
    signals: Signals = field(default_factory=Signals)
    ending: str = ""
    far: str = ""
    offset: int = 0
    saved_step: int = -1
    warned: bool = False

    def __post_init__(self) -> None:
        self.best_weights: dict[str, Any] = {}
        self.stopping = EarlyStopping(self.config.patience)

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
                self.far = describe_scale(data, stage.objective.model) if number == 0 else ""
                if self.far and not saved:
                    self.warn(self.far, depth=4)
                more = (stage.until, self.tell, self.warn, self.optimizer)
                session = Session(stage.objective, data, settings, schedule, length, *more)
                if self.run and saved and number == current:
                    self.load_programs(number, saved)  # after the session's probing passes, which may move buffers
                    with explain_misfit(self.run.checkpoint()):
                        session.load_state_dict(saved["session"])
                        self.restore_noise(saved)
                        self.stopping.load_state_dict(saved)
                    self.saved_step = saved["step"]
                held = None if validation is None else stage.validation_data(choose_validation(validation), device)
                self.run_stage(number, session, held and check_data(held, stage.objective.model))
                captured = session.captured
                self.compiled = self.compiled and captured is not None and captured.compile and captured.eager is None
            self.offset += self.lengths[number]
        if self.best_weights:
            self.stages[-1].objective.load_state_dict(self.best_weights)
        if self.run:
            stopped = {"stopped_early": self.ending or None} if self.config.patience else {}
            self.run.update(status="finished", step=self.offset, **stopped)

    def run_stage(self, number: int, session: Session, validation: Rows | None) -> None:
        config, final = self.config, number == len(self.stages) - 1
        detector = DivergenceDetector(session.share / session.batches.batch_size)  # each stage has a scale of its own
        if self.run and self.saved_step < 0:
            self.save(number, session)  # a run that fails early still has a checkpoint
        if self.run:
            several = {"processes": process_count()} if process_count() > 1 else {}
            self.run.update(status="running", **several)
        flow = InformationFlow(session.x, config.information_points, seed=config.seed) if config.information_every else None
        if flow:
            InformationFlow(session.x, 2).row(session.objective.guide)  # refuses other guides before hours of training
        while not (session.done or self.stopping.reached):
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
                refuse_divergence(detector, session, self.run, self.far)
            if row and validation is not None and validated:
                row["validation_elbo"] = value = validation_bound(session.objective, validation, config.seed)
                if final and session.schedule.final and self.stopping.add(value, step, session.schedule.settled):
                    refuse_divergence(detector, session, self.run, self.far, step)
                    self.save(number, session, "best")
                last = last or self.stopping.reached
            if row and flow and (informed or last):
                row |= flow.row(session.objective.guide)
            if row:
                self.rows.append(row)
                if self.run:
                    self.run.append_row(row)
            for tracker in self.trackers:
                tracker.step(row)
            self.warn_if_stuck(session, last)
            stopping = session.stop_together(bool(self.signals))
            if step % config.save_every == 0 or last or stopping:
                refuse_divergence(detector, session, self.run, self.far, step)
                self.save(number, session)
            if stopping and not (last and final):
                interrupt(self.run, (*self.signals, SIGTERM)[0], step, self.config.steps)  # another process may have heard it
        if self.stopping.reached and not session.done:  # at the last step it ends nothing
            self.ending = self.stopping.describe(self.offset + session.t, self.offset + self.lengths[number])
            self.tell(self.ending)
        if final and self.rows and (collapse := describe_collapse(self.rows[-1])):
            self.end_with(collapse)
        if session.t < self.lengths[number]:
            for tracker in self.trackers:
                tracker.shorten(self.lengths[number] - session.t)
            self.lengths[number] = session.t

    def save(self, number: int, session: Session, which: str = "last") -> None:
        if self.run is None:
            if which == "best" and self.config.patience:  # there is no file that keeps them
                self.best_weights = {key: value.clone() for key, value in session.objective.state_dict().items()}
            return
        noise, *further = gather(rng_state())
        self.saved_step = self.offset + session.t if which == "last" else self.saved_step
        if not is_writer():
            return
        programs = [{"model": s.objective.model.state_dict(), "guide": s.objective.guide.state_dict()} for s in self.stages]
        content = {
            "stage": number,
            "step": self.offset + session.t,
            "steps": self.config.steps,
            "lengths": self.lengths,
            "programs": programs,
            "session": session.state_dict(),
            "rng": noise,
            **({"rng_of_others": further} if further else {}),
            **self.stopping.state_dict(),
            "rows": len(self.rows),
            "compile": self.config.compile,
            "config": self.experiment.to_dict(),
        }
        save_checkpoint(self.run.checkpoint(which), content)

    def restore_noise(self, saved: Mapping[str, Any]) -> None:
        """Sets the random streams as they were; new ones where the run had fewer processes than now."""
        states = [saved["rng"], *saved.get("rng_of_others", [])]
        if (rank := process_rank()) < len(states):
            set_rng_state(states[rank])
        else:
            seed_streams(noise_seed(self.config.seed, saved["step"]))
        if len(states) != (count := process_count()):
            self.tell(f"The run had {len(states)} processes and goes on with {count}: from here on its noise is another.")

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
