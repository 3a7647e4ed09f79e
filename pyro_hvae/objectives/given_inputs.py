"""Runs a program on data with what stands beside them: the inputs that it takes, and the mask of observed entries."""

import inspect
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from pyro_hvae.data import OBSERVED, Batch, Rows, given_of
from pyro_hvae.errors import ConfigError, ContractError
from pyro_hvae.objectives.handlers import Record, Site
from pyro_hvae.objectives.program_module import ProgramModule
from pyro_hvae.runtime import evaluation_mode

Program = Callable[..., Any]
CHANNELS = 4  # most of an image


def run_program(program: Program, x: Tensor | Batch) -> Any:
    """Calls a program with x, and with those inputs beside x that it takes."""
    return program(x) if isinstance(x, Tensor) else program(x.x, **inputs_for(program, x.given, x.observed))


def inputs_for(program: Program, given: Mapping[str, Tensor], observed: Tensor | None = None) -> dict[str, Tensor]:
    """The keyword arguments of a program: the given inputs that it takes, and the mask if it has a parameter `observed`.

    >>> inputs_for(lambda x, y: None, {"y": 1, "size_factor": 2})
    {'y': 1}
    """
    if not given and observed is None:
        return {}
    names, takes_any = _parameters(program)
    inputs = {name: value for name, value in given.items() if takes_any or name in names}
    return inputs if observed is None or OBSERVED not in names else {**inputs, OBSERVED: observed}


def given_for(program: Program, data: Any) -> dict[str, Tensor]:
    """The given inputs beside data that a program takes; the other program of a pair may take more."""
    return inputs_for(program, given_of(data))


def draw_sites(model: Any, x: Tensor | Batch | Rows) -> dict[str, Site]:
    """The sites of one datum that a model draws, given what stands beside the first datum, in evaluation mode.

    It leaves the random stream as it was. Nothing where the model cannot do that, whatever its error.
    """
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad(), evaluation_mode(model), suppress(Exception):
        given = given_of(x[:1]) if isinstance(x, Batch) or (isinstance(x, Rows) and x.given) else {}
        store = pyro.get_param_store()
        with store.scope(store.get_state()), pyro.validation_enabled(False), Record() as record:
            model(size=1, **inputs_for(model, given))
        return record.sites
    return {}


def require_rows(guide: Program, x: Tensor | Batch) -> None:
    """Raises `ConfigError` where x is one datum, whose numbers or channels a guide would take for data.

    One row of data is data, too, but one number of a datum is none. Only shapes are looked at that a datum has: vectors, and
    images of few channels.
    """
    if len(x) == 1 or not (len(x.shape) == 1 or (len(x.shape) == 3 and len(x) <= CHANNELS)):
        return
    devices, store = [x.device] if x.device.type == "cuda" else [], pyro.get_param_store()
    try:
        with torch.random.fork_rng(devices=devices), torch.no_grad(), evaluation_mode(guide), store.scope(store.get_state()):
            run_program(guide, x[:1])
    except (RuntimeError, ValueError, IndexError) as error:
        if "inside plate('data')" in str(error):
            return  # a guide with parameters for every datum
        raise ConfigError(
            f"x has the shape {tuple(x.shape)}, which are {len(x)} data of the shape {tuple(x.shape[1:])}, but the guide takes "
            f"no such datum: {error} Give a single datum as a row: x[None]."
        ) from error


def require_taken(programs: Collection[Program], given: Collection[str]) -> None:
    """Raises `ContractError` for a given input that no program of a pair takes: it would change nothing."""
    kinds = [_parameters(program) for program in programs] if given else []
    unused = [name for name in given if not any(takes_any or name in names for names, takes_any in kinds)]
    if unused:
        who = "neither model nor guide takes" if len(programs) > 1 else "the model does not take"
        taken = ", ".join(sorted({name for names, _ in kinds for name in names} - {"x", "size", OBSERVED}))
        raise ContractError(
            f"{who} the given input '{unused[0]}'{f', only {taken}' if taken else ''}. "
            f"Add it to a program, def forward(self, x=None, size=1, {unused[0]}=None), or do not give it."
        )


def describe_untaken(program: Program, given: Collection[str], error: Exception) -> str:
    """A sentence on inputs without which a program cannot run, else an empty text.

    Arguments:
        error: where it is about None, inputs whose default is None are needed, too.
    """
    parameters = list(inspect.signature(_callable(program)).parameters.values())
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    empty = (inspect.Parameter.empty, None) if "NoneType" in str(error) else (inspect.Parameter.empty,)
    others = [p for p in parameters[1:] if p.kind in plain and p.name not in (*given, "size", OBSERVED)]
    needed = [p.name for p in others if any(p.default is value for value in empty)]
    if not needed:
        return ""
    name = needed[0]
    return (
        f"a program takes the input '{name}', which was not given. Give it beside x: loss(x, {name}={name}) in a pass, and "
        f"given={{'{name}': {name}}} in hv.fit and in questions."
    )


def _parameters(program: Program) -> tuple[set[str], bool]:
    """Names of a program's arguments, and whether it takes any others. Our own programs say which in `given`."""
    function = _callable(program)
    parameters = list(inspect.signature(function).parameters.values())
    takes_any = any(p.kind == p.VAR_KEYWORD for p in parameters)
    names = {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    declared = getattr(getattr(function, "__self__", None), "given", None)
    return (names | set(declared), False) if takes_any and isinstance(declared, tuple) else (names, takes_any)


def _callable(program: Program) -> Program:
    """The function whose arguments are those of a program: that of a module, also inside handlers such as `poutine.scale`."""
    while True:
        if isinstance(program, ProgramModule):
            program = program.program
        elif isinstance(program, partial) and (modules := [arg for arg in program.args if isinstance(arg, nn.Module)]):
            program = modules[0]
        else:
            return program.forward if isinstance(program, nn.Module) else program
