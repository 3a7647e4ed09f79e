"""The comparison of several runs: a row for each run, and for each metric a row for each method over its seeds.

Runs are labelled by data and method, with the settings in which runs of the same name differ.
"""

import math
import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from pyro_hvae.data import is_path
from pyro_hvae.errors import ConfigError, HVAEError
from pyro_hvae.inference import FEW_EFFECTIVE
from pyro_hvae.reports.comparison_protocols import describe_protocols
from pyro_hvae.reports.comparison_values import (
    COSTLY,
    Column,
    ComparedRun,
    collect_results,
    open_compared_run,
    parse_columns,
)
from pyro_hvae.reports.text_table import format_option
from pyro_hvae.runs import RESUMABLE, Experiment, TrainConfig, find_run
from pyro_hvae.runtime import pick_device

# The training settings that change what is learned: all but those that are known not to.
DECISIVE = tuple(f.name for f in fields(TrainConfig) if f.name not in RESUMABLE - {"steps", "patience"} | {"seed"})
# What a method has no need to say where it is the default.
UNSAID = {name: getattr(TrainConfig, name) for name in ("free_bits", "balance", "precision", "optimizer", "patience")}


def compare(
    names: Sequence[str],
    metrics: Sequence[str] = (),
    checkpoint: str = "last",
    device: str = "cpu",
    tell: Callable[[str], Any] = lambda text: None,
    particles: int | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """Compares metrics over several runs: a row for each run, and for each metric a row for each data set and method.

    Values that a run stores for the same step are read, whatever options they were measured with; the others are measured now,
    with default options. A likelihood takes minutes, so a missing one is measured only with `particles` or `limit`. Values of
    different protocols (particles, limit, part of the data) are never averaged. Runs belong to one method only if they differ
    in nothing but the seed and settings without effect.

    Arguments:
        metrics: NAME for a metric's headline, NAME.KEY for any number in its result; default `angle` where all runs are on
            the pendulum, else `likelihood`.
        tell: called with a line about each measurement, missing value and warning.
        particles, limit: of likelihoods that are measured now; None takes the metric's default.

    Returns:
        "metrics": column -> metric, key, better, unit; "runs": with `values` and, for missing values, `reasons` by column;
        "methods": for each metric, method and protocol the seeds, mean, standard deviation (from two seeds on), median, range,
        the best of the seeds and the paper's value; "warnings": why values cannot be compared; "failed": the runs
        that could not be opened, read or written; those without a readable configuration, and those with weights that are no
        numbers, have no row.

    Raises:
        ConfigError: for an unknown metric, a key that no run's result has, and particles or limit without a likelihood.
        DataError, CheckpointError: where none is a run. DivergenceError: where the weights of all are no numbers.
    """
    columns = parse_columns(metrics)
    pick_device(device)
    paths = {path.resolve(): path for path in map(find_run, names)}
    compared, broken = _open_runs(list(paths.values()), checkpoint)
    if not metrics:
        columns = parse_columns(["angle" if all(run.experiment.dataset == "pendulum" for run in compared) else "likelihood"])
    options = {key: value for key, value in (("particles", particles), ("limit", limit)) if value is not None}
    if options and not any(column.metric in COSTLY for column in columns):
        raise ConfigError(
            f"no metric that is compared takes {' and '.join(options)}, only {', '.join(COSTLY)} does. Leave it out."
        )
    collect_results(compared, columns, checkpoint, device, tell, options)
    broken |= {run.path: run.diverged for run in compared if run.diverged}
    for path, error in broken.items():
        tell(f"{path} is left out: {error}")
    compared = [run for run in compared if not run.diverged]
    if not compared:
        raise list(broken.values())[-1]
    rows = _run_rows(compared, columns, checkpoint)
    warnings = _warnings(compared, rows, dict.fromkeys(column.metric for column in columns))
    for row in rows:
        for reason, missing in _keys_by_value(row["reasons"]).items():
            tell(f"{row['run']} has no {' and no '.join(missing)}: {reason}")
    for warning in warnings:
        tell(f"Careful: {warning}")
    return {
        "metrics": {column.name: column.describe() for column in columns},
        "runs": rows,
        "methods": _method_rows(compared, rows, columns),
        "warnings": warnings,
        "failed": [*map(str, broken), *(row["run"] for run, row in zip(compared, rows, strict=True) if run.failed)],
    }


def _open_runs(paths: Sequence[Path], checkpoint: str) -> tuple[list[ComparedRun], dict[Path, HVAEError]]:
    """The runs that can be opened, and why the others cannot; raises that where it is all of them."""
    compared, broken = list[ComparedRun](), dict[Path, HVAEError]()
    for path in paths:
        try:
            compared.append(open_compared_run(path, checkpoint))
        except HVAEError as error:
            broken[path] = error
    if not compared:
        raise next(iter(broken.values()))
    return compared, broken


def _run_rows(runs: Sequence[ComparedRun], columns: Sequence[Column], checkpoint: str) -> list[dict[str, Any]]:
    experiments = [run.experiment for run in runs]
    data = _data_labels(experiments)
    # The best checkpoint has another step in each run.
    steps = [run.step if checkpoint == "last" and run.stopped else None for run in runs]
    methods = _method_labels(experiments, data, steps)
    names = [run.path.resolve().name for run in runs]
    metrics = list(dict.fromkeys(column.metric for column in columns))
    by_metric = [describe_protocols(runs, metric, data) for metric in metrics]
    protocols = [dict(zip(metrics, texts, strict=True)) for texts in zip(*by_metric, strict=True)]
    rows = []
    for run, name, where, method, protocol in zip(runs, names, data, methods, protocols, strict=True):
        values = {column.name: run.numbers(column.metric).get(column.key) for column in columns}
        rows.append(
            {
                "run": name if names.count(name) == 1 else str(run.path),
                "path": str(run.path),
                "data": where,
                "method": method,
                "seed": run.experiment.train.seed,
                "step": run.step,
                "protocol": protocol,
                "values": values,
                "reasons": {column.name: _missing_reason(run, column) for column in columns if values[column.name] is None},
            }
        )
    return rows


def _data_labels(experiments: Sequence[Experiment]) -> list[str]:
    """Names of the data sets, with the options that differ between runs on the same set. A path is named by its last part."""
    names = [Path(e.dataset).name if is_path(e.dataset) else e.dataset for e in experiments]
    settings = [e.to_dict()["data_options"] | {"path": e.dataset, "identity": e.data_identity} for e in experiments]
    return _add_differences(names, settings, names)


def _method_labels(experiments: Sequence[Experiment], data: Sequence[str], steps: Sequence[int | None]) -> list[str]:
    """Recipe and schedule, with the options and settings that differ between runs of the same on the same data.

    Differences between runs on different data sets are left out: presets differ there on purpose.

    Arguments:
        steps: the last step of a run that stopped early, which makes it another method; None where it says nothing.
    """
    names = [_method_name(e) for e in experiments]
    settings = []
    for e, step in zip(experiments, steps, strict=True):
        tables, train = e.to_dict(), {key: getattr(e.train, key) for key in DECISIVE}
        train |= {key: None for key, usual in UNSAID.items() if train[key] == usual}
        other = {
            "condition": tables["condition"] or None,
            "size_factor": e.size_factor,
            "program": e.program,
            "stopped_at": step,
        }
        settings.append(tables["recipe_options"] | tables["schedule_options"] | train | other)
    return _add_differences(names, settings, list(zip(data, names, strict=True)))


def _method_name(e: Experiment) -> str:
    """Recipe and schedule, with the length of a warm-up or the weight beta."""
    name = f"{e.method} + {e.schedule}"
    if e.schedule == "warmup" and (length := e.schedule_options.get("warmup")) is not None:
        name += f" ({length:.0%} of the run)" if length < 1 else f" ({length:.0f} steps)"
    if e.schedule == "constant" and (beta := e.schedule_options.get("beta")) is not None:
        name += f" (beta = {beta:g})"
    return name


def _add_differences(names: Sequence[str], settings: Sequence[Mapping[str, Any]], keys: Sequence[Hashable]) -> list[str]:
    """Adds to each name the settings that differ between the names of the same key. None means not set.

    >>> _add_differences(["a", "a", "b"], [{"n": 1, "m": [2, 3]}, {"n": 2, "m": [2, 3]}, {"n": 3}], ["a", "a", "b"])
    ['a, n=1', 'a, n=2', 'b']
    """
    labels = []
    for name, mine, key in zip(names, settings, keys, strict=True):
        equals = [other for other, at in zip(settings, keys, strict=True) if at == key]
        differing = {k: v for k, v in mine.items() if v is not None and any(other.get(k) != v for other in equals)}
        labels.append(", ".join([name, *(f"{k}={format_option(v)}" for k, v in differing.items())]))
    return labels


def _missing_reason(run: ComparedRun, column: Column) -> str:
    if column.metric not in run.results:
        return run.reasons[column.metric]
    if column.key not in run.numbers(column.metric):
        return f"its result of {column.metric} has no {column.key}."
    return "it is not a finite number."


def _method_rows(
    runs: Sequence[ComparedRun], rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]
) -> list[dict[str, Any]]:
    methods = []
    for column in columns:
        best = {"higher": max, "lower": min}.get(column.describe()["better"])
        keys = [(row["data"], row["method"], row["protocol"][column.metric]) for row in rows]
        for data, method, protocol in dict.fromkeys(keys):
            mine = [i for i, key in enumerate(keys) if key == (data, method, protocol)]
            values = [value for i in mine if (value := rows[i]["values"][column.name]) is not None]
            if values:
                methods.append(
                    {
                        "metric": column.name,
                        "data": data,
                        "method": method,
                        "protocol": protocol,
                        "seeds": len(values),
                        "mean": statistics.fmean(values),
                        "std": statistics.stdev(values) if len(values) > 1 else None,
                        "median": statistics.median(values),
                        "min": min(values),
                        "max": max(values),
                        "best": best(values) if best else None,
                        "paper": column.published(runs[mine[0]].experiment),
                    }
                )
    return methods


def _warnings(runs: Sequence[ComparedRun], rows: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any]) -> list[str]:
    """Reasons why values in one column cannot be compared or averaged."""
    warnings = []
    if len(data := dict.fromkeys(row["data"] for row in rows)) > 1:
        warnings.append(f"the runs are on different data ({'; '.join(data)}), whose values cannot be compared.")
    pairs = list(zip(runs, rows, strict=True))
    for metric in metrics:
        for where in data:
            texts = {
                row["run"]: row["protocol"][metric] for run, row in pairs if row["data"] == where and metric in run.results
            }
            if any(texts.values()):
                how = "; ".join(f"{text} for {_shorten(mine)}" for text, mine in _keys_by_value(texts).items())
                why = _explain_given([run.results[metric] for run, row in pairs if row["run"] in texts])
                warnings.append(f"{metric} was measured with different options on {where}: {how}.{why}")
    low = [row["run"] for run, row in zip(runs, rows, strict=True) if _is_too_low(run.results.get("likelihood", {}))]
    if low:
        warnings.append(
            f"the likelihoods of {_shorten(low)} are probably too low: half of the samples give "
            f"less, or the median effective sample size is below {FEW_EFFECTIVE}. Take more (evaluate --particles)."
        )
    for (_, method, seed), mine in _keys_by_value({r["run"]: (r["data"], r["method"], r["seed"]) for r in rows}).items():
        if len(mine) > 1:
            warnings.append(f"{_shorten(mine)} are {method} with the same seed {seed}, counted {len(mine)} times.")
    return warnings


def _explain_given(results: Sequence[Mapping[str, Any]]) -> str:
    """Why likelihoods under different given inputs are no competitors; "" for other results."""
    inputs = dict.fromkeys(", ".join(result.get("given", [])) for result in results if "log_likelihood" in result)
    if len(inputs) < 2:
        return ""
    densities = [f"log p(x | {names})" for names in inputs if names]
    why = "predict x from different inputs"
    if "" in inputs:
        why = f"{'has' if len(densities) == 1 else 'have'} less to predict than log p(x)"
    return f" {' and '.join(densities)} {why}: such values are no competitors."


def _is_too_low(likelihood: Mapping[str, Any]) -> bool:
    """Whether an importance-sampled likelihood is biased by more than its sampling error, or carried by few samples."""
    bias, error = (likelihood.get(key) or 0.0 for key in ("importance_bias", "stderr"))  # null where it is unknown
    return bias > error > 0 or (likelihood.get("effective_samples") or {}).get("median", math.inf) < FEW_EFFECTIVE


def _shorten(names: Sequence[str]) -> str:
    """The first four names, and the number of the others."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _keys_by_value(values: Mapping[str, Any]) -> dict[Any, list[str]]:
    """Inverts a mapping: value -> its keys."""
    keys: dict[Hashable, list[str]] = {}
    for key, value in values.items():
        keys.setdefault(value, []).append(key)
    return keys
