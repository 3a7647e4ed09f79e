"""The one door through which data enter: what is given becomes floats of the type that the programs compute in."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar, cast, overload

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.utils.weak import WeakIdKeyDictionary

from pyro_hvae.data import OBSERVED, Batch, Rows, given_of, may_be_grey, to_floats, to_tensor, x_of
from pyro_hvae.errors import ConfigError, ContractError, DataError
from pyro_hvae.networks import SIZE_FACTOR, require_size_factor
from pyro_hvae.objectives.data_support import check_data
from pyro_hvae.objectives.given_inputs import require_rows, require_taken
from pyro_hvae.runtime import find_modules

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
DATA = ("x", "data")  # arguments of a question that hold data
# Program -> whether its integers were grey values: a batch of them that happens to hold 0 and 1 only is read like the others.
_grey = WeakIdKeyDictionary()


def take_data(x: Any, *programs: Any, given: Mapping[str, Any] | None = None, observed: Any = None, wait: bool = False) -> Any:
    """Data as `to_floats` makes them, float64 where the programs' parameters are; `Rows` stay as they are.

    NaN means that an entry is missing. On other devices than the CPU a pass does not wait to find it: there `observed` tells.

    Arguments:
        given: inputs beside x, name -> values (n, ...) of any type. observed: booleans of the shape of x.
        wait: look for NaN on every device, as questions do, which read all data anyway.

    Returns:
        a tensor, or a `Batch` where there are given inputs or missing entries.

    Raises:
        ConfigError: for no data, or as `Batch`. ContractError: for an input that no program takes. DataError: as `to_floats`,
            and for a given input that is NaN or infinite for some data.
    """
    if get_proxy_mode() is not None:
        return x  # a graph is recorded; its arguments were converted before
    beside = {name: take_given(name, value, *programs, x=x) for name, value in (given or {}).items()}
    if isinstance(x, Rows):
        if observed is not None:
            raise ConfigError(
                "x are Rows, which mark missing entries by NaN (Rows(..., incomplete=True)), so there is no mask beside them."
            )
        x = x.with_given(beside) if beside else x
    elif isinstance(x, Batch):
        x = Batch.of(_read(x.x, programs), {**x.given, **beside}, x.observed)
        if observed is not None:  # what the batch lacks stays missing
            x = Batch.of(x.with_nan() if isinstance(x, Batch) else x, given_of(x), observed)
    else:
        x = _read(x, programs)
        if beside or observed is not None:
            x = Batch.of(x, beside, observed)
    if not isinstance(x, Rows) and (wait or (isinstance(x, Tensor) and x.device.type == "cpu")):
        x = _find_missing(x)
    if not isinstance(x, Tensor):
        # A store can have rows that are none of these data, and nothing beside them.
        known = x.given_at(torch.arange(len(x))) if isinstance(x, Rows) and x.given else x.given
        for name, value in known.items():
            _require_known(name, value)
    if x.shape and not x.shape[0]:
        raise ConfigError(f"there are no data: x has the shape {tuple(x.shape)}. Give at least one datum.")
    if not isinstance(x, Tensor) and len(programs) > 1 and None not in programs:
        require_taken(programs, x.given)
    return x


def take_pass(args: Sequence[Any], kwargs: Mapping[str, Any], *programs: Any) -> Any:
    """The data of a pass `loss(x, y=y)`: x is the only positional argument, given inputs and `observed` have names."""
    inputs = dict(kwargs)
    x = args[0] if args else inputs.pop("x", None)
    if len(args) > 1 or x is None:
        found = f"{len(args)} arguments without a name" if len(args) > 1 else "no x"
        raise ContractError(f"a pass is of x, with other inputs by name, loss(x, y=y), but it was given {found}.")
    observed = inputs.pop(OBSERVED, None)
    data = take_data(x, *programs, given=inputs, observed=observed)
    if isinstance(data, Rows):
        raise ContractError("a pass is of one batch, but it was given hv.Rows. Read some of them: loss(rows[:64]).")
    return data


class Question(Protocol[P, R]):
    """A question about data, which also takes what stands beside its x."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def __call__(self, *args: Any, given: Mapping[str, Any] | None = None, observed: Any = None, **kwargs: Any) -> R: ...


def takes_data(question: Callable[P, R]) -> Question[P, R]:
    """Decorates a function that asks about data: its arguments `x` and `data` go through `take_data` and `check_data`.

    The function also takes `given` and `observed`, which stand beside its x. Beside `data` they are in a `Batch`.
    """
    signature, names = inspect.signature(question), ("given", OBSERVED)

    @wraps(question)
    def ask(*args: Any, **kwargs: Any) -> R:
        asked = signature.bind(*args, **{name: value for name, value in kwargs.items() if name not in names})
        beside: dict[str, Any] = {name: kwargs.get(name) for name in names}
        if asked.arguments.get("x") is None and "given" in signature.parameters:
            asked.arguments["given"] = beside["given"]
        programs = [asked.arguments.get(name) for name in ("model", "guide")]
        for name in DATA:
            if asked.arguments.get(name) is not None:
                more = beside if name == "x" else {}
                asked.arguments[name] = x = take_data(asked.arguments[name], *programs, **more, wait=True)
                if programs[1] is not None and not isinstance(x, Rows):
                    require_rows(programs[1], x)
                check_data(x, asked.arguments.get("model"))
        return question(*asked.args, **asked.kwargs)

    types: dict[str, Any] = {"given": Mapping[str, Any] | None, OBSERVED: Tensor | None}  # for help() and editors
    further = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in types.items()
        if name not in signature.parameters
    ]
    setattr(ask, "__signature__", signature.replace(parameters=[*signature.parameters.values(), *further]))  # noqa: B010
    return cast(Question[P, R], ask)


def take_given(name: str, value: Any, *programs: Any, x: Any = None) -> Tensor:
    """A given input as a tensor where x is, without x an array where the programs are. Its floats are of the programs' type;
    integers, such as classes, stay integers.

    Raises:
        DataError: for what are no numbers, or not finite.
    """
    is_array, value = not isinstance(value, Tensor), to_tensor(value, name)
    if get_proxy_mode() is not None:
        return value  # a graph is recorded; its arguments were converted before
    _require_known(name, value)
    like = _first_parameter(value, programs) if is_array or value.is_floating_point() else None
    if value.is_floating_point() and like is not None:
        value = value.to(like.dtype)
    home = like.device if like is not None and is_array else None
    home = x.device if isinstance(x, Tensor | Batch | Rows) else home
    return value if home is None else value.to(home)


def _find_missing(data: Tensor | Batch) -> Tensor | Batch:
    """The data with a mask, where a cheap look leaves NaN possible: a sum is NaN, too, where infinities cancel."""
    x = x_of(data)
    if (isinstance(data, Batch) and data.observed is not None) or not x.is_floating_point() or not x.detach().sum().isnan():
        return data
    known = ~x.isnan()
    return data if known.all() else Batch.of(x, given_of(data), known)


def _require_known(name: str, value: Tensor) -> None:
    """Raises `DataError` where a given input is unknown for some data, or a size factor is not positive.

    On other devices than the CPU nothing waits for that. Raises `ContractError` for a size factor of another shape than (n, 1).
    """
    if name == SIZE_FACTOR:
        require_size_factor(value, plates=1)
    if name == SIZE_FACTOR and value.device.type == "cpu" and value.numel() and value.detach().min() <= 0:
        raise DataError(
            f"the given input '{name}' has the value {value.detach().min().item():g}, but sizes are positive. Leave data of "
            "size 0 out, or give them another size."
        )
    if value.device.type != "cpu" or not value.is_floating_point() or not value.dim() or value.detach().sum().isfinite():
        return
    unknown = int((~value.detach().isfinite()).reshape(len(value), -1).any(1).sum())
    if unknown:
        raise DataError(
            f"the given input '{name}' is NaN or infinite for {unknown} of {len(value)} data, and p(x | {name}) says nothing "
            "about data without it. Leave these rows out, or give it a value in each."
        )


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
