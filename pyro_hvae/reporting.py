"""What a finished or reopened run reports: measured values kept as JSON in the run, and their texts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyro_hvae.config import coerce, parameters
from pyro_hvae.errors import ConfigError, unknown_name
from pyro_hvae.evaluation import METRICS
from pyro_hvae.experiments import OpenRun
from pyro_hvae.runs import versions

__all__ = ["evaluation_text", "finish", "measure", "measure_all", "metrics_text", "table"]


def measure(run: OpenRun, name: str, **options: Any) -> dict[str, Any]:
    """A metric of a run with its protocol, also written to the run's eval/NAME.json.

    Returns:
        what the metric's function does, with `metric`, the `options` it ran with, `run_seed`, `step`, `data` with its options
        and `versions`.

    Raises:
        ConfigError: for an unknown metric, or one that makes no sense for this run.
    """
    if name not in METRICS:
        raise unknown_name("metric", name, METRICS)
    function, experiment = METRICS[name].measure, run.experiment
    defaults = {key: parameter.default for key, parameter in parameters(function).items()}
    values = {
        "metric": name,
        **function(run, **options),
        "options": defaults | options,
        "step": run.step,
        "run_seed": experiment.train.seed,
        "data": {"name": experiment.dataset, **experiment.data_options},
        "versions": versions(),
    }
    run.directory.write_json(f"eval/{name}.json", values)
    return values


def measure_all(run: OpenRun, names: Sequence[str], options: Mapping[str, str] | None = None) -> dict[str, Any]:
    """One metric's values, or name -> values for several. Names and options are checked before the first is measured.

    Arguments:
        options: key -> value as typed; each must be one of a named metric's, and goes to all that have it.
    """
    names = list(dict.fromkeys(names))
    for name in names:
        if name not in METRICS:
            raise unknown_name("metric", name, METRICS)
    known = {name: parameters(METRICS[name].measure) for name in names}
    for key in options or {}:
        if not any(key in keys for keys in known.values()):
            raise unknown_name(f"option of {', '.join(names)}", key, {key for keys in known.values() for key in keys})
    typed = {
        name: {key: coerce(key, value, keys[key].annotation) for key, value in (options or {}).items() if key in keys}
        for name, keys in known.items()
    }
    results = {name: measure(run, name, **typed[name]) for name in names}
    return results[names[0]] if len(names) == 1 else results


def finish(run: OpenRun) -> dict[str, Any]:
    """Draws a trained run's pictures, measures what its data set asks for, and returns what to tell."""
    from pyro_hvae.pictures import draw_all

    report: dict[str, Any] = {"run": str(run.directory.path), "step": run.step}
    report["figures"] = [str(path) for path in draw_all(run)]
    final = run.directory.rows()[-1:]
    report |= {key: row[key] for row in final for key in ("elbo", "validation_elbo", "beta") if key in row}
    if "angle" in run.dataset.train.factors:
        try:
            report["angle"] = measure(run, "angle")
        except ConfigError:
            pass  # a code that is no plane has no polar angle; 'metrics RUN angle' says so
    return report


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Aligned columns of a list of dicts with equal keys; numbers to four significant digits, None as a dash.

    >>> print(table([{"name": "a", "value": 0.123456}, {"name": "bc", "value": None}]))
    name  value
    a     0.1235
    bc    -
    """
    rows = list(rows)
    if not rows:
        return ""
    lines = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def metrics_text(values: Mapping[str, Any]) -> str:
    """`measure_all` for people: the headline first, then a line per value and tables of what is nested, then the protocol."""
    return "\n\n".join(_metric_text(entry) for entry in ([values] if "metric" in values else values.values()))


PROTOCOL = ("metric", "options", "step", "run_seed", "data", "versions")


def _metric_text(values: Mapping[str, Any]) -> str:
    name, metric = values["metric"], METRICS[values["metric"]]
    hint = ", ".join(part for part in (metric.unit, f"{metric.better} is better" if metric.better else "") if part)
    headline = f"{name}: {_cell(read_key(values, metric.headline))}{f' ({hint})' if hint else ''}"
    single, nested = [], []
    for key, value in values.items():
        if key in PROTOCOL or value == [] or value == {}:
            continue
        rows = value if isinstance(value, list) else list(value.values()) if isinstance(value, Mapping) else []
        if rows and all(isinstance(row, Mapping) for row in rows):
            named = ({} if isinstance(value, list) else {key: k} for k in value)
            nested.append(table(first | dict(row) for first, row in zip(named, rows, strict=True)))
        else:
            single.append({"": f"  {key}", " ": _flat(value)})
    protocol = {"data": values["data"]["name"], "step": values["step"], **values["options"]}
    lines = [headline, *table(single).splitlines()[1:], *(f"\n{text}" for text in nested)]
    return "\n".join([*lines, "  measured with " + " ".join(f"{key}={_cell(v)}" for key, v in protocol.items())])


def read_key(values: Mapping[str, Any], key: str) -> Any:
    """A value by its dotted key, such as rmse.position; None where there is none."""
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _flat(value: Any, most: int = 8) -> str:
    """Numbers in a line, so many of them."""
    if isinstance(value, Mapping):
        return "  ".join(f"{k} {_flat(v)}" for k, v in value.items())
    if isinstance(value, list):
        shown = " ".join(_flat(v) for v in value[:most])
        return shown if len(value) <= most else f"{shown} ... ({len(value)} values)"
    return _cell(value)


def evaluation_text(values: Mapping[str, Any]) -> str:
    """`evaluate` for people."""
    bound, effective = values["bound"], values["effective_samples"]
    kind = f"{bound['particles']} particles, {', '.join(bound['shared']) or 'nothing'} shared"
    rates = "  ".join(f"{site} {rate:.3f}" for site, rate in values["rate"].items())
    units = "  ".join(f"{site} {count}" for site, count in values["active_units"].items())
    lines = [f"log-likelihood  {values['log_likelihood']:.4f} +- {values['stderr']:.4f} ({values['n']} data)"]
    if "log_likelihood_corrected" in values:
        corrected = f"{values['log_likelihood_corrected']:.4f} +- {values['stderr_corrected']:.4f}"
        lines.append(f"  corrected     {corrected} (to all {values['n_bound']} by their bound)")
    protocol = ", ".join(f"{key} {value}" for key, value in values["data"].items() if key != "name")
    lines += [
        f"bits per dim    {values['bits_per_dim']:.4f}",
        f"weights         {values['particles']} samples, {values['weights']}; effective: median {effective['median']:.1f}, "
        f"5th percentile {effective['percentile_5']:.1f}",
        f"bound           {values['elbo']:.4f} ({kind});  50 particles, nothing shared {values['iwae_50']:.4f}",
        f"distortion      {values['distortion']:.4f}",
        f"rate            {values['rate_total']:.4f} in total;  {rates}",
    ]
    for site, kl in values["kl_per_dimension"].items():
        alive = sorted((v for v in kl if v > 0.01), reverse=True)
        lines.append(f"KL per dim, {site}  {len(alive)} of {len(kl)} above 0.01: {' '.join(f'{v:.2f}' for v in alive)}")
    lines += [
        f"active units    {units}",
        f"nats per datum; likelihood {values['likelihood']}; {values['split']} split of {values['data']['name']}"
        + (f" ({protocol})" if protocol else ""),
    ]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
