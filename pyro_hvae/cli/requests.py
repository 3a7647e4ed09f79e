"""The library side of the commands: each function here is the one call a command body makes."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import tomli_w

from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.reports.run_report import finish
from pyro_hvae.runs.experiment import Experiment, read_toml
from pyro_hvae.runs.resolution import resolve
from pyro_hvae.runs.trackers import Progress, make_trackers
from pyro_hvae.runtime.devices import pick_device
from pyro_hvae.runtime.folders import runs_folder
from pyro_hvae.training.experiment_plan import plan
from pyro_hvae.training.experiment_training import resume_experiment, train

__all__ = ["Prepared", "compare_runs", "plan_text", "prepare", "report_text", "run_training"]


@dataclass(frozen=True)
class Prepared:
    """What `train` is about to do."""

    experiment: Experiment
    out: Path
    resume: bool

    def describe(self) -> dict[str, Any]:
        pick_device(self.experiment.train.device)
        return {"out": str(self.out), **plan(self.experiment).describe()}


def prepare(
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
) -> Prepared:
    """Resolves what was typed into an experiment and a place; raises `ConfigError` where they contradict each other."""
    if epochs is not None and "steps" in settings:
        raise ConfigError("--epochs and --steps both give the length. Use one of them.")
    if resume is not None:
        given = {
            "a recipe": recipe,
            "--dataset": dataset,
            "--schedule": schedule,
            "-o": options,
            "--config": config,
            "--out": out,
        }
        if extra := [name for name, value in given.items() if value]:
            raise ConfigError(f"--resume takes everything from the run, so {' and '.join(extra)} cannot be given with it.")
        path, experiment = resume_experiment(resume, dict(settings), program)
    else:
        if recipe is not None and program is not None:
            raise ConfigError(f"'{recipe}' and --program both name what to train. Use one of them.")
        file = read_toml(config) if config else {}
        experiment = resolve(recipe, dataset, schedule, options, settings, file, program)
        path = out or _new_path(experiment)
    if epochs is not None:
        if epochs < 1:
            raise ConfigError(f"--epochs must be at least 1, got {epochs}.")
        made = plan(experiment)
        steps = epochs * max(1, len(made.dataset.train.x) // experiment.train.batch_size)
        shares = [stage.share for stage in made.stages]
        experiment = experiment.replace_train(steps=max(len(shares), round(steps * sum(shares) / shares[-1])))
    return Prepared(experiment, path, resume is not None)


def _new_path(experiment: Experiment) -> Path:
    data = re.sub(r"[^\w.-]", "_", Path(experiment.dataset).name)  # one's own data are named by a path
    name = f"{experiment.recipe or 'program'}-{data}-{experiment.schedule}-seed{experiment.train.seed}"
    path, number = runs_folder() / name, 2
    while path.exists():
        path, number = runs_folder() / f"{name}-{number}", number + 1
    return path


def run_training(made: Prepared, track: tuple[str, ...] = ()) -> dict[str, Any]:
    """Trains, draws and measures; returns what to tell."""
    trackers = [Progress(), *make_trackers(track, made.out)]

    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    return finish(train(made.experiment, made.out, made.resume, trackers, tell))


def compare_runs(
    runs: Sequence[str],
    metrics: Sequence[str],
    csv: Path | None,
    picture: Path | None,
    checkpoint: str,
    device: str,
    tell: Callable[[str], Any],
) -> tuple[dict[str, Any], str]:
    """`comparison.compare` with its table and picture written where asked for, and its text.

    Raises:
        ConfigError, DataError: as `compare`; for files that cannot be written, before anything is measured.
    """
    # Here, since matplotlib takes a while and only this command draws without training.
    from pyro_hvae.plots.comparison_figures import comparison_figure
    from pyro_hvae.plots.figures import check_picture, save
    from pyro_hvae.reports.comparison_table import compare, compare_text, write_csv

    if picture:
        check_picture(picture)
    for path in filter(None, (csv, picture)):
        _require_place(path)
    values = compare(runs, metrics, checkpoint, device, tell)
    text = compare_text(values)
    if csv:
        values["csv"] = str(write_csv(values, csv))
        text += f"\n\nTable: {csv}"
    if picture:
        values["picture"] = str(save(comparison_figure(values), picture))
        text += f"\n\nPicture: {picture}"
    return values, text


def _require_place(path: Path) -> None:
    """Raises `DataError` for a file that cannot be written, before hours go into what it is to hold."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise DataError(f"cannot write '{path}': it is no file. Choose another place.")
        with open(path, "ab") if path.exists() else TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise DataError(f"cannot write '{path}': {error.strerror}. Choose another place.") from error


def plan_text(values: Mapping[str, Any]) -> str:
    return tomli_w.dumps(values).rstrip()


def report_text(report: Mapping[str, Any]) -> str:
    """The last lines of `train`."""
    lines = [f"Run: {report['run']} (step {report['step']})"]
    lines += [f"Picture: {path}" for path in report["figures"]]
    if "elbo" in report:
        value, kind = (report["validation_elbo"], "validation") if "validation_elbo" in report else (report["elbo"], "batch")
        of = f" of features ({report['space']})" if "space" in report else ""
        lines.append(f"Bound: {value:.3f} nats per datum{of} ({kind}), beta {report['beta']:.3g}")
    if features := report.get("features"):
        lines.append(
            f"Features: variance over patches {features['ratio']:.2g} of what it was before they were trained, rate of their "
            f"code {features['rate']:.3g} nats per datum"
        )
        if features["degenerate"]:
            lines.append(
                "  The run is degenerate: its features are constant, and so predicted without error by a code that says "
                "nothing. Train them first and hold them fixed (-o joint=none), or add the pixels' error (-o joint=pixels)."
            )
    if angle := report.get("angle"):
        paper = f" (paper: {angle['paper']} rad)" if angle["paper"] else ""
        lines.append(f"Angle error: {angle['mae_rad']:.4f} rad on held-out images{paper}")
    return "\n".join(lines)
