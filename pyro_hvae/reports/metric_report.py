"""Texts of measured metrics, and of the test log-likelihood of a run."""

import math
import textwrap
from collections.abc import Mapping
from typing import Any, TypeGuard

from pyro_hvae.evaluation import METRICS
from pyro_hvae.reports.text_table import describe_headline, format_number, format_option, format_table

# what densities are of -> how a text says so; others are of features
SPACES = {"data": "", "standardised data": " of standardised data"}
PROTOCOL = ("metric", "options", "step", "run_seed", "data", "given", "observed", "program", "versions")


def metrics_text(values: Mapping[str, Any]) -> str:
    """Text of the result of `measure_metrics`: headline, a line for each value, tables of nested values, and the protocol.

    Metrics without a result are left out: `describe_errors` names them.
    """
    entries = [values] if "metric" in values else values.values()
    return "\n\n".join(_metric_text(entry) for entry in entries if entry.keys() != {"metric", "error"})


def _metric_text(values: Mapping[str, Any]) -> str:
    name, metric = values["metric"], METRICS[values["metric"]]
    hint = describe_headline(metric.unit, better=metric.better)
    headline = f"{name}: {format_number(_read_key(values, metric.headline))}{f' ({hint})' if hint else ''}"
    single, nested = [], []
    for key, value in values.items():
        if key in PROTOCOL:
            continue
        rows = value if isinstance(value, list) else list(value.values()) if isinstance(value, Mapping) else []
        if rows and all(isinstance(row, Mapping) for row in rows):
            named = ({} if isinstance(value, list) else {key: k} for k in value)
            cells = [{k: _join_numbers(v) if isinstance(v, Mapping | list) else v for k, v in row.items()} for row in rows]
            nested.append(format_table(first | row for first, row in zip(named, cells, strict=True)))
        else:
            single.append((key, _join_numbers(value)))
    beside = {key: values[key] for key in ("given", "observed") if key in values}
    protocol = {"data": values["data"]["name"], "step": values["step"], **beside, **values["options"]}
    indent = 4 + max((len(key) for key, _ in single), default=0)
    lines = [headline, *(_wrap(f"  {key}".ljust(indent) + text, indent) for key, text in single)]
    lines += [f"\n{text}" for text in nested]
    texts = {
        key: format_option(v) if isinstance(v, list | tuple) else format_number(v) for key, v in protocol.items() if v != ()
    }
    how = " ".join(f"{key}={text}" for key, text in texts.items())
    return "\n".join([*lines, _wrap(f"  measured with {how}", 16)])


def _wrap(text: str, indent: int) -> str:
    """Breaks a line into lines of at most 100 columns."""
    return textwrap.fill(text, 100, subsequent_indent=" " * indent, break_long_words=False, drop_whitespace=True)


def _read_key(values: Any, key: str) -> Any:
    """A value by its dotted key, such as rmse.position; None where the key is absent."""
    for part in key.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def _join_numbers(value: Any, most: int = 8) -> str:
    """Numbers in one line, at most so many of a list."""
    if value == {} or value == []:
        return "none"
    if isinstance(value, Mapping):
        return "  ".join(f"{k} {_join_numbers(v)}" for k, v in value.items())
    if isinstance(value, list):
        shown = " ".join(_join_numbers(v) for v in value[:most])
        return shown if len(value) <= most else f"{shown} ... ({len(value)} values)"
    return format_number(value)


def evaluation_text(values: Mapping[str, Any]) -> str:
    """Text of the result of the metric likelihood: log-likelihood, bound, rates, active units, and the protocol."""
    bound, effective = values["bound"], values["effective_samples"]
    shared = f", {', '.join(bound['shared'])} shared" if bound["shared"] else ""
    kind = f"{bound['particles']} particle{'s' * (bound['particles'] > 1)}{shared}, all {values['n_bound']} data"
    rates = "  ".join(f"{site} {rate:.3f}" for site, rate in values["rate"].items())
    units = "  ".join(f"{site} {count}" for site, count in values["active_units"].items())
    informative = "".join(f"  {site} {count}" for site, count in values["informative_units"].items())
    informative = informative and f";  with KL > 0.05 nats{informative}"
    n, corrected = values["n"], values.get("corrected")
    of = f"from {n} data, corrected to all {values['n_bound']} by their bounds" if corrected else f"{n} data"
    bias = values.get("importance_bias")
    lines = [f"log-likelihood  {_likelihood_text(values, bias)} ({of})"]
    if "given" in values or "observed" in values:
        lines.append(f"  which is      {_density_text(values)}")
    if "log_likelihood_own_units" in values:
        lines.append(f"  in own units  {values['log_likelihood_own_units']:.4f}")
    if corrected and (subset := values.get("subset")):
        lines.append(f"  as they are   {_likelihood_text(subset, bias)} (these {n})")
    space = SPACES.get(values["space"], f" of features, not of pixels ({values['space']})")
    protocol = _list_options(values["data"])
    if (bits := values["bits_per_dim"]) is not None:
        lines.append(f"bits per dim    {bits:.4f} (of {values['bits_per_dim_of']})")
    few = values["particles"]
    lines += [
        f"weights         {few} samples, {values['weights']}; effective: median {effective['median']:.1f}, "
        f"5th percentile {effective['percentile_5']:.1f}"
        + (f"; {few // 2} samples give {values['half']:.4f}" if _is_finite(bias) else ""),
        f"bound           {values['elbo']:.4f} ({kind});  {values['iwae_50']:.4f} with 50 particles",
        f"distortion      {values['distortion']:.4f}",
        f"rate            {values['rate_total']:.4f} in total;  {rates}",
    ]
    for site, kl in values["kl_per_dimension"].items():
        alive = sorted((v for v in kl if v > 0.01), reverse=True)
        count = values["informative_units"][site]
        shown = " ".join(f"{v:.2f}" for v in alive)
        lines.append(f"KL per dim, {site}  {count} of {len(kl)} above 0.05, {len(alive)} above 0.01: {shown}")
    lines += [
        f"active units    {units} (posterior mean varies){informative}",
        f"nats per datum{space}; likelihood {values['likelihood']}; "
        f"{values['split']} split of {values['data']['name']}" + (f" ({protocol})" if protocol else ""),
    ]
    return "\n".join(lines)


def _density_text(values: Mapping[str, Any]) -> str:
    """What densities are given and of, such as "log p(x | class), of the observed entries, 70.1 % of all"."""
    given = f" | {', '.join(values['given'])}" if "given" in values else ""
    observed = f", of the observed entries, {values['observed']:.1%} of all" if "observed" in values else ""
    return f"log p(x{given}){observed}"


def _list_options(data: Mapping[str, Any]) -> str:
    """Options of a data set as they are typed; without those that are off: empty, false, or 0 where that is no seed.

    >>> _list_options({"name": "own.csv", "data_seed": 0, "size": 0, "standardize": True, "labels": ["a", "b"], "key": ""})
    'data_seed=0, standardize=true, labels=a,b'
    """
    chosen = {key: value for key, value in data.items() if key != "name" and (value or "seed" in key)}
    texts = {key: "true" if value is True else format_option(value) for key, value in chosen.items()}
    return ", ".join(f"{key}={text}" for key, text in texts.items() if text)


def _likelihood_text(values: Mapping[str, Any], bias: float | None) -> str:
    """A log-likelihood with the larger one of its standard error, if any, and its importance bias, if known."""
    error, text = values["stderr"], f"{values['log_likelihood']:.4f}"
    if _is_finite(bias) and not (_is_finite(error) and error >= bias):
        sampling = f"; sampling error {error:.4f}" if _is_finite(error) else ""
        return f"{text} +- {bias:.4f} (too low by about this or more: half of the samples give so much less{sampling})"
    return f"{text} +- {error:.4f}" if _is_finite(error) else text


def _is_finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
