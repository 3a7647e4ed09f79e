"""Metrics of several runs side by side: a row per run, and for each metric a row per method over its seeds."""

import csv
import io
import json
import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyro_hvae.reports.comparison_labels import data_labels, method_labels
from pyro_hvae.reports.comparison_values import Column, Entry, columns, entry, gather
from pyro_hvae.reports.run_report import table
from pyro_hvae.runs.run_directory import find_run
from pyro_hvae.runtime.atomic_files import atomic_write
from pyro_hvae.runtime.devices import pick_device

__all__ = ["compare", "compare_text", "write_csv"]


def compare(
    names: Sequence[str],
    metrics: Sequence[str] = (),
    checkpoint: str = "last",
    device: str = "cpu",
    tell: Callable[[str], Any] = lambda text: None,
) -> dict[str, Any]:
    """Metrics over several runs: a row per run, and for each metric a row per data set and method over its seeds.

    Values that a run keeps of the same step are read from it, whatever the options they were measured with; the others are
    measured now, with default options. Runs are one method only if nothing that could matter differs but the seed.

    Arguments:
        metrics: NAME for a metric's headline, NAME.KEY for any number in its result; default `angle` where all runs are on
            the pendulum, else `likelihood`.
        tell: called with a line about what is measured, what has no value and what cannot be compared.

    Returns:
        "metrics": column -> metric, key, better, unit; "runs": with `values` and, where there is none, `reasons` by column;
        "methods": for each metric and group the seeds, mean, standard deviation (from two seeds on), median, range, the best
        of the seeds and the paper's value; "warnings": why values cannot be compared; "failed": the runs that could not be
        opened, read or written.

    Raises:
        ConfigError: for an unknown metric, or a key that no run's result has. DataError, CheckpointError: for what is no run.
    """
    asked = columns(metrics)
    pick_device(device)
    entries = [entry(path, checkpoint) for path in {path.resolve(): path for path in map(find_run, names)}.values()]
    if not metrics:
        asked = columns(["angle" if all(e.experiment.dataset == "pendulum" for e in entries) else "likelihood"])
    gather(entries, asked, checkpoint, device, tell)
    runs = _rows(entries, asked, checkpoint)
    warnings = _warnings(entries, runs, dict.fromkeys(column.metric for column in asked))
    for row in runs:
        for reason, missing in _by_value(row["reasons"]).items():
            tell(f"{row['run']} has no {' and no '.join(missing)}: {reason}")
    for warning in warnings:
        tell(f"Careful: {warning}")
    return {
        "metrics": {column.name: column.describe() for column in asked},
        "runs": runs,
        "methods": _methods(entries, runs, asked),
        "warnings": warnings,
        "failed": [row["run"] for e, row in zip(entries, runs, strict=True) if e.failed],
    }


def _rows(entries: Sequence[Entry], asked: Sequence[Column], checkpoint: str) -> list[dict[str, Any]]:
    experiments = [e.experiment for e in entries]
    data = data_labels(experiments)
    # The best checkpoint is of another step in each run.
    methods = method_labels(experiments, data, [e.step if checkpoint == "last" and e.stopped else None for e in entries])
    names = [e.path.resolve().name for e in entries]
    rows = []
    for e, name, where, method in zip(entries, names, data, methods, strict=True):
        values = {column.name: e.numbers(column.metric).get(column.key) for column in asked}
        rows.append(
            {
                "run": name if names.count(name) == 1 else str(e.path),
                "path": str(e.path),
                "data": where,
                "method": method,
                "seed": e.experiment.train.seed,
                "step": e.step,
                "values": values,
                "reasons": {column.name: _reason(e, column) for column in asked if values[column.name] is None},
            }
        )
    return rows


def _reason(e: Entry, column: Column) -> str:
    if column.metric not in e.results:
        return e.reasons[column.metric]
    if column.key not in e.numbers(column.metric):
        return f"its result of {column.metric} has no {column.key}."
    return "it is not a finite number."


def _methods(entries: Sequence[Entry], runs: Sequence[Mapping[str, Any]], asked: Sequence[Column]) -> list[dict[str, Any]]:
    methods = []
    for column in asked:
        best = {"higher": max, "lower": min}.get(column.describe()["better"])
        for data, method in dict.fromkeys((row["data"], row["method"]) for row in runs):
            mine = [i for i, row in enumerate(runs) if (row["data"], row["method"]) == (data, method)]
            values = [value for i in mine if (value := runs[i]["values"][column.name]) is not None]
            if values:
                methods.append(
                    {
                        "metric": column.name,
                        "data": data,
                        "method": method,
                        "seeds": len(values),
                        "mean": statistics.fmean(values),
                        "std": statistics.stdev(values) if len(values) > 1 else None,
                        "median": statistics.median(values),
                        "min": min(values),
                        "max": max(values),
                        "best": best(values) if best else None,
                        "paper": column.published(entries[mine[0]].experiment),
                    }
                )
    return methods


def _warnings(entries: Sequence[Entry], runs: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any]) -> list[str]:
    """Why values cannot be compared, or averaged, although they stand in one column."""
    warnings = []
    if len(data := dict.fromkeys(row["data"] for row in runs)) > 1:
        warnings.append(f"the runs are on different data ({'; '.join(data)}), whose values cannot be compared.")
    for metric in metrics:
        for where in data:
            options = {
                row["run"]: _protocol(e.results[metric])
                for e, row in zip(entries, runs, strict=True)
                if row["data"] == where and metric in e.results
            }
            keys = dict.fromkeys(key for mine in options.values() for key in mine)
            differing = [key for key in keys if len({json.dumps(mine.get(key)) for mine in options.values()}) > 1]
            texts = {run: ", ".join(f"{key}={mine.get(key)}" for key in differing) for run, mine in options.items()}
            if differing:
                how = "; ".join(f"{text} for {_some(mine)}" for text, mine in _by_value(texts).items())
                warnings.append(f"{metric} was measured with different options on {where}: {how}.")
    for (_, method, seed), mine in _by_value({r["run"]: (r["data"], r["method"], r["seed"]) for r in runs}).items():
        if len(mine) > 1:
            warnings.append(f"{_some(mine)} are {method} with the same seed {seed}, counted {len(mine)} times.")
    return warnings


def _protocol(result: Mapping[str, Any]) -> dict[str, Any]:
    """The options, and which kind of likelihood it is, of what: densities and probabilities cannot be compared either."""
    kind = {"likelihood": result["likelihood"].split(",")[0]} if "likelihood" in result else {}
    kind |= {"space": result["space"]} if result.get("space", "data") != "data" else {}
    return result.get("options", {}) | kind


def _some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _by_value(values: Mapping[str, Any]) -> dict[Any, list[str]]:
    """Value -> the keys that have it."""
    found: dict[Hashable, list[str]] = {}
    for key, value in values.items():
        found.setdefault(value, []).append(key)
    return found


def compare_text(values: Mapping[str, Any]) -> str:
    """The runs, then for each metric the methods, of `compare`."""
    fixed = ("run", "data", "method", "seed")
    blocks = [table({**{key: row[key] for key in fixed}, **row["values"]} for row in values["runs"])]
    for name, about in values["metrics"].items():
        rows = [{k: v for k, v in row.items() if k != "metric"} for row in values["methods"] if row["metric"] == name]
        better = f"{about['better']} is better" if about["better"] else ""
        title = f"{name} ({', '.join(filter(None, (about['key'], about['unit'], better)))})"
        blocks.append(f"{title}\n{table(rows) or 'no run has a value'}")
    return "\n\n".join(blocks)


def write_csv(values: Mapping[str, Any], path: Path) -> Path:
    """A row per run, a column per metric, numbers in full; empty where there is no value. Raises `DataError` if it cannot."""
    fixed = ("run", "path", "data", "method", "seed", "step")
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*fixed, *values["metrics"]])
    writer.writerows([*(row[key] for key in fixed), *row["values"].values()] for row in values["runs"])
    with atomic_write(path, "Choose another place with --csv.") as part:
        part.write_bytes(text.getvalue().encode(errors="surrogateescape"))
    return path
