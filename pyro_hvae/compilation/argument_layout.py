"""Arguments of a captured module as tensors alone: batches are taken apart for the graph, and put together for the module."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from pyro_hvae.data import Batch

# For each argument None (a tensor), or its name; or a batch's names of given inputs and whether it has a mask.
# Empty where all are tensors without names.
Layout = tuple[str | tuple[tuple[str, ...], bool] | None, ...]


def flatten_arguments(given: Sequence[Any], named: Mapping[str, Any]) -> tuple[tuple[Any, ...], Layout]:
    """The tensors of a call's arguments, and their layout."""
    if not named and not any([isinstance(argument, Batch) for argument in given]):
        return tuple(given), ()
    tensors, layout = list[Any](), list[Any]()
    for argument in given:
        if isinstance(argument, Batch):
            mask = [] if argument.observed is None else [argument.observed]
            tensors += [argument.x, *argument.given.values(), *mask]
            layout.append((tuple(argument.given), bool(mask)))
        else:
            tensors.append(argument)
            layout.append(None)
    return (*tensors, *named.values()), (*layout, *named)


def call_with_layout(function: Callable[..., Any], tensors: Sequence[Any], layout: Layout) -> Any:
    """Calls a function with the arguments that `flatten_arguments` took apart."""
    if not layout:
        return function(*tensors)
    left, given, named = iter(tensors), list[Tensor | Batch](), dict[str, Tensor]()
    for kind in layout:
        if isinstance(kind, str):
            named[kind] = next(left)
        elif kind is None:
            given.append(next(left))
        else:
            x, names, has_mask = next(left), *kind
            given.append(Batch(x, {name: next(left) for name in names}, next(left) if has_mask else None))
    return function(*given, **named)
