"""What a finished or reopened run reports: measured values kept as JSON in the run, and their texts."""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyro_hvae.errors import ConfigError, DivergenceError, unknown_name
from pyro_hvae.evaluation import METRICS
from pyro_hvae.evaluation.degenerate_features import feature_state
from pyro_hvae.runs.options import coerce, parameters
from pyro_hvae.runs.run_directory import package_versions
from pyro_hvae.runs.run_loading import OpenRun

__all__ = ["evaluation_text", "finish", "measure", "measure_all", "metrics_text", "table"]


def measure(run: OpenRun, name: str, how: Mapping[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """A metric of a run with its protocol, also written to the run's eval/NAME.json.

    Arguments:
        how: more keywords for the metric's function, which change how long it takes and not what it finds: no protocol.

    Returns:
        what the metric's function does, with `metric`, the `options` it ran with, `run_seed`, `step`, `data` with its options
        and `versions`.

    Raises:
        ConfigError: for an unknown metric, or one that makes no sense for this run. DivergenceError: for weights that are no
            numbers. DataError: when the result could not be kept.
    """
    if name not in METRICS:
        raise unknown_name("metric", name, METRICS)
    function, experiment = METRICS[name].measure, run.experiment
    if options.get("seed", 0) < 0:
        raise ConfigError(f"seed={options['seed']}: a seed is at least 0. Example: -o seed=1.")
    _require_numbers(run)
    run.directory.require_writable("eval")  # before hours go into what could not be kept
    defaults = {key: parameter.default for key, parameter in parameters(function).items()}
    values = {
        "metric": name,
        **function(run, **options, **(how or {})),
        "options": defaults | options,
        "step": run.step,
        "run_seed": experiment.train.seed,
        "data": {"name": experiment.dataset, **experiment.data_options},
        "versions": package_versions(),
    }
    run.directory.write_json(f"eval/{name}.json", values)
    return values


def _require_numbers(run: OpenRun) -> None:
    """Raises `DivergenceError` for a checkpoint with weights that are NaN or infinite."""
    wrong = sum(int((~value.isfinite()).sum()) for value in run.objective.state_dict().values() if value.is_floating_point())
    if wrong:
        raise DivergenceError(
            f"{wrong} weights of '{run.directory.path}' are no numbers: its training diverged. Measure another checkpoint "
            "(--checkpoint best), or train with a smaller --lr."
        )


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
    from pyro_hvae.plots.run_pictures import draw_all

    report: dict[str, Any] = {"run": str(run.directory.path), "step": run.step}
    report["figures"] = [str(path) for path in draw_all(run)]
    final = run.directory.rows()[-1:]
    report |= {key: row[key] for row in final for key in ("elbo", "validation_elbo", "beta") if key in row}
    if run.stage.pixels:
        report["space"] = run.stage.pixels.space
    if run.stage.pixels and run.stage.pixels.variance:
        report["features"] = feature_state(run)
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
        if key in PROTOCOL:
            continue
        rows = value if isinstance(value, list) else list(value.values()) if isinstance(value, Mapping) else []
        if rows and all(isinstance(row, Mapping) for row in rows):
            named = ({} if isinstance(value, list) else {key: k} for k in value)
            cells = [{k: _flat(v) if isinstance(v, Mapping | list) else v for k, v in row.items()} for row in rows]
            nested.append(table(first | row for first, row in zip(named, cells, strict=True)))
        else:
            single.append((key, _flat(value)))
    protocol = {"data": values["data"]["name"], "step": values["step"], **values["options"]}
    indent = 4 + max((len(key) for key, _ in single), default=0)
    lines = [_wrapped(f"  {key}".ljust(indent) + text, indent) for key, text in single]
    lines = [headline, *lines, *(f"\n{text}" for text in nested)]
    return "\n".join([*lines, _wrapped("  measured with " + " ".join(f"{key}={_cell(v)}" for key, v in protocol.items()), 16)])


def _wrapped(text: str, indent: int) -> str:
    """A line in as many of at most 100 columns as it takes."""
    return textwrap.fill(text, 100, subsequent_indent=" " * indent, break_long_words=False, drop_whitespace=True)


def read_key(values: Mapping[str, Any], key: str) -> Any:
    """A value by its dotted key, such as rmse.position; None where there is none."""
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _flat(value: Any, most: int = 8) -> str:
    """Numbers in a line, so many of them."""
    if value == {} or value == []:
        return "none"
    if isinstance(value, Mapping):
        return "  ".join(f"{k} {_flat(v)}" for k, v in value.items())
    if isinstance(value, list):
        shown = " ".join(_flat(v) for v in value[:most])
        return shown if len(value) <= most else f"{shown} ... ({len(value)} values)"
    return _cell(value)


def evaluation_text(values: Mapping[str, Any]) -> str:
    """`evaluate` for people."""
    bound, effective = values["bound"], values["effective_samples"]
    shared = f", {', '.join(bound['shared'])} shared" if bound["shared"] else ""
    kind = f"{bound['particles']} particle{'s' * (bound['particles'] > 1)}{shared}, all {values['n_bound']} data"
    rates = "  ".join(f"{site} {rate:.3f}" for site, rate in values["rate"].items())
    units = "  ".join(f"{site} {count}" for site, count in values["active_units"].items())
    subset, n = values.get("subset"), values["n"]
    corrected = bool(values.get("corrected"))
    of = f"from {n} data, corrected to all {values['n_bound']} by their bounds" if corrected else f"{n} data"
    lines = [f"log-likelihood  {_error(values)} ({of})"]
    if corrected and subset:
        lines.append(f"  as they are   {_error(subset)} (these {n})")
    protocol = ", ".join(f"{key} {value}" for key, value in values["data"].items() if key != "name")
    lines += [
        f"bits per dim    {values['bits_per_dim']:.4f}",
        f"weights         {values['particles']} samples, {values['weights']}; effective: median {effective['median']:.1f}, "
        f"5th percentile {effective['percentile_5']:.1f}",
        f"bound           {values['elbo']:.4f} ({kind});  {values['iwae_50']:.4f} with 50 particles",
        f"distortion      {values['distortion']:.4f}",
        f"rate            {values['rate_total']:.4f} in total;  {rates}",
    ]
    for site, kl in values["kl_per_dimension"].items():
        alive = sorted((v for v in kl if v > 0.01), reverse=True)
        lines.append(f"KL per dim, {site}  {len(alive)} of {len(kl)} above 0.01: {' '.join(f'{v:.2f}' for v in alive)}")
    lines += [
        f"active units    {units}",
        f"nats per datum{_space(values)}; likelihood {values['likelihood']}; "
        f"{values['split']} split of {values['data']['name']}" + (f" ({protocol})" if protocol else ""),
    ]
    return "\n".join(lines)


def _space(values: Mapping[str, Any]) -> str:
    """What the densities are of, where it is not the data."""
    return "" if values["space"] == "data" else f" of features, not of pixels ({values['space']})"


def _error(values: Mapping[str, Any]) -> str:
    """A log-likelihood with its standard error, where there is one."""
    error = values["stderr"]
    return f"{values['log_likelihood']:.4f}" + ("" if math.isnan(error) else f" +- {error:.4f}")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
