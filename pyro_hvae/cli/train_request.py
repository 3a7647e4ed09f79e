"""The request of `pyro-hvae train`: what was typed, resolved into an experiment and a run directory, and run."""

import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from pyro_hvae.errors import ConfigError
from pyro_hvae.reports import report_training
from pyro_hvae.runs import Experiment, Progress, RunDirectory, find_difference, make_trackers, read_config, read_toml, resolve
from pyro_hvae.runtime import gather, is_writer, leave_processes, may_be_restarted, pick_device, runs_folder
from pyro_hvae.training import plan, resume_experiment, train


@dataclass(frozen=True)
class TrainRequest:
    """An experiment to train, and its run directory."""

    experiment: Experiment
    out: Path
    resume: bool

    def describe(self) -> dict[str, Any]:
        """The plan of a dry run."""
        pick_device(self.experiment.train.device)
        return {"out": str(self.out), **plan(self.experiment).describe()}

    def over_seeds(self, seeds: Iterable[int], out: Path | None) -> list["TrainRequest"]:
        """This request for each seed, below `out` or the folder of runs under the names that single runs have."""
        experiments = [self.experiment.replace_train(seed=seed) for seed in seeds]
        return [TrainRequest(each, (out or runs_folder()) / run_name(each), False) for each in experiments]

    def run(self, track: tuple[str, ...] = ()) -> dict[str, Any]:
        """Trains, draws and measures; returns the values of `report_training`."""
        trackers = [Progress(), *make_trackers(track, self.out)]

        def tell(text: str) -> None:
            print(text, file=sys.stderr, flush=True)

        run = train(self.experiment, self.out, self.resume, trackers, tell if is_writer() else lambda text: None)
        leave_processes()
        return report_training(run) if is_writer() else {}


def resolve_request(
    recipe: str | None,
    dataset: str | None,
    schedule: str | None,
    options: Mapping[str, str],
    settings: Mapping[str, Any],
    epochs: int | None,
    out: Path | None,
    resume: str | None,
    config: Path | None,
    program: str | None,
    force: bool = False,
) -> TrainRequest:
    """Resolves what was typed, without contradictions, into an experiment and a run directory."""
    if resume is not None:
        path, experiment = resume_experiment(resume, dict(settings), program, force)
    else:
        file = read_toml(config) if config else {}
        experiment = resolve(recipe, dataset, schedule, options, settings, file, program)
        if may_be_restarted() and _was_begun(experiment, out):
            resume = str(out)
        path = gather(out or _new_run_path(experiment))[0]
    if epochs is not None:
        experiment = experiment.replace_train(steps=_steps(experiment, epochs))
    return TrainRequest(experiment, path, resume is not None)


def _was_begun(experiment: Experiment, out: Path | None) -> bool:
    """Whether processes that torchrun started before these have left a checkpoint of the run."""
    if out is None:
        raise ConfigError(
            "torchrun would start the processes again after a failure (--max-restarts), and these are to go on with the run. "
            "Name its directory: --out DIR."
        )
    if begun := (run := RunDirectory(out)).checkpoint().is_file():
        require_same_run(read_config(run.path), experiment, run)
    return begun


def require_same_run(stored: Experiment, asked: Experiment, run: RunDirectory) -> None:
    """Raises `ConfigError` where a run is of another experiment than the one asked for."""
    # Early stopping may change when a run is resumed, but it decides where one ends.
    ends = [key for key in ("patience", "eval_every") if stored.train.patience or asked.train.patience]
    pairs = ((f"{key} = {getattr(stored.train, key)}", f"{key} = {getattr(asked.train, key)}") for key in ends)
    if other := find_difference(stored, asked, whole=False) or next((pair for pair in pairs if pair[0] != pair[1]), None):
        was, wanted = other
        raise ConfigError(f"'{run.path}' holds another run: it has {was}, and {wanted} was asked for. Choose another --out.")


def _steps(experiment: Experiment, epochs: int) -> int:
    """The steps of all stages, such that the last stage takes so many passes over the training data."""
    built = plan(experiment)
    steps = epochs * max(1, len(built.dataset.train.x) // experiment.train.batch_size)
    shares = [stage.share for stage in built.stages]
    return max(len(shares), round(steps * sum(shares) / shares[-1]))


def run_name(experiment: Experiment) -> str:
    """The name of the directory of a run: method, data, schedule and seed."""
    method, data = experiment.method.replace(".py:", "-"), Path(experiment.dataset).name
    # A user's own program and data are named by paths.
    name = re.sub(r"[^\w.-]", "_", f"{method}-{data}-{experiment.schedule}-seed{experiment.train.seed}")
    return name.encode()[-200:].decode(errors="ignore")  # file systems take 255 bytes


def _new_run_path(experiment: Experiment) -> Path:
    name = run_name(experiment)
    path, number = runs_folder() / name, 2
    while os.path.exists(path):
        path, number = runs_folder() / f"{name}-{number}", number + 1
    return path


def plan_text(values: Mapping[str, Any]) -> str:
    """The plan of a dry run in TOML."""
    return tomli_w.dumps(values).rstrip()
