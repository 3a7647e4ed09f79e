"""From a resolved experiment to a trained run: what the commands call."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from pyro_hvae.compilation.policy import decide_training
from pyro_hvae.data import Dataset
from pyro_hvae.errors import ConfigError
from pyro_hvae.inference.information_flow import InformationFlow
from pyro_hvae.recipes import Stage, stage_lengths
from pyro_hvae.runs.checkpoints import load_checkpoint
from pyro_hvae.runs.experiment import Experiment
from pyro_hvae.runs.options import coerce, parameters
from pyro_hvae.runs.run_directory import RunDirectory, find_run
from pyro_hvae.runs.run_loading import OpenRun, as_opened, build_stages, load_data, read_experiment
from pyro_hvae.runs.trackers import Tracker
from pyro_hvae.runs.user_program import program_from_file
from pyro_hvae.runtime.devices import pick_device
from pyro_hvae.runtime.random_state import fixed_seed
from pyro_hvae.schedules import SCHEDULES, Schedule
from pyro_hvae.training.loop import fit
from pyro_hvae.training.session import begin
from pyro_hvae.training.trial_starts import trial

__all__ = ["Plan", "best_start", "plan", "resumed", "train"]


@dataclass(frozen=True)
class Plan:
    """An experiment built but not trained: its data, stages and schedules."""

    experiment: Experiment
    dataset: Dataset
    stages: list[Stage]
    schedules: list[Schedule]

    def describe(self) -> dict[str, Any]:
        """What a dry run prints: shapes, parameter counts, and the configuration, whether to compile decided."""
        counts = {s.name: sum(p.numel() for p in s.objective.parameters()) for s in self.stages}
        shape = list(self.dataset.train.x.shape)
        lengths = stage_lengths(self.experiment.train.steps, self.stages)
        several = {"steps_at_most": dict(zip(counts, lengths, strict=True))} if len(lengths) > 1 else {}
        train, graphs = self.experiment.train, sum(schedule.pass_kinds for schedule in self.schedules)
        compile, _ = decide_training(train.compile, train.engine, lengths, graphs, pick_device(train.device))
        settings = self.experiment.replace_train(compile=compile).to_dict()
        return {"data_shape": shape, "parameters": counts, **several, **settings}


def plan(experiment: Experiment, start: int = 0) -> Plan:
    """Builds data, stages and schedules, and checks on two data that the schedule goes with the bound.

    Arguments:
        start: which of the seed's initialisations to build.

    Raises:
        ConfigError, ContractError: when the combination makes no sense, saying why.
    """
    dataset = load_data(experiment)
    with fixed_seed(experiment.train.seed + 1_000_003 * start):
        program = program_from_file(experiment.program, dataset.train.x.sample()) if experiment.program else None
        stages = build_stages(experiment, dataset, program)
        schedules = [SCHEDULES[experiment.schedule](**(experiment.schedule_options | dict(s.schedule))) for s in stages]
        for stage, schedule, steps in zip(stages, schedules, stage_lengths(experiment.train.steps, stages), strict=True):
            begin(schedule, stage.objective, steps)
        first = stages[0].trains_on(dataset.train.x, torch.device("cpu"))[:2]
        try:
            estimate = stages[0].objective.estimate(first)
            estimate.loss(schedules[0].weights())
            if schedules[0].measure:
                estimate.constraint(schedules[0].measure)
        except ConfigError as error:
            raise ConfigError(f"--schedule {experiment.schedule} does not go with this bound: {error}") from error
        if experiment.train.information_every:
            InformationFlow(first).row(stages[0].objective.guide)
    return Plan(experiment, dataset, stages, schedules)


def train(
    experiment: Experiment,
    out: str | PathLike[str],
    resume: bool = False,
    trackers: Sequence[Tracker] = (),
    tell: Callable[[str], Any] = lambda text: None,
) -> OpenRun:
    """Trains a resolved experiment into the run directory `out` and opens it; see `fit` for what can go wrong.

    Arguments:
        tell: called with a line about the trial starts, where several are asked for (see `TrainConfig.starts`).
    """
    pick_device(experiment.train.device)
    if experiment.train.starts > 1 and not resume:
        RunDirectory(out).require_empty()
        made = best_start(experiment, tell)
    else:
        made = plan(experiment)
    experiment = replace(experiment, data_identity=made.dataset.identity or None)
    rows = fit(
        made.stages,
        made.dataset.train.x,
        experiment.train,
        made.schedules,
        out,
        validation=made.dataset.validation.x,
        resume=resume,
        trackers=trackers,
        experiment=experiment,
    )
    return as_opened(RunDirectory(out), experiment, made.stages, rows[-1]["step"])


def best_start(experiment: Experiment, tell: Callable[[str], Any] = lambda text: None) -> Plan:
    """A fresh plan of the start with the best validation bound after the first tenth of the run; see `trials.trial`."""
    bounds = []
    for start in range(experiment.train.starts):
        made = plan(experiment, start)
        x, validation = made.dataset.train.x, made.dataset.validation.x
        value = trial(made.stages[0], x, experiment.train, made.schedules[0], validation)
        bounds.append(value if math.isfinite(value) else -math.inf)
    best = max(range(len(bounds)), key=lambda i: bounds[i])
    shown = ", ".join(f"{value:.2f}" for value in bounds)
    tell(f"Tried {len(bounds)} starts over the first tenth of the run (validation bounds {shown}); training number {best + 1}.")
    return plan(experiment, best)


def resumed(run: str | PathLike[str], changes: dict[str, Any], program: str | None = None) -> tuple[Path, Experiment]:
    """The path and experiment of a run to go on with; only its length, device and cadence may change.

    Raises:
        ConfigError: for a change that would make another experiment of it.
    """
    path = find_run(run)
    RunDirectory(path).require_checkpoint()
    experiment = read_experiment(path)
    if experiment.recipe is None and program is None:
        raise ConfigError(f"this run is of a user's own program, started with --program {experiment.program}. Give it again.")
    cadence = {"log_every", "eval_every", "save_every", "information_every", "information_points"}
    allowed = {"steps", "device", "threads", "compile", *cadence}
    for key, value in changes.items():
        before = getattr(experiment.train, key)
        if key not in allowed and value != before:
            raise ConfigError(f"the run was started with {key} = {before}; it cannot go on with {value}. Start a new run.")
    settings = {k: coerce(k, v, parameters(type(experiment.train))[k].annotation) for k, v in changes.items()}
    done = load_checkpoint(RunDirectory(path).checkpoint())["step"]
    if settings.get("steps", done) < done:
        raise ConfigError(f"the run is at step {done} already; it cannot go back to --steps {settings['steps']}.")
    return path, replace(experiment, train=replace(experiment.train, **settings), program=program)
