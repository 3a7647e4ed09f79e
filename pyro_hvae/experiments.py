"""From a resolved experiment to a trained run and back: what the commands call."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyro_hvae import recipes
from pyro_hvae.checkpoints import load_checkpoint
from pyro_hvae.config import Experiment, coerce, parameters, read_toml
from pyro_hvae.data import DATASETS, Dataset, find_source, is_path
from pyro_hvae.devices import pick_device, seeded
from pyro_hvae.errors import CheckpointError, ConfigError, DataError, unknown_name
from pyro_hvae.information_flow import Flow
from pyro_hvae.objectives import ELBO, Objective
from pyro_hvae.programs import Program, program_from_file
from pyro_hvae.recipes import RECIPES, Stage
from pyro_hvae.runs import RunDirectory, find_run
from pyro_hvae.schedules import SCHEDULES, Schedule
from pyro_hvae.session import begin
from pyro_hvae.tracking import Tracker
from pyro_hvae.training import fit, stage_lengths, trial

__all__ = ["Loaded", "OpenRun", "Plan", "load", "open_run", "plan", "train"]


class Loaded(NamedTuple):
    """What `load` gives back: the trained pair, in evaluation mode, and the configuration of its run."""

    model: nn.Module
    guide: nn.Module
    config: Experiment


@dataclass(frozen=True)
class Plan:
    """An experiment built but not trained: its data, stages and schedules."""

    experiment: Experiment
    dataset: Dataset
    stages: list[Stage]
    schedules: list[Schedule]

    def describe(self) -> dict[str, Any]:
        """What a dry run prints: shapes, parameter counts, and the configuration."""
        counts = {s.name: sum(p.numel() for p in s.objective.parameters()) for s in self.stages}
        shape = list(self.dataset.train.x.shape)
        return {"data_shape": shape, "parameters": counts, **self.experiment.to_dict()}


@dataclass(frozen=True, eq=False)
class OpenRun:
    """A trained run with its data, for evaluation.

    Attributes:
        directory: where it lives. objective: the last stage's pair and bound, on its device, in evaluation mode.
    """

    directory: RunDirectory
    experiment: Experiment
    objective: Objective
    step: int

    @cached_property
    def dataset(self) -> Dataset:
        return _data(self.experiment)

    def images(self, x: Tensor) -> Tensor:
        """Data as images to look at: themselves, unless their set has a picture of them (stick figures for joint angles)."""
        return self.dataset.picture(x) if self.dataset.picture else x

    @property
    def model(self) -> nn.Module:
        return self.objective.model

    @property
    def guide(self) -> nn.Module:
        return self.objective.guide

    @property
    def device(self) -> torch.device:
        return next(self.objective.parameters()).device


def _stages(experiment: Experiment, x: Tensor, program: Program | None) -> list[Stage]:
    if experiment.recipe is not None:
        return recipes.build(experiment.recipe, x, experiment.recipe_options)
    if program is None:
        raise ConfigError(
            f"this run is of a user's own program ({experiment.program or 'unnamed'}), which is never imported from the run. "
            "Hand it over: --program FILE.py:FUNCTION on the command line, hv.load(RUN, program=(model, guide)) in Python."
        )
    model, guide, *elbo = program
    return [Stage("program", (elbo[0] if elbo else ELBO())(model, guide))]


def _data(experiment: Experiment) -> Dataset:
    if experiment.dataset not in DATASETS and not is_path(experiment.dataset):
        raise ConfigError(
            f"this run was trained on '{experiment.dataset}', which only the script that made it has. "
            "Use hv.load(RUN, program=(model, guide)) there."
        )
    data = _built(experiment.dataset, tuple(sorted(experiment.data_options.items())))
    if experiment.data_identity and data.identity != experiment.data_identity:
        raise DataError(
            f"the data at {experiment.dataset} are no longer those of this run: {data.identity} instead of "
            f"{experiment.data_identity}. Test data may have become training data; restore them, or train anew."
        )
    return data


@lru_cache(maxsize=1)  # trial starts, training and evaluation of one run look at the same, never modified, tensors
def _built(name: str, options: tuple[tuple[str, Any], ...]) -> Dataset:
    return find_source(name).load(**dict(options))


def plan(experiment: Experiment, start: int = 0) -> Plan:
    """Builds data, stages and schedules, and checks on two data that the schedule goes with the bound.

    Arguments:
        start: which of the seed's initialisations to build.

    Raises:
        ConfigError, ContractError: when the combination makes no sense, saying why.
    """
    dataset = _data(experiment)
    with seeded(experiment.train.seed + 1_000_003 * start):
        x = dataset.train.x.some()
        program = program_from_file(experiment.program, x) if experiment.program else None
        stages = _stages(experiment, x, program)
        schedules = [SCHEDULES[experiment.schedule](**(experiment.schedule_options | dict(s.schedule))) for s in stages]
        for stage, schedule, steps in zip(stages, schedules, stage_lengths(experiment.train.steps, stages), strict=True):
            begin(schedule, stage.objective, steps)
        first = stages[0].sees(dataset.train.x, torch.device("cpu"))[:2]
        try:
            estimate = stages[0].objective.estimate(first)
            estimate.loss(schedules[0].weights())
            if schedules[0].measure:
                estimate.constraint(schedules[0].measure)
        except ConfigError as error:
            raise ConfigError(f"--schedule {experiment.schedule} does not go with this bound: {error}") from error
        if experiment.train.information_every:
            Flow(first).row(stages[0].objective.guide)
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
    fit(
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
    return _opened(RunDirectory(out), experiment, made.stages, experiment.train.steps)


def best_start(experiment: Experiment, tell: Callable[[str], Any] = lambda text: None) -> Plan:
    """A fresh plan of the start with the best validation bound after the first tenth of the run; see `training.trial`."""
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
    allowed = {"steps", "device", "threads", "log_every", "eval_every", "save_every", "information_every", "information_points"}
    for key, value in changes.items():
        before = getattr(experiment.train, key)
        if key not in allowed and value != before:
            raise ConfigError(f"the run was started with {key} = {before}; it cannot go on with {value}. Start a new run.")
    settings = {k: coerce(k, v, parameters(type(experiment.train))[k].annotation) for k, v in changes.items()}
    done = load_checkpoint(RunDirectory(path).checkpoint())["step"]
    if settings.get("steps", done) < done:
        raise ConfigError(f"the run is at step {done} already; it cannot go back to --steps {settings['steps']}.")
    return path, replace(experiment, train=replace(experiment.train, **settings), program=program)


def read_experiment(path: Path) -> Experiment:
    """The experiment of a run, from its config.toml, its options validated against today's signatures."""
    file = path / "config.toml"
    if not file.is_file():
        raise CheckpointError(f"'{path}' is not a run directory: it has no config.toml.")
    experiment = Experiment.from_dict(read_toml(file))
    for kind, table in (("recipe", RECIPES), ("schedule", SCHEDULES)):
        if experiment.recipe and (name := getattr(experiment, kind)) not in table:
            raise unknown_name(f"{kind} of '{file}'", name, table)
    # What only a user's own script has stays unknown, and is told when it is asked for.
    known = experiment.recipe is not None or experiment.dataset in DATASETS or is_path(experiment.dataset)
    source = find_source(experiment.dataset) if known else None
    return replace(
        experiment,
        recipe_options=_typed(experiment.recipe_options, RECIPES[experiment.recipe].build) if experiment.recipe else {},
        schedule_options=_typed(experiment.schedule_options, SCHEDULES.get(experiment.schedule)),
        data_options=_typed(experiment.data_options, source and source.load),
    )


def _typed(options: dict[str, Any], function: Any) -> dict[str, Any]:
    known = parameters(function) if function else {}
    return {k: coerce(k, v, known[k].annotation) for k, v in options.items() if k in known}


def _opened(directory: RunDirectory, experiment: Experiment, stages: list[Stage], step: int) -> OpenRun:
    objective = stages[-1].objective
    objective.eval()
    return OpenRun(directory, experiment, objective, step)


def open_run(
    run: str | PathLike[str], checkpoint: str = "last", program: Program | str | None = None, device: str = "cpu"
) -> OpenRun:
    """Opens a trained run by path, unique prefix or `last`.

    Arguments:
        checkpoint: `last`, or `best` by validation bound.
        program: for runs of a user's own pair: (model, guide[, ELBO]), or FILE.py:FUNCTION as typed by the user.

    Raises:
        DataError, CheckpointError, ConfigError: see the errors' texts.
    """
    directory = RunDirectory(find_run(run))
    saved = load_checkpoint(directory.require_checkpoint(checkpoint))
    experiment = read_experiment(directory.path)
    with seeded(0):
        x = _data(experiment).train.x.some() if experiment.recipe or isinstance(program, str) else None
        pair = program_from_file(program, x) if isinstance(program, str) and x is not None else program
        # x is None only where a finished pair was handed over, which needs no data to be built.
        stages = _stages(experiment, x, pair)  # type: ignore[arg-type]
    try:
        for stage, programs in zip(stages, saved["programs"], strict=True):
            stage.objective.model.load_state_dict(programs["model"])
            stage.objective.guide.load_state_dict(programs["guide"])
    except (RuntimeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"checkpoint of '{directory.path}' does not fit its configuration: {reason}") from error
    stages[-1].objective.to(pick_device(device))
    return _opened(directory, experiment, stages, saved["step"])


def load(run: str | PathLike[str], checkpoint: str = "last", program: Program | None = None, device: str = "cpu") -> Loaded:
    """Model, guide and configuration of a run: `model, guide, config = hv.load("last")`."""
    opened = open_run(run, checkpoint, program, device)
    return Loaded(opened.model, opened.guide, opened.experiment)
