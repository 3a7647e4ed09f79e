"""The tables of recipes, schedules, data sets and metrics, read from the package's source: torch takes seconds to import.

Functions are stand-ins that have the signature of the real one and cannot be called.
"""

import ast
import importlib
import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from pyro_hvae.data import require_dataset
from pyro_hvae.runs import Tables

PACKAGE = Path(__file__).parent.parent
USER_DATA = "data.sets.user_data", "load_user_data"


def source_tables() -> Tables:
    """What `pyro_hvae.runs.resolve` needs."""
    recipes, schedules = (
        _read_table("recipes.recipe_registry", "RECIPES"),
        _read_table("schedules.schedule_registry", "SCHEDULES"),
    )
    return Tables(recipes, schedules, find_loader)


def find_loader(dataset: str) -> Callable[..., Any]:
    """The stand-in for what loads a data set, or the data at a path; raises as `pyro_hvae.data.require_dataset`."""
    sets = read_datasets()
    require_dataset(dataset, sets)
    return sets[dataset].load if dataset in sets else _StandIn(*USER_DATA)


def read_datasets() -> dict[str, Any]:
    """Name -> row of the table of data sets."""
    return _read_table("data.dataset_registry", "DATASETS")


def read_metrics() -> dict[str, Any]:
    """Name -> row of the table of metrics."""
    return _read_table("evaluation.metric_registry", "METRICS")


def read_chain_starts() -> list[str]:
    """Where Gibbs chains start."""
    return list(_read_table("evaluation.gibbs_evaluation", "STARTING_POINTS"))


class _StandIn:
    """A function or class by module and name. Its signature has the parameters with a default alone."""

    def __init__(self, module: str, name: str) -> None:
        self.__signature__ = inspect.Signature(list(_read_options(module, name)))

    def __call__(self, *arguments: Any, **words: Any) -> Any:
        raise NotImplementedError("a stand-in for a signature is not called.")


class _Row:
    """A row `Class(...)` of a table: an attribute is the argument of that name, evaluated when it is asked for."""

    def __init__(self, module: str, call: ast.Call) -> None:
        fields = _read_fields(*_find_definition(module, ast.unparse(call.func)))
        self._module = module
        self._arguments = {name: value for name, value in fields.items() if value is not None}
        self._arguments |= dict(zip(fields, call.args, strict=False)) | {word.arg: word.value for word in call.keywords}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._arguments:
            raise AttributeError(name)
        return _evaluate(self._module, self._arguments[name])


@cache
def _read_table(module: str, table: str) -> dict[str, Any]:
    """A literal table: name -> `_Row`, or the stand-in for a function or class."""
    value = _find_definition(module, table)[1].value
    assert isinstance(value, ast.Dict), f"{module}.{table} is no literal table"
    rows = ((ast.literal_eval(key), row) for key, row in zip(value.keys, value.values, strict=True) if key)
    return {key: _Row(module, row) if isinstance(row, ast.Call) else _evaluate(module, row) for key, row in rows}


@cache
def _parse(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))


def _find_definition(module: str, name: str) -> tuple[str, Any]:
    """The statement that defines a name of a module, with the module where it stands."""
    for node in _parse(module).body:
        if isinstance(node, ast.ImportFrom) and node.module and name in (alias.name for alias in node.names):
            own = node.module.startswith("pyro_hvae.")
            return _find_definition(node.module.removeprefix("pyro_hvae."), name) if own else (module, node)
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        if name in map(ast.unparse, targets) or getattr(node, "name", None) == name:
            return module, node
    raise KeyError(name)


class _Names(dict[str, Any]):
    """The names of a module: its constants, stand-ins for its functions and classes, and what it imports from elsewhere."""

    def __init__(self, module: str) -> None:
        self.module = module

    def __missing__(self, name: str) -> Any:
        module, node = _find_definition(self.module, name)
        if isinstance(node, ast.Assign | ast.AnnAssign):
            return _evaluate(module, node.value)
        if isinstance(node, ast.ImportFrom):
            return getattr(importlib.import_module(str(node.module)), name)
        return _StandIn(module, name)


def _evaluate(module: str, expression: Any) -> Any:
    """The value of an expression in a module of this package."""
    return eval(compile(ast.Expression(expression), module, "eval"), {}, _Names(module))


def _read_options(module: str, name: str) -> list[inspect.Parameter]:
    """Parameters with a default of a function, or of a class's `__init__` or fields, which it may have from its base."""
    module, node = _find_definition(module, name)
    if isinstance(node, ast.FunctionDef):
        return _read_defaults(module, node)
    starts = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
    return _read_defaults(module, starts[0]) if starts else _read_options(module, ast.unparse(node.bases[0]))


def _read_defaults(module: str, function: ast.FunctionDef) -> list[inspect.Parameter]:
    of = function.args
    positional = [*of.posonlyargs, *of.args]
    pairs = [*zip(positional[len(positional) - len(of.defaults) :], of.defaults, strict=True)]
    pairs += [
        (argument, default) for argument, default in zip(of.kwonlyargs, of.kw_defaults, strict=True) if default is not None
    ]
    kind, evaluate = inspect.Parameter.KEYWORD_ONLY, lambda node: _evaluate(module, node)
    return [
        inspect.Parameter(argument.arg, kind, default=evaluate(default), annotation=evaluate(argument.annotation))
        for argument, default in pairs
    ]


def _read_fields(module: str, node: ast.ClassDef) -> dict[str, ast.expr | None]:
    """The fields of a dataclass with their defaults."""
    return {ast.unparse(part.target): part.value for part in node.body if isinstance(part, ast.AnnAssign)}
