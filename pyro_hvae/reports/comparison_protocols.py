"""How the values of a comparison were measured: values of different protocols are never averaged."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pyro_hvae.evaluation import METRICS
from pyro_hvae.reports.comparison_values import ComparedRun
from pyro_hvae.reports.text_table import format_option
from pyro_hvae.runs import parameters

PARTS = ("split", "of", "tested_on", "space", "clusters_by")  # which data a result is of, in which space, of which clusters
USUAL = ("test", "test data", "data")  # what older results need not say


def describe_protocols(runs: Sequence[ComparedRun], metric: str, where: Sequence[str]) -> list[str]:
    """For each run the settings of its result in which results of the metric on the same data differ; "" where none does.

    The seed of an evaluation is no such setting: it changes the noise of a value and not its meaning.

    Arguments:
        where: the data of each run.
    """
    protocols = [_protocol(run, metric) if metric in run.results else None for run in runs]
    texts = []
    for mine, data in zip(protocols, where, strict=True):
        others = [other for other, at in zip(protocols, where, strict=True) if at == data and other is not None]
        keys = dict.fromkeys(key for other in others for key in other)
        differing = [key for key in keys if len({json.dumps(other.get(key)) for other in others}) > 1]
        settings = [f"{key}={format_option(mine.get(key, 'its own'))}" for key in differing] if mine is not None else []
        texts.append(", ".join(settings))
    return texts


def _protocol(run: ComparedRun, metric: str) -> dict[str, Any]:
    """The options with the counts that took effect, the data, and the kind of likelihood: densities are no probabilities."""
    result = run.results[metric]
    defaults = {key: parameter.default for key, parameter in parameters(METRICS[metric].measure).items()}
    used = defaults | result.get("options", {})  # an older result lacks later options
    used |= {key: result[key] for key in used if _is_count(result.get(key)) and _is_count(used[key])}
    if used.get("limit") and result.get("n") is not None and result["n"] == result.get("n_bound"):
        used["limit"] = 0  # a limit above the number of data takes all
    used |= {"likelihood": result["likelihood"].split(",")[0]} if "likelihood" in result else {}
    used |= {key: result[key] for key in PARTS if result.get(key, "data") not in USUAL}
    used |= {"given": ", ".join(result.get("given", [])) or "nothing", "observed": f"{result.get('observed', 1):.1%}"}
    used.pop("seed", None)
    return used | _handed_over(run, result)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _handed_over(run: ComparedRun, result: Mapping[str, Any]) -> dict[str, Any]:
    """Data and program that a result is of, where they are not those of the run."""
    experiment = run.experiment.to_dict()
    mine = {"name": experiment["dataset"], **experiment["data_options"]}
    data, program = result.get("data", {}), result.get("program", "")
    other = [data["name"]] if data.get("name", mine["name"]) != mine["name"] else []
    other += [
        f"{key}={format_option(value)}" for key, value in data.items() if key in mine and key != "name" and value != mine[key]
    ]
    named = run.experiment.program or program
    found = {"data": " ".join(other)} if other else {}
    return found | ({"program": program} if program.rpartition(":")[2] != named.rpartition(":")[2] and program else {})
