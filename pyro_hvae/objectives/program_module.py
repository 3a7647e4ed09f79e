"""Programs that are no modules: methods of a module, handled programs such as `poutine.condition(...)`, and functions."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pyro
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from pyro_hvae.data import Batch
from pyro_hvae.errors import ContractError
from pyro_hvae.objectives.handlers import Site
from pyro_hvae.runtime import evaluation_mode, find_modules


class ProgramModule(nn.Module):
    """A program with the modules that it uses, so that they are trained, moved, saved and opened with it.

    >>> class VAE(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.net = nn.Linear(2, 3)
    ...     def model(self, x=None, size=1):
    ...         return self.net(x)
    >>> [name for name, _ in ProgramModule(VAE().model).named_parameters()]
    ['uses.0.net.weight', 'uses.0.net.bias']
    """

    def __init__(self, program: Callable[..., Any]) -> None:
        super().__init__()
        self.program = program
        found = list(find_modules(program))
        inner = {id(part) for module in found for part in module.modules() if part is not module}
        self.uses = nn.ModuleList(module for module in found if id(module) not in inner)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.program(*args, **kwargs)


def as_module(program: Callable[..., Any]) -> nn.Module:
    """The program itself if it is a module, else a `ProgramModule`."""
    return program if isinstance(program, nn.Module) else ProgramModule(program)


class _StoredParameters(Messenger):
    """Collects the parameters of Pyro's store that a program reads: name -> tensor, or None where it gives no first value."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, Tensor | None] = {}

    def _pyro_param(self, msg: Site) -> None:
        self.found[msg["name"]] = None

    def _pyro_post_param(self, msg: Site) -> None:
        value = msg["value"]
        self.found[msg["name"]] = value.unconstrained() if hasattr(value, "unconstrained") else value


def refuse_stored_parameters(objective: nn.Module, x: Tensor | Batch) -> None:
    """Raises `ContractError` for a pair that reads a `pyro.param` that is no parameter of its modules: none would train it.

    `pyro.module` and PyroModules announce parameters of modules, which is fine. The pass changes nothing but the
    store, so the caller opens one of its own.
    """
    devices = [x.device] if x.is_cuda else []
    stored = _StoredParameters()
    with torch.random.fork_rng(devices=devices), torch.no_grad(), evaluation_mode(objective), suppress(KeyError):
        with pyro.validation_enabled(False), stored:
            objective(x)
    own = {id(parameter) for parameter in objective.parameters()}
    if names := [name for name, value in stored.found.items() if id(value) not in own]:
        raise ContractError(
            f"the pair reads pyro.param {', '.join(map(repr, names))} of Pyro's parameter store, which only pyro.infer.SVI "
            "trains. Make it an nn.Parameter of the model or the guide; with a constraint, pyro.nn.PyroParam of a PyroModule."
        )
