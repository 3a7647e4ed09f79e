"""Metric values of several runs: read from the results that a run stores, else measured."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyro_hvae.errors import CheckpointError, ConfigError, DataError, DivergenceError, HVAEError, require_known, unknown_name
from pyro_hvae.evaluation import METRICS
from pyro_hvae.reports.run_measurement import measure_metric
from pyro_hvae.runs import (
    Experiment,
    RunDirectory,
    has_known_data,
    open_run,
    parameters,
    read_checkpoint,
    read_config,
    replace_nonfinite,
    require_same_settings,
)

COSTLY = ("likelihood",)  # metrics that take minutes, so that they are measured on request only


@dataclass(frozen=True)
class Column:
    """One number of a metric's result: its headline, or the value of a key, dotted where it is nested."""

    metric: str
    key: str

    @property
    def name(self) -> str:
        """NAME for the headline of a metric, else NAME.KEY."""
        return self.metric if self.key == METRICS[self.metric].headline else f"{self.metric}.{self.key}"

    def describe(self) -> dict[str, str]:
        """Metric, key, better direction and unit. The last two are known of headlines only."""
        entry, headline = METRICS[self.metric], self.name == self.metric
        known = {"better": entry.better, "unit": entry.unit} if headline else {"better": "", "unit": ""}
        return {"metric": self.metric, "key": self.key, **known}

    def published(self, experiment: Experiment) -> str | None:
        """The paper's value for the recipe, schedule and data of a run, or None."""
        published = METRICS[self.metric].published
        return published(experiment) if published and self.name == self.metric else None


def parse_columns(names: Iterable[str]) -> list[Column]:
    """The columns for NAME and NAME.KEY, each once; raises `ConfigError` for an unknown metric.

    >>> [(column.name, column.key) for column in parse_columns(["angle", "angle.mae_rad", "likelihood.active_units.z1"])]
    [('angle', 'mae_rad'), ('likelihood.active_units.z1', 'active_units.z1')]
    """
    columns = {}
    for name in names:
        metric, _, key = name.partition(".")
        require_known("metric", metric, METRICS)
        column = Column(metric, key or METRICS[metric].headline)
        columns[column.name] = column
    return list(columns.values())


@dataclass
class ComparedRun:
    """A run in a comparison, with its results so far.

    Attributes:
        step: None without a usable checkpoint. stopped: whether training stopped before its end, which an early end of a stage
            does not count as.
        results: metric -> result of `measure_metric`.
        reasons: metric -> why it has no result. failed: whether the run could not be opened, read or written.
        diverged: the error for weights that are no numbers, if something was to be measured with them.
    """

    path: Path
    experiment: Experiment
    step: int | None
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    failed: bool = False
    stopped: bool = False
    diverged: DivergenceError | None = None

    def numbers(self, metric: str) -> dict[str, float | None]:
        """Every number of a metric's result by its dotted key; None for one that is not finite."""
        return _numbers(self.results.get(metric, {}))

    def read_stored(self, metric: str) -> None:
        """Reads the result that the run stores, if it was measured at this step and has the metric's headline."""
        try:
            stored = RunDirectory(self.path).read_json(f"eval/{metric}.json")
        except DataError:
            return  # a damaged file: the metric is measured again
        if isinstance(stored, dict) and stored.get("step") == self.step and METRICS[metric].headline in _numbers(stored):
            self.results[metric] = stored


def open_compared_run(path: Path, checkpoint: str = "last") -> ComparedRun:
    """Reads configuration and step of a run. This needs neither its data, nor that its recipe still has the same options.

    Raises:
        CheckpointError: for a directory that is no run, or a configuration that cannot be read.
    """
    run = ComparedRun(path, read_config(path), None)
    try:
        saved = read_checkpoint(RunDirectory(path).require_checkpoint(checkpoint))
        require_same_settings(saved, run.experiment, path)
        run.step = step = saved["step"]
        run.stopped = step != run.experiment.train.steps and not _has_finished(path, step)
    except CheckpointError as error:
        run.reasons, run.failed = dict.fromkeys(METRICS, str(error)), True
    return run


def _has_finished(path: Path, step: int) -> bool:
    try:
        state = RunDirectory(path).read_json("run.json")
    except DataError:
        return False  # a damaged file says nothing
    return state.get("status") == "finished" and state.get("step") == step


def collect_results(
    runs: Sequence[ComparedRun],
    columns: Sequence[Column],
    checkpoint: str,
    device: str,
    tell: Callable[[str], Any],
    options: Mapping[str, int],
) -> None:
    """Fills in results, or the reasons for missing ones. A run that cannot be opened or measured does not stop the others.

    Arguments:
        options: of the metrics in `COSTLY`, which are not measured without any.

    Raises:
        ConfigError: for a key that no result has; before anything is measured if stored results show it.
    """
    metrics = list(dict.fromkeys(column.metric for column in columns))
    usable = [run for run in runs if run.step is not None]
    for run in usable:
        for metric in metrics:
            run.read_stored(metric)
    _check_keys(runs, columns, whole=False)
    missing = [(run, [metric for metric in metrics if metric not in run.results]) for run in usable]
    number, total = 0, sum(len(names) for _, names in missing)
    for run, names in missing:
        opened = None
        for metric in names:
            number += 1
            if run.experiment.recipe is None:
                data = "" if has_known_data(run.experiment) else " --dataset NAME|PATH"
                how = f"pyro-hvae metrics {run.path} {metric} --program FILE.py:FUNCTION{data}"
                run.reasons[metric] = f"it is of a user's own program and has to be measured first: {how}"
                continue
            if metric in COSTLY and not options:
                run.reasons[metric] = _describe_cost(run.path, metric)
                run.failed = True
                continue
            tell(f"Measuring {metric} of {run.path} ({number} of {total}).")
            try:
                opened = opened or open_run(run.path, checkpoint, device=device)
                run.results[metric] = replace_nonfinite(
                    measure_metric(opened, metric, None, **(options if metric in COSTLY else {}))
                )
            except DivergenceError as error:
                run.diverged = error
                break
            except HVAEError as error:
                run.reasons[metric] = str(error)
                # Once a run is open, a ConfigError says that the metric does not apply to it, which is no failure.
                run.failed |= opened is None or not isinstance(error, ConfigError)
            _check_keys(runs, columns, whole=False)
    _check_keys(runs, columns, whole=True)


def _describe_cost(path: Path, metric: str) -> str:
    """What would be measured and how, as the reason why it was not."""
    samples = parameters(METRICS[metric].measure)["particles"].default
    return (
        f"it was not measured yet, and takes minutes: {samples:,} samples for every test datum. Add --particles {samples} to "
        f"measure it now, or fewer, --limit N for N of the test data, or measure it by itself: pyro-hvae evaluate {path}"
    )


def _check_keys(runs: Sequence[ComparedRun], columns: Sequence[Column], whole: bool) -> None:
    """Raises `ConfigError` for a key that none of a metric's results so far has.

    Arguments:
        whole: compare whole keys. Before all runs are measured only the first part is compared: a run that is yet to be
            measured may have more layers.
    """
    for column in columns:
        known = {key for run in runs for key in run.numbers(column.metric)}
        compared = known if whole else {key.split(".")[0] for key in known}
        if known and (column.key if whole else column.key.split(".")[0]) not in compared:
            raise unknown_name(f"number in the result of {column.metric}", column.key, known)


def _numbers(result: Mapping[str, Any]) -> dict[str, float | None]:
    """Flattens nested dicts to numbers by dotted keys.

    >>> _numbers({"mig": 0.5, "split": "test", "layers": {"z1": {"mig": 0.25}, "z2": {"mig": None}}, "exact": True})
    {'mig': 0.5, 'layers.z1.mig': 0.25, 'layers.z2.mig': None}
    """
    numbers: dict[str, float | None] = {}
    for key, value in result.items():
        if isinstance(value, Mapping):
            numbers |= {f"{key}.{inner}": number for inner, number in _numbers(value).items()}
        elif value is None or isinstance(value, int | float) and not isinstance(value, bool):
            numbers[key] = value
    return numbers
