"""The catalogue of recipes, data sets, schedules and metrics, with their options and defaults."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch

from pyro_hvae.conditionals import StandardNormal
from pyro_hvae.data import DATASETS
from pyro_hvae.errors import require_known
from pyro_hvae.evaluation import METRICS
from pyro_hvae.inference import latents
from pyro_hvae.models import LADDERS
from pyro_hvae.networks import NETWORKS
from pyro_hvae.objectives import ELBO, GRADIENTS
from pyro_hvae.recipes import LIKELIHOODS, POSTERIORS, PRIORS, RECIPES, build
from pyro_hvae.reports.text_table import describe_headline, format_option
from pyro_hvae.runs import TrainConfig, parameters
from pyro_hvae.schedules import SCHEDULES

# Options of recipes that name an entry of a table.
CHOICES: dict[str, Collection[str]] = {
    "likelihood": LIKELIHOODS,
    "prior": PRIORS,
    "posterior": POSTERIORS,
    "network": [*NETWORKS, *LADDERS],
    "gradient": GRADIENTS,
}


def _entry(function: Callable[..., Any], **more: Any) -> dict[str, Any]:
    summary = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
    defaults = {k: list(p.default) if isinstance(p.default, tuple) else p.default for k, p in parameters(function).items()}
    return {"summary": summary} | more | {"options": defaults}


def catalogue(what: str) -> dict[str, dict[str, Any]]:
    """Name -> summary, source and options of one of the tables; raises `ConfigError` for another word."""
    tables: dict[str, Callable[[], dict[str, dict[str, Any]]]] = {
        "recipes": lambda: {
            n: _with_condition(_entry(r.build, summary=r.summary, paper=r.paper, **_pair(n), schedule=r.schedule))
            for n, r in RECIPES.items()
        },
        "datasets": lambda: {n: _entry(s.load) for n, s in DATASETS.items()},
        "schedules": lambda: {n: _entry(f) for n, f in SCHEDULES.items()},
        "metrics": lambda: {
            n: _entry(m.measure, headline=m.headline, unit=m.unit, better=m.better or "neither") for n, m in METRICS.items()
        },
    }
    require_known("list", what, tables)
    return tables[what]()


def catalogue_text(entries: Mapping[str, Mapping[str, Any]]) -> str:
    lines = []
    for name, entry in entries.items():
        lines.append(f"{name}: {entry['summary']}")
        lines += [
            f"    {key}: {entry[key]}"
            for key in ("paper", "model", "guide", "bound", "schedule", "headline", "unit", "better")
            if entry.get(key)
        ]
        options = " ".join(f"{k}={format_option(v)}" for k, v in entry["options"].items())
        lines.append(f"    options: {options or 'none'}")
    if any("bound" in entry for entry in entries.values()):
        lines.append("condition=NAME,... are factors or columns of the data that the programs are given beside x: p(x | y).")
        lines.append("size_factor=total|NAME multiplies the means of counts by the datum's total, or by a factor or column.")
        lines += [f"{name}={'|'.join(values)}" for name, values in CHOICES.items()]
        training = " ".join(f"{name}={format_option(p.default)}" for name, p in parameters(TrainConfig).items())
        lines.append(f"Options of the training, for every recipe: {training}")
        lines.append("Presets of (recipe, data set) override these defaults: 'pyro-hvae train ... --dry-run' shows what holds.")
    return "\n".join(lines)


def _with_condition(entry: dict[str, Any]) -> dict[str, Any]:
    """The entry of a recipe with the options that all recipes, and one's own programs, have."""
    return entry | {"options": entry["options"] | {"condition": [], "size_factor": None}}


def _pair(name: str) -> dict[str, str]:
    """Model, guide and bound of a recipe at its defaults, read off the built objects."""
    x = torch.zeros(64, 1, 8, 8)
    stage = build(name, x, {})[-1]
    objective, x = stage.objective, stage.view_of(x, x.device)
    model, guide = objective.model, objective.guide
    parts = [f"L={len(latents(guide, x[:2]))}"] + (["skip=True"] if getattr(model, "skip", False) else [])
    prior = getattr(model, "prior", None)
    parts += [] if prior is None or isinstance(prior, StandardNormal) else [f"prior={type(prior).__name__}"]
    program = f"{type(model).__name__}({', '.join(parts)})"
    return {"model": program, "guide": type(guide).__name__, "bound": _bound(objective.elbo)}


def _bound(elbo: ELBO) -> str:
    parts = [f"particles={elbo.particles}"] if elbo.particles > 1 else []
    parts += [f"shared={{{', '.join(sorted(elbo.shared))}}}"] if elbo.shared else []
    return f"{type(elbo).__name__}({', '.join(parts)})"


def recipe_table() -> str:
    """The README's table of recipes, in Markdown."""
    rows = [
        [f"`{name}`", entry["paper"], *(f"`{entry[key]}`" for key in ("model", "guide", "bound")), entry["schedule"]]
        + [f"`pyro-hvae train {name} --dataset digits`"]
        for name, entry in catalogue("recipes").items()
    ]
    return _markdown(["recipe", "paper", "model", "guide", "bound", "schedule", "command"], rows)


def data_table() -> str:
    """The documentation's table of data sets, in Markdown."""
    rows = [[f"`{name}`", source.summary, source.origin, _options(source.load)] for name, source in DATASETS.items()]
    return _markdown(["data set", "what it is", "files", "options"], rows)


def metric_table() -> str:
    """The documentation's table of metrics, in Markdown."""
    rows = []
    for name, metric in METRICS.items():
        first = f"`{metric.headline}` ({describe_headline(metric.unit, better=metric.better)})"
        rows.append([f"`{name}`", _entry(metric.measure)["summary"], first, _options(metric.measure)])
    return _markdown(["metric", "what it is", "first value", "options"], rows)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join([f"| {' | '.join(header)} |", "|---" * len(header) + "|", *(f"| {' | '.join(row)} |" for row in rows)])


def _options(function: Callable[..., Any]) -> str:
    return " ".join(f"`{key}={format_option(value)}`" for key, value in _entry(function)["options"].items())
