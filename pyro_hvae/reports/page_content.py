"""What a page says of runs: what was asked for, how they ended, their results, pictures, configuration and versions."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
from PIL import Image

from pyro_hvae.data import AbsentRows, list_splits
from pyro_hvae.errors import DataError
from pyro_hvae.inference import likelihood_name
from pyro_hvae.recipes import RECIPES
from pyro_hvae.reports.evaluation_rows import EvaluationRow, flatten, list_evaluations, read_evaluations
from pyro_hvae.reports.picture_sheets import data_address
from pyro_hvae.reports.text_table import format_number, format_option
from pyro_hvae.runs import EXPORT_CONFIG, OpenRun, draw_given, is_export, package_versions
from pyro_hvae.runtime import fixed_seed

PICTURE_BYTES = 2_500_000  # of all pictures of a page; larger ones are made smaller
WIDEST = 1600  # pixels of these
ORDER = ("latent_space", "interpolation", "reconstructions", "samples", "traversals", "layers", "training")


@dataclass(frozen=True)
class RunContent:
    """What a page says of a run, in texts.

    Attributes:
        name: unique on the page. asked: what was asked for; outcome: what came of it; both by name.
        evaluations: rows of a table. results: metric -> all its values by dotted keys.
        pictures: name of its file -> data address. configuration: of the run, as TOML.
        settings: the same by dotted keys. versions: by package. notes: what could not be read, and why.
    """

    name: str
    asked: Mapping[str, str]
    outcome: Mapping[str, str]
    evaluations: Sequence[EvaluationRow]
    results: Mapping[str, Mapping[str, str]]
    pictures: Mapping[str, str]
    configuration: str
    settings: Mapping[str, str]
    versions: Mapping[str, str]
    notes: Sequence[str]


def describe_runs(runs: Sequence[OpenRun]) -> list[RunContent]:
    """The content of each run, under a name that no other run has."""
    names = name_runs(runs)
    files = [sorted((run.directory.results / "figures").glob("*.png"), key=_order) for run in runs]
    size = sum(file.stat().st_size for several in files for file in several)
    share = min(1.0, PICTURE_BYTES / size) if size else 1.0
    return [_describe_run(run, name, several, share) for run, name, several in zip(runs, names, files, strict=True)]


def name_runs(runs: Sequence[OpenRun]) -> list[str]:
    """The name of each run's folder, or its path where two have the same."""
    names = [run.directory.path.resolve().name for run in runs]
    return [name if names.count(name) == 1 else str(run.directory.path) for run, name in zip(runs, names, strict=True)]


def _describe_run(run: OpenRun, name: str, files: Sequence[Path], share: float) -> RunContent:
    experiment, notes, evaluations, record = run.experiment, list[str](), dict[str, Any](), dict[str, Any]()
    try:
        evaluations = read_evaluations(run.directory)
        record = run.directory.read_json(EXPORT_CONFIG if is_export(run.directory.path) else "run.json")
    except DataError as error:
        notes.append(str(error))
    pictures = dict[str, str]()
    for file in files:
        try:
            pictures[file.stem] = embed_picture(file, share)
        except OSError as error:
            notes.append(f"The picture '{file}' cannot be read: {error}.")
    if older := [metric for metric, values in evaluations.items() if values.get("step", run.step) != run.step]:
        notes.append(f"Measured at another step than {run.step:,}: {', '.join(older)}.")
    settings = experiment.to_dict()
    return RunContent(
        name,
        _list_asked(run, record),
        _list_outcome(run, record),
        list_evaluations(evaluations),
        {metric: dict(flatten(values)) for metric, values in evaluations.items()},
        pictures,
        tomli_w.dumps(settings),
        dict(flatten(settings)),
        record.get("versions") or package_versions(),
        notes,
    )


def describe_data(run: OpenRun) -> str:
    """The name and the options of a run's data."""
    options = (f"{key}={format_option(value)}" for key, value in run.experiment.data_options.items())
    return ", ".join([run.experiment.dataset, *options])


def _list_asked(run: OpenRun, record: Mapping[str, Any]) -> dict[str, str]:
    e, data, train = run.experiment, run.dataset, run.experiment.train
    recipe = RECIPES[e.recipe] if e.recipe else None
    parts = "" if isinstance(data.train.x, AbsentRows) else ", ".join(f"{len(s):,} {p}" for p, s in list_splits(data).items())
    asked = {
        "command": " ".join(map(str, record.get("command", ()))).replace("__main__.py", "pyro-hvae", 1),
        "recipe": f"{e.recipe}: {recipe.summary} ({recipe.paper})" if recipe else f"a program of its author's own, {e.method}",
        "data": f"{describe_data(run)}, x of shape {tuple(data.shape)}" + (f": {parts} data" if parts else ""),
        "about the data": data.note,
        "given": ", ".join(condition.name for condition in run.conditions),
        "schedule": e.schedule,
        "training": f"{train.steps:,} steps, batches of {train.batch_size}, learning rate {train.lr:g}, seed {train.seed}",
    }
    return {key: text for key, text in asked.items() if text}


def _list_outcome(run: OpenRun, record: Mapping[str, Any]) -> dict[str, str]:
    final = next(iter(run.directory.rows()[-1:]), {})
    with fixed_seed(0):
        try:
            likelihood = likelihood_name(run.model, draw_given(run, 1))
        except DataError:  # an export has no conditions to draw
            likelihood = ""
    outcome = {
        "state": record.get("stopped_early") or record.get("status", ""),
        "step": f"{run.step:,}",
        "model": run.describe(),
        "weights": f"{sum(p.numel() for p in run.objective.parameters()):,}",
        "p(x | z)": likelihood,
        "densities are of": run.space if run.space != "data" else "",
        "bound on validation data": _nats(final.get("validation_elbo")),
        "bound of the last batch": _nats(final.get("elbo")),
    }
    return {key: text for key, text in outcome.items() if text}


def _nats(value: float | None) -> str:
    return "" if value is None else f"{format_number(value)} nats per datum"


def _order(file: Path) -> tuple[int, str]:
    return (ORDER.index(file.stem) if file.stem in ORDER else len(ORDER), file.stem)


def embed_picture(file: Path, share: float = 1.0) -> str:
    """A picture as a data address; one of more than 100 kB is made smaller where it may keep a share of its bytes only.

    Raises:
        OSError: for a file that cannot be read.
    """
    content = file.read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        if share == 1.0 or len(content) < 100_000:
            return data_address(content, "png")
        smaller = io.BytesIO()
        image = image.convert("RGB")
        image.thumbnail((WIDEST, 2 * WIDEST))
        image.save(smaller, "JPEG", quality=75)
    return data_address(smaller.getvalue(), "jpeg")


def find_differences(contents: Sequence[RunContent]) -> dict[str, list[str]]:
    """The settings in which runs differ: key -> the value of each, "-" where it has none."""
    keys = dict.fromkeys(key for content in contents for key in content.settings)
    values = {key: [content.settings.get(key, "-") for content in contents] for key in keys}
    return {key: texts for key, texts in values.items() if len(set(texts)) > 1}
