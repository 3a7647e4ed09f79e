"""Checks the names of `-o` options before torch is imported, which takes seconds: reads them from the package's source."""

import ast
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pyro_hvae.errors import require_known
from pyro_hvae.recipes import preset

PACKAGE = Path(__file__).parent.parent
RECIPES = "recipes.recipe_registry", "RECIPES"
DATASETS = "data.dataset_registry", "DATASETS"
SCHEDULES = "schedules.schedule_registry", "SCHEDULES"


def check_option_names(recipe: str | None, dataset: str | None, schedule: str | None, options: Mapping[str, str]) -> None:
    """Checks options of `train` where recipe, data set and schedule are the package's own.

    `pyro_hvae.runs.resolve` checks again, with the entries that a program has added to the tables.

    Raises:
        ConfigError: for an option that neither the recipe, its schedule, its data set nor training has.
    """
    recipes = _read_table(*RECIPES)
    if not (options and recipe in recipes and dataset in _read_table(*DATASETS)):
        return
    if schedule is None:
        schedule = preset(recipe, dataset, options.get("preset", "cpu")).get("schedule") or _default_schedule(recipes[recipe])
    if schedule in _read_table(*SCHEDULES):
        known = known_options(recipe, dataset, schedule)
        for key in options:
            require_known(f"option of {recipe} with schedule {schedule} on {dataset}", key, known)


def known_options(recipe: str, dataset: str, schedule: str) -> set[str]:
    """The `-o` options of entries of the three tables, and those of training."""
    names = {"preset", *_read_options("runs.train_config", "TrainConfig")}
    for (module, table), entry in ((RECIPES, recipe), (DATASETS, dataset), (SCHEDULES, schedule)):
        value = _read_table(module, table)[entry]
        function = value.args[0] if isinstance(value, ast.Call) else value  # Recipe(vae, ...), Source(digits), WarmUp
        names |= set(_read_options(module, ast.unparse(function)))
    return names


@cache
def _parse(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))


def _read_table(module: str, table: str) -> dict[str, ast.expr]:
    """The entries of a literal table: name -> expression."""
    for node in _parse(module).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == table and isinstance(node.value, ast.Dict):
            return {ast.literal_eval(key): value for key, value in zip(node.value.keys, node.value.values, strict=True) if key}
    return {}


def _default_schedule(row: ast.expr) -> str:
    """The schedule in `Recipe(function, paper, text, schedule)`."""
    given = row.args[3:4] + [word.value for word in row.keywords if word.arg == "schedule"] if isinstance(row, ast.Call) else []
    return ast.literal_eval(given[0]) if given else "constant"


def _read_options(module: str, name: str) -> list[str]:
    """Parameters with a default of a function or class that a module defines or imports from another module."""
    for node in _parse(module).body:
        if isinstance(node, ast.ImportFrom) and node.module and name in (alias.name for alias in node.names):
            return _read_options(node.module.removeprefix("pyro_hvae."), name)
        if isinstance(node, ast.ClassDef) and node.name == name:
            fields = [part for part in node.body if isinstance(part, ast.AnnAssign) and part.value]
            starts = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
            if starts or fields or not node.bases:
                return _with_default(starts[0]) if starts else [ast.unparse(field.target) for field in fields]
            return _read_options(module, ast.unparse(node.bases[0]))
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return _with_default(node)
    return []


def _with_default(function: ast.FunctionDef) -> list[str]:
    arguments = function.args
    positional = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    by_keyword = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    first = len(positional) - len(arguments.defaults)
    return positional[first:] + [argument.arg for argument, default in by_keyword if default is not None]
