"""Options as text or TOML values: the ones a function takes, and their types."""

import inspect
import math
import os
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pyro_hvae.errors import ConfigError, require_known

# type -> (its name, an example) for messages
_WORDS = {int: ("a whole number", "2"), float: ("a number", "0.5"), bool: ("true or false", "true")}

LEAST, MOST = 2.0**-126, 2.0**127  # float32's smallest number of full precision, and about its largest one


def parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The options of a recipe, schedule or data set: its parameters that have a default."""
    return {p.name: p for p in inspect.signature(function).parameters.values() if p.default is not inspect.Parameter.empty}


def absolute_path(name: str | os.PathLike[str]) -> str:
    """A path from the root, without links and "~". One that leads nowhere, even to no home or in circles, is no error."""
    return os.path.realpath(os.path.expanduser(name))


def coerce(key: str, value: Any, annotation: Any) -> Any:
    """The value as the annotated type: text from a flag, a TOML value, or one from Python, such as a NumPy number or a tensor.

    Raises:
        ConfigError: naming key and type.

    >>> import numpy
    >>> coerce("lr", numpy.float64(0.5), float), coerce("dims", numpy.array([4, 2]), tuple[int, ...])
    (0.5, (4, 2))
    """
    origin = typing.get_origin(annotation)
    if hasattr(value, "tolist"):  # a NumPy number is a float for `isinstance`, but not for TOML or a checkpoint
        value = value.tolist()
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        annotation = next(a for a in typing.get_args(annotation) if a is not types.NoneType)
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
        return tuple(coerce(key, item, typing.get_args(annotation)[0]) for item in items if item != "")
    if annotation is Path:
        return absolute_path(value)  # a run is opened from anywhere
    try:
        if isinstance(value, bool) and annotation in (int, float):
            raise ValueError  # true is no number, though Python has it so
        if annotation is bool:
            return {"true": True, "false": False, "1": True, "0": False}[str(value).lower()]
        if annotation is int and float(value) != int(float(value)):
            raise ValueError
        converted = int(float(value)) if annotation is int else annotation(value)
        if annotation is float and not math.isfinite(converted) or annotation is int and abs(converted) >= 2**53:
            raise ValueError
        return converted
    except (ValueError, KeyError, TypeError, OverflowError):
        wanted, example = _WORDS.get(annotation, (str(annotation), "name"))
        raise ConfigError(f"option {key}={value} is not {wanted}. Example: {key}={example}.") from None


def check_recipe_options(options: Mapping[str, Any]) -> None:
    """Raises `ConfigError` for a number among the options of a recipe that is not positive, or that float32 does not have."""
    for key, value in options.items():
        numbers = [n for n in (value if isinstance(value, tuple) else (value,)) if type(n) in (int, float)]
        if key.endswith("_weight") and value == 0:
            continue  # a weight of 0 leaves a penalty out
        if any(n <= 0 for n in numbers):
            raise ConfigError(f"option {key} must be positive, got {value}.")
        if any(not LEAST <= n <= MOST for n in numbers):
            raise ConfigError(f"option {key}={value} is beyond the range of float32, which is from {LEAST:.2g} to {MOST:.2g}.")


def split_names(value: Any) -> tuple[str, ...]:
    """Names between commas, or in a list, without blanks around them.

    >>> split_names("class, cell type"), split_names(["class"]), split_names("")
    (('class', 'cell type'), ('class',), ())
    """
    return tuple(name.strip() for name in coerce("condition", value, tuple[str, ...]))


def known_options(options: Mapping[str, Any], function: Callable[..., Any]) -> dict[str, Any]:
    """The options that a function takes, as its annotations type them; others are left out."""
    known = parameters(function)
    return {key: coerce(key, value, known[key].annotation) for key, value in options.items() if key in known}


def share_options(options: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]) -> dict[str, dict[str, Any]]:
    """Typed options for each of several functions by name: an option goes to all that take it.

    Raises:
        ConfigError: for one that none of them takes, suggesting the nearest.
    """
    known = {key for function in functions.values() for key in parameters(function)}
    for key in options:
        require_known(f"option of {', '.join(functions)}", key, known)
    return {name: known_options(options, function) for name, function in functions.items()}


def typed_options(options: Mapping[str, Any], function: Callable[..., Any], of: str) -> dict[str, Any]:
    """As `known_options`; raises `ConfigError` for an unknown key and suggests the nearest."""
    known = parameters(function)
    for key in options:
        require_known(f"option of {of}", key, known)
    return known_options(options, function)
