"""The one door through which data enter: what is given becomes floats of the type that the programs compute in."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.utils.weak import WeakIdKeyDictionary

from pyro_hvae.data import Rows, may_be_grey, to_floats, to_tensor
from pyro_hvae.errors import ConfigError
from pyro_hvae.objectives.data_support import check_data
from pyro_hvae.runtime import find_modules

P = ParamSpec("P")
R = TypeVar("R")
DATA = ("x", "data")  # arguments of a question that hold data
# Program -> whether its integers were grey values: a batch of them that happens to hold 0 and 1 only is read like the others.
_grey = WeakIdKeyDictionary()


def take_data(x: Any, *programs: Any) -> Any:
    """Data as `to_floats` makes them, float64 where the programs' parameters are; `Rows` stay as they are.

    Raises:
        ConfigError: for no data. DataError: as `to_floats`.
    """
    if get_proxy_mode() is not None:
        return x  # a graph is recorded; its arguments were converted before
    if not isinstance(x, Rows):
        x = _read(x, programs)
    if x.shape and not x.shape[0]:
        raise ConfigError(f"there are no data: x has the shape {tuple(x.shape)}. Give at least one datum.")
    return x


def takes_data(question: Callable[P, R]) -> Callable[P, R]:
    """Decorates a function that asks about data: its arguments `x` and `data` go through `take_data` and `check_data`."""
    signature = inspect.signature(question)

    @wraps(question)
    def ask(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs)
        programs = [given.arguments.get(name) for name in ("model", "guide")]
        for name in DATA:
            if given.arguments.get(name) is not None:
                given.arguments[name] = x = take_data(given.arguments[name], *programs)
                check_data(x, given.arguments.get("model"))
        return question(*given.args, **given.kwargs)

    return ask


def _read(x: Any, programs: tuple[Any, ...]) -> Tensor:
    like = _first_parameter(x, programs)
    dtype = None if like is None else like.dtype
    if isinstance(x, Tensor) and x.is_floating_point():
        return to_floats(x, dtype)
    raw = to_tensor(x)
    owners = [getattr(program, "__self__", program) for program in programs if program is not None]
    grey = next((_grey[owner] for owner in owners if owner in _grey), None)
    given, x = x, to_floats(raw, dtype, grey)
    integers = not raw.is_floating_point() and raw.dtype != torch.bool
    if may_be_grey(integers, raw.dtype == torch.uint8, raw.shape) and raw.any():  # zeros are the same in both readings
        for owner in owners:
            _grey[owner] = bool(x.max() < raw.max())
    return x if isinstance(given, Tensor) or like is None else x.to(like.device)  # an array goes to where the programs are


def _first_parameter(x: Any, programs: tuple[Any, ...]) -> Tensor | None:
    """The first floating parameter; None where the programs have none."""
    if isinstance(x, Tensor) and x.dtype == torch.float32:  # the usual case, in every pass: functions are not searched
        parameters = (p for program in programs if isinstance(program, nn.Module) for p in program.parameters())
    else:
        parameters = (p for module in find_modules(*programs) for p in module._parameters.values() if p is not None)
    return next((p for p in parameters if p.is_floating_point()), None)
