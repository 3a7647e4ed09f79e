"""Measures metrics of a run, and keeps the results with their protocol as JSON in the run."""

from collections.abc import Mapping, Sequence
from typing import Any

from pyro_hvae.data import Rows
from pyro_hvae.errors import ConfigError, DivergenceError, require_known
from pyro_hvae.evaluation import METRICS
from pyro_hvae.inference import ROWS
from pyro_hvae.runs import OpenRun, package_versions, parameters, share_options


def measure_metric(run: OpenRun, name: str, how: Mapping[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """Measures a metric of a run, and writes the result with its protocol to eval/NAME.json of the run.

    Arguments:
        how: more keywords of the metric's function. They change the time it takes but not its result, so they are no protocol.

    Returns:
        The result of the metric's function, with `metric`, the `options` it ran with, `run_seed`, `step`, `data` with its
        options and `versions`; for a run with conditions y the names `given`, since its densities are p(x | y), and for
        incomplete data the share of `observed` entries of the test data, which alone are measured.

    Raises:
        ConfigError: for an unknown metric, or one that makes no sense for this run. DivergenceError: for weights that are NaN
            or infinite. DataError: when the result cannot be written.
    """
    require_known("metric", name, METRICS)
    function, experiment = METRICS[name].measure, run.experiment
    if options.get("seed", 0) < 0:
        raise ConfigError(f"seed={options['seed']}: a seed is at least 0. Example: -o seed=1.")
    require_finite_weights(run)
    run.directory.require_writable("eval")  # before hours of computation
    defaults = {key: parameter.default for key, parameter in parameters(function).items()}
    values = {
        "metric": name,
        **function(run, **options, **(how or {})),
        "options": defaults | options,
        "step": run.step,
        "run_seed": experiment.train.seed,
        "data": {"name": experiment.dataset, **experiment.data_options},
        **({"given": [condition.name for condition in run.conditions]} if run.conditions else {}),
        **({"observed": _observed_share(run.dataset.test.x)} if run.dataset.test.x.incomplete else {}),
        **({"program": experiment.program} if experiment.recipe is None and experiment.program else {}),
        "versions": package_versions(),
    }
    run.directory.write_json(f"eval/{name}.json", values)
    return values


def _observed_share(x: Rows) -> float:
    """The share of entries that are known."""
    known = sum(int((~piece.isnan()).sum()) for piece in x.alone.split(ROWS))
    return known / (len(x) * x.shape[1:].numel())


def require_finite_weights(run: OpenRun) -> None:
    """Raises `DivergenceError` for a checkpoint with weights that are NaN or infinite."""
    wrong = sum(int((~value.isfinite()).sum()) for value in run.objective.state_dict().values() if value.is_floating_point())
    if wrong:
        raise DivergenceError(
            f"{wrong} weights of '{run.directory.path}' are no numbers: its training diverged. Measure another checkpoint "
            "(--checkpoint best), or train with a smaller --lr."
        )


def measure_metrics(run: OpenRun, names: Sequence[str], options: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The result of one metric, or name -> result for several. Checks names and options before it measures the first.

    Of several, one that does not apply to the run does not stop the others: its result is `metric` and the `error`.

    Arguments:
        options: key -> value as typed; each must belong to a named metric, and goes to all of them that have it.

    Raises:
        ConfigError: for an unknown name or option, and where no metric applies. DataError, DivergenceError: as
            `measure_metric`.
    """
    names = list(dict.fromkeys(names))
    for name in names:
        require_known("metric", name, METRICS)
    typed = share_options(options or {}, {name: METRICS[name].measure for name in names})
    if len(names) == 1:
        return measure_metric(run, names[0], **typed[names[0]])
    results: dict[str, dict[str, Any]] = {}
    for name in names:
        try:
            results[name] = measure_metric(run, name, **typed[name])
        except ConfigError as error:
            results[name] = {"metric": name, "error": str(error)}
    if all(map(_has_error, results.values())):
        raise ConfigError(describe_errors(results))
    return results


def describe_errors(results: Mapping[str, Any]) -> str:
    """A line for each metric in the result of `measure_metrics` that has none; "" where all have one."""
    return "\n".join(f"no {name}: {result['error']}" for name, result in results.items() if _has_error(result))


def _has_error(result: Any) -> bool:
    return isinstance(result, Mapping) and result.keys() == {"metric", "error"}
