"""The results that a run keeps, and each as a row of a table: value, error and protocol in words."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pyro_hvae.evaluation import METRICS
from pyro_hvae.reports.text_table import format_number, format_option
from pyro_hvae.runs import EXPORT_CONFIG, RunDirectory, is_export

_LISTED = 12  # values of a list


@dataclass(frozen=True)
class EvaluationRow:
    """The headline of a result, in words. Attributes: `error` says "not known" where there is none."""

    metric: str
    value: str
    error: str
    protocol: str


def read_evaluations(directory: RunDirectory) -> dict[str, dict[str, Any]]:
    """The results that a run, or an exported model and its folder of results, keep, by the names of their files.

    Raises:
        DataError: for a damaged one.
    """
    held = directory.read_json(EXPORT_CONFIG)["evaluations"] if is_export(directory.path) else {}
    results = RunDirectory(directory.results)
    files = sorted((results.path / "eval").glob("*.json"))
    return held | {file.stem: results.read_json(f"eval/{file.name}") for file in files}


def list_evaluations(evaluations: Mapping[str, Mapping[str, Any]]) -> list[EvaluationRow]:
    """A row for each result of a known metric that has a value."""
    return [row for name, values in evaluations.items() if name in METRICS and (row := _row(name, values))]


def _row(name: str, values: Mapping[str, Any]) -> EvaluationRow | None:
    value: Any = values
    for part in METRICS[name].headline.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None:
        return None
    unit, number = METRICS[name].unit, f"{value:.4f}" if name == "likelihood" else format_number(value)
    errors = [f"standard error {values['stderr']:.4f}"] if isinstance(values.get("stderr"), float) else []
    if isinstance(values.get("importance_bias"), float):
        errors.append(f"too low by about {values['importance_bias']:.4f} or more")
    data = values.get("data", {})
    protocol = {key: values[key] for key in ("split", "n", "space") if key in values} | dict(values.get("options", {}))
    texts = [f"{key}={format_option(option)}" for key, option in protocol.items() if option not in ((), [], "")]
    beside = f" given {', '.join(values['given'])}" if "given" in values else ""
    about = f"{data.get('name', '')}{beside}; {', '.join(texts)}"
    return EvaluationRow(name, f"{number} {unit}".strip(), ", ".join(errors) or "not known", about)


def flatten(values: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    """All values in nested dicts by dotted keys, as texts; of a long list its beginning.

    >>> list(flatten({"elbo": -1.25, "active": {"z1": 2}, "x": [1, 2]}))
    [('elbo', '-1.25'), ('active.z1', '2'), ('x', '1, 2')]
    """
    for key, value in values.items():
        name = f"{within}{key}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{name}.")
        elif isinstance(value, list | tuple):
            texts = [format_number(one) for one in value]
            yield name, ", ".join(texts[:_LISTED]) + (f", ... ({len(texts)} values)" if len(texts) > _LISTED else "")
        else:
            yield name, format_number(value)
