"""Training and evaluation mode of modules."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial, wraps
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, ParamSpec, TypeVar

from torch import nn

P = ParamSpec("P")
R = TypeVar("R")
PROGRAMS = ("model", "guide", "elbo")  # arguments of a question that can hold modules
NUMBERS = (int, float, complex, str, bytes)
LIBRARIES = {"builtins", "collections", "contextlib", "functools", "math", "numpy", "pyro", "pyro_hvae", "torch", "typing"}


@contextmanager
def evaluation_mode(*programs: Any) -> Iterator[None]:
    """Puts programs into evaluation mode for the block, and afterwards every module of them back into its own mode.

    A pass in training mode would change the running statistics of batch normalisation.

    Arguments:
        programs: modules, methods of modules, functions that use modules (see `find_modules`).

    >>> norm = nn.BatchNorm1d(2)
    >>> with evaluation_mode(norm):
    ...     norm.training
    False
    >>> norm.training
    True
    """
    training = [module for module in find_modules(*programs) if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


def in_evaluation_mode(question: Callable[P, R]) -> Callable[P, R]:
    """Decorates a function that asks a model: its arguments `model`, `guide` and `elbo` are in evaluation mode meanwhile.

    >>> @in_evaluation_mode
    ... def ask(model):
    ...     return model.training
    >>> ask(nn.BatchNorm1d(2))
    False
    """
    places = {name: place for place, name in enumerate(inspect.signature(question).parameters) if name in PROGRAMS}

    @wraps(question)
    def ask(*args: P.args, **kwargs: P.kwargs) -> R:
        programs = [args[place] if place < len(args) else kwargs.get(name) for name, place in places.items()]
        with evaluation_mode(*programs):
            return question(*args, **kwargs)

    return ask


def find_modules(*programs: Any) -> Iterator[nn.Module]:
    """Every module that the programs hold, once: sub-modules, and the modules that functions, methods and objects can reach.

    A function reaches what stands in its closure, its defaults and the global names that it uses, also through other functions,
    lists, dicts and objects. Objects and functions of libraries are not searched.
    """
    kept: dict[int, Any] = {}
    found = list(programs)
    while found:
        item = found.pop()
        if id(item) not in kept:
            kept[id(item)] = item  # else another object could take over its identity
            if isinstance(item, nn.Module):
                yield item
                found += item._modules.values()
            else:
                found += _held(item)


def _held(item: Any) -> Iterable[Any]:
    """What an object that is no module holds."""
    if isinstance(item, list | tuple | set | frozenset):
        return () if len(item) > 1000 and isinstance(next(iter(item)), NUMBERS) else item  # data, which take long to search
    if isinstance(item, dict):
        return item.values()
    if isinstance(item, MethodType):
        return item.__self__, item.__func__
    if isinstance(item, partial):
        return item.func, *item.args, *item.keywords.values()
    if isinstance(item, FunctionType):
        return _held_by_function(item)
    if isinstance(item, type):
        return () if _is_library(item) else (*vars(item).values(), *item.__bases__)
    # An ELBO is an object of ours that can hold a module of the user's.
    known = isinstance(item, ModuleType) or (_is_library(type(item)) and not type(item).__module__.startswith("pyro_hvae."))
    return () if known else (*getattr(item, "__dict__", {}).values(), type(item))


def _held_by_function(function: FunctionType) -> Iterable[Any]:
    yield from function.__dict__.values()  # with the function that this one wraps
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # the cell is still empty
            yield cell.cell_contents
    if not _is_library(function):
        names = set(_names(function.__code__))
        for name in sorted(names & function.__globals__.keys()):  # the same order in every process
            value = function.__globals__[name]
            yield value
            if isinstance(value, ModuleType):  # "import nets" and nets.encoder(x)
                yield from (vars(value)[name] for name in sorted(names & vars(value).keys()) if not _is_library(value))


def _names(code: CodeType) -> Iterator[str]:
    """Names of globals and attributes in a function, and in the functions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _is_library(item: Any) -> bool:
    name = item.__name__ if isinstance(item, ModuleType) else item.__module__
    return str(name).partition(".")[0] in LIBRARIES
