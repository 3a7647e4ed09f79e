"""Metrics over several runs: read from each run where it keeps them, and measured where it does not."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyro_hvae.errors import CheckpointError, ConfigError, DataError, HVAEError, unknown_name
from pyro_hvae.evaluation import METRICS
from pyro_hvae.reports.run_report import measure
from pyro_hvae.runs.checkpoints import load_checkpoint
from pyro_hvae.runs.experiment import Experiment, read_toml
from pyro_hvae.runs.run_directory import RunDirectory, replace_nonfinite
from pyro_hvae.runs.run_loading import open_run

__all__ = ["Column", "Entry", "columns", "entry", "gather"]


@dataclass(frozen=True)
class Column:
    """One number of a metric's result: its headline, or what is found there under a key, dotted where it is nested."""

    metric: str
    key: str

    @property
    def name(self) -> str:
        """As it is asked for: NAME of a headline, else NAME.KEY."""
        return self.metric if self.key == METRICS[self.metric].headline else f"{self.metric}.{self.key}"

    def describe(self) -> dict[str, str]:
        """Metric and key, which way is better and the unit; these two are known of headlines alone."""
        entry, headline = METRICS[self.metric], self.name == self.metric
        known = {"better": entry.better, "unit": entry.unit} if headline else {"better": "", "unit": ""}
        return {"metric": self.metric, "key": self.key, **known}

    def published(self, experiment: Experiment) -> str | None:
        """The paper's value for what a run is, None where it has none."""
        published = METRICS[self.metric].published
        return published(experiment) if published and self.name == self.metric else None


def columns(names: Iterable[str]) -> list[Column]:
    """What NAME and NAME.KEY ask for, each once; raises `ConfigError` for an unknown metric.

    >>> [(column.name, column.key) for column in columns(["angle", "angle.mae_rad", "likelihood.active_units.z1"])]
    [('angle', 'mae_rad'), ('likelihood.active_units.z1', 'active_units.z1')]
    """
    found = {}
    for name in names:
        metric, _, key = name.partition(".")
        if metric not in METRICS:
            raise unknown_name("metric", metric, METRICS)
        column = Column(metric, key or METRICS[metric].headline)
        found[column.name] = column
    return list(found.values())


@dataclass
class Entry:
    """A run that takes part, and what is known of it so far.

    Attributes:
        step: None without a usable checkpoint. stopped: whether that is before its end, which a stage may have brought forward.
        results: of metrics, as `measure` gives them.
        reasons: why a metric has no result. failed: whether one is that the run could not be opened, read or written.
    """

    path: Path
    experiment: Experiment
    step: int | None
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    failed: bool = False
    stopped: bool = False

    def numbers(self, metric: str) -> dict[str, float | None]:
        """Every number of a metric's result by its dotted key; None for one that is not finite."""
        return _numbers(self.results.get(metric, {}))

    def read(self, metric: str) -> None:
        """Takes up what the run keeps, if that was measured at this step and has the number that tables show first."""
        try:
            kept = RunDirectory(self.path).read_json(f"eval/{metric}.json")
        except DataError:
            return  # damaged, so it is measured again
        if isinstance(kept, dict) and kept.get("step") == self.step and METRICS[metric].headline in _numbers(kept):
            self.results[metric] = kept


def entry(path: Path, checkpoint: str = "last") -> Entry:
    """A run as its configuration has it, which needs neither its data nor today's signatures.

    Raises:
        CheckpointError: for a directory that is no run. ConfigError: for a configuration that cannot be read.
    """
    if not (path / "config.toml").is_file():
        raise CheckpointError(f"'{path}' is not a run directory: it has no config.toml.")
    made = Entry(path, Experiment.from_dict(read_toml(path / "config.toml")), None)
    try:
        made.step = step = load_checkpoint(RunDirectory(path).require_checkpoint(checkpoint))["step"]
        made.stopped = step != made.experiment.train.steps and not _finished(path, step)
    except CheckpointError as error:
        made.reasons, made.failed = dict.fromkeys(METRICS, str(error)), True
    return made


def _finished(path: Path, step: int) -> bool:
    try:
        written = RunDirectory(path).read_json("run.json")
    except DataError:
        return False  # damaged, so nobody knows
    return written.get("status") == "finished" and written.get("step") == step


def gather(entries: Sequence[Entry], asked: Sequence[Column], checkpoint: str, device: str, tell: Callable[[str], Any]) -> None:
    """Fills in results, or reasons. A run that cannot be opened or measured does not keep the others from it.

    Raises:
        ConfigError: for a key that no result has, before the first is measured where kept ones show it, else after that.
    """
    metrics = list(dict.fromkeys(column.metric for column in asked))
    usable = [e for e in entries if e.step is not None]
    for e in usable:
        for metric in metrics:
            e.read(metric)
    _check_keys(entries, asked, whole=False)
    missing = [(e, [metric for metric in metrics if metric not in e.results]) for e in usable]
    number, total = 0, sum(len(unknown) for _, unknown in missing)
    for e, unknown in missing:
        run = None
        for metric in unknown:
            number += 1
            if e.experiment.recipe is None:
                how = f"pyro-hvae metrics {e.path} {metric} --program FILE.py:FUNCTION"
                e.reasons[metric] = f"it is of a user's own program and has to be measured first: {how}"
                continue
            tell(f"Measuring {metric} of {e.path} ({number} of {total}).")
            try:
                run = run or open_run(e.path, checkpoint, device=device)
                e.results[metric] = replace_nonfinite(measure(run, metric))
            except HVAEError as error:
                e.reasons[metric] = str(error)
                # That a metric does not apply to a run, which is a ConfigError, is no failure.
                e.failed |= run is None or not isinstance(error, ConfigError)
            _check_keys(entries, asked, whole=False)
    _check_keys(entries, asked, whole=True)


def _check_keys(entries: Sequence[Entry], asked: Sequence[Column], whole: bool) -> None:
    """Raises `ConfigError` for a key that none of a metric's results so far has.

    Arguments:
        whole: down to its end. Before all is measured its beginning is enough: a run with more layers may be among the rest.
    """
    for column in asked:
        known = {key for e in entries for key in e.numbers(column.metric)}
        there = known if whole else {key.split(".")[0] for key in known}
        if known and (column.key if whole else column.key.split(".")[0]) not in there:
            raise unknown_name(f"number in the result of {column.metric}", column.key, known)


def _numbers(result: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers of nested dicts by dotted keys.

    >>> _numbers({"mig": 0.5, "split": "test", "layers": {"z1": {"mig": 0.25}, "z2": {"mig": None}}, "exact": True})
    {'mig': 0.5, 'layers.z1.mig': 0.25, 'layers.z2.mig': None}
    """
    found: dict[str, float | None] = {}
    for key, value in result.items():
        if isinstance(value, Mapping):
            found |= {f"{key}.{inner}": number for inner, number in _numbers(value).items()}
        elif value is None or isinstance(value, int | float) and not isinstance(value, bool):
            found[key] = value
    return found
