"""What there is to choose from: the tables of recipes, data sets, schedules and metrics, with options and defaults."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from pyro_hvae.config import parameters
from pyro_hvae.data import DATASETS
from pyro_hvae.errors import unknown_name
from pyro_hvae.evaluation import METRICS
from pyro_hvae.recipes import RECIPES
from pyro_hvae.schedules import SCHEDULES

__all__ = ["catalogue", "catalogue_text"]


def _entry(function: Callable[..., Any], **more: Any) -> dict[str, Any]:
    summary = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
    defaults = {k: list(p.default) if isinstance(p.default, tuple) else p.default for k, p in parameters(function).items()}
    return {"summary": summary} | more | {"options": defaults}


def catalogue(what: str) -> dict[str, dict[str, Any]]:
    """Name -> summary, source and options of one of the tables; raises `ConfigError` for another word."""
    tables: dict[str, Callable[[], dict[str, dict[str, Any]]]] = {
        "recipes": lambda: {
            n: _entry(r.build, summary=r.summary, paper=r.paper, schedule=r.schedule) for n, r in RECIPES.items()
        },
        "datasets": lambda: {n: _entry(f) for n, f in DATASETS.items()},
        "schedules": lambda: {n: _entry(f) for n, f in SCHEDULES.items()},
        "metrics": lambda: {n: _entry(f) for n, f in METRICS.items()},
    }
    if what not in tables:
        raise unknown_name("list", what, tables)
    return tables[what]()


def catalogue_text(entries: Mapping[str, Mapping[str, Any]]) -> str:
    lines = []
    for name, entry in entries.items():
        lines.append(f"{name}: {entry['summary']}")
        lines += [f"    {key}: {entry[key]}" for key in ("paper", "schedule") if key in entry]
        options = " ".join(f"{k}={_text(v)}" for k, v in entry["options"].items())
        lines.append(f"    options: {options or 'none'}")
    return "\n".join(lines)


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
