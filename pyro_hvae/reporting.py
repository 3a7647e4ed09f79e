"""What a finished or reopened run reports: measured values kept as JSON in the run, and tables over several runs."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyro_hvae.config import Experiment
from pyro_hvae.errors import ConfigError, unknown_name
from pyro_hvae.evaluation import METRICS, PUBLISHED_ANGLE
from pyro_hvae.experiments import OpenRun, open_run, read_experiment
from pyro_hvae.runs import find_run

__all__ = ["compare", "compare_text", "evaluation_text", "finish", "measure", "measure_all", "metrics_text", "table"]


def measure(run: OpenRun, name: str) -> dict[str, Any]:
    """A metric of a run, also written to its eval/NAME.json; raises `ConfigError` for an unknown metric."""
    if name not in METRICS:
        raise unknown_name("metric", name, METRICS)
    values = {**METRICS[name](run), "step": run.step, "seed": run.experiment.train.seed}
    run.directory.write_json(f"eval/{name}.json", values)
    return values


def measure_all(run: OpenRun, names: Sequence[str]) -> dict[str, Any]:
    """One metric's values, or name -> values for several. All names are checked before the first is measured."""
    for name in names:
        if name not in METRICS:
            raise unknown_name("metric", name, METRICS)
    results = {name: measure(run, name) for name in names}
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


def label(e: Experiment) -> str:
    """Recipe and schedule as a table shows them; a warm-up says over how much of the run."""
    name = f"{e.recipe or 'program'} + {e.schedule}"
    if e.schedule == "warmup":
        length = e.schedule_options["warmup"]
        name += f" ({length:.0%} of the run)" if length < 1 else f" ({length:.0f} steps)"
    if e.schedule == "constant":
        name += f" (beta = {e.schedule_options['beta']:g})"
    return name


# metric -> the value that `compare` tabulates
HEADLINE = {"angle": "mae_rad", "interpolation": "good"}


def compare(names: Sequence[str], metric: str = "angle", checkpoint: str = "last") -> dict[str, Any]:
    """One metric over several runs: a row per run, and a row per method with median, mean, standard deviation and range.

    Values measured before at the same step are read from the run. A run that the metric does not apply to (a user's program,
    a code that is no plane) has no value and counts in no method.

    Raises:
        ConfigError: for an unknown metric. DataError, CheckpointError: for something that is no trained run.
    """
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    key = HEADLINE[metric]
    rows = []
    for name in dict.fromkeys(names):
        path = find_run(name)
        experiment = read_experiment(path)
        row: dict[str, Any] = {"run": path.name, "method": label(experiment), "seed": experiment.train.seed, key: None}
        if experiment.recipe is not None:
            run = open_run(path, checkpoint)
            known = run.directory.read_json(f"eval/{metric}.json")
            try:
                row[key] = (known if known.get("step") == run.step else measure(run, metric))[key]
            except ConfigError:
                pass
        published = (
            PUBLISHED_ANGLE.get((experiment.recipe or "", experiment.schedule))
            if metric == "angle" and experiment.dataset == "pendulum"
            else None
        )
        rows.append({**row, "paper": published})
    methods = []
    for method in dict.fromkeys(row["method"] for row in rows if row[key] is not None):
        mine = [row for row in rows if row["method"] == method and row[key] is not None]
        values = [row[key] for row in mine]
        methods.append(
            {
                "method": method,
                "seeds": len(mine),
                "median": statistics.median(values),
                "mean": statistics.fmean(values),
                "std": statistics.stdev(values) if len(values) > 1 else None,
                "min": min(values),
                "max": max(values),
                "paper": mine[0]["paper"],
            }
        )
    return {"metric": metric, "key": key, "runs": rows, "methods": methods}


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


def compare_text(values: Mapping[str, Any]) -> str:
    """The runs, then the methods, of `compare`."""
    return f"{values['metric']} ({values['key']})\n\n{table(values['runs'])}\n\n{table(values['methods'])}"


def metrics_text(values: Mapping[str, Any]) -> str:
    """`measure_all` for people: a line per value."""
    entries = [values] if "metric" in values else list(values.values())
    blocks = []
    for entry in entries:
        rows = [{"value of": k, entry["metric"]: v} for k, v in entry.items() if k != "metric" and not isinstance(v, list)]
        blocks.append(table(rows))
        blocks += [table(v) for v in entry.values() if isinstance(v, list) and v]
    return "\n\n".join(blocks)


def evaluation_text(values: Mapping[str, Any]) -> str:
    """`evaluate` for people."""
    bound = values["bound"]
    kind = f"{bound['particles']} particles, {', '.join(bound['shared']) or 'nothing'} shared"
    rates = "  ".join(f"{site} {rate:.3f}" for site, rate in values["rate"].items())
    units = "  ".join(f"{site} {count}" for site, count in values["active_units"].items())
    return "\n".join(
        [
            f"log-likelihood  {values['log_likelihood']:.4f} +- {values['stderr']:.4f} ({values['particles']} particles)",
            f"bound           {values['elbo']:.4f} ({kind})",
            f"distortion      {values['distortion']:.4f}",
            f"rate            {values['rate_total']:.4f} in total;  {rates}",
            f"active units    {units}",
            f"nats per datum, {values['n']} of the {values['split']} split of {values['data']}",
        ]
    )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
