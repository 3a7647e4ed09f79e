"""A module's pass as a function of tensors alone, which changes nothing."""

import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from types import ModuleType
from typing import Any

import pyro
import torch
from pyro.infer import trace_elbo, trace_mean_field_elbo
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from pyro_hvae.errors import ConfigError

__all__ = ["Places", "Pure", "Uncapturable"]

Kept = list[tuple[dict[str, Any], str, Any]]


class Uncapturable(Exception):
    """Why a module cannot run as one graph; never reaches the caller of a captured module, for which it runs eagerly."""


class Places:
    """Where a module and its sub-modules keep parameters and buffers; a tensor that is kept in several places counts once.

    Attributes:
        modules: as `modules()` gives them. parameters, buffers: the tensors, in their order.
    """

    def __init__(self, module: nn.Module) -> None:
        self.modules = list(module.modules())
        self._parameters = _kept(m._parameters for m in self.modules)
        self._buffers = _kept(m._buffers for m in self.modules)
        self.parameters, self.buffers = (_unique(kept) for kept in (self._parameters, self._buffers))
        self._held = [kept for m in self.modules for kept in (m._parameters, m._buffers, m._modules)]
        self._now = [value for kept in self._held for value in kept.values()]

    def current(self) -> bool:
        """Whether every module and tensor is still where it was; one that was replaced is not what a graph reads."""
        values = chain.from_iterable(map(dict.values, self._held))
        return sum(map(len, self._held)) == len(self._now) and all(map(operator.is_, values, self._now))

    @contextmanager
    def holding(self, parameters: Sequence[Tensor], buffers: Sequence[Tensor]) -> Iterator[Callable[[], list[Tensor]]]:
        """Puts other tensors in the places of the module's own; yields a function that tells what the buffers are by then."""
        instead = {id(old): new for old, new in zip(self.parameters + self.buffers, [*parameters, *buffers], strict=True)}
        where = {id(tensor): (kept, name) for kept, name, tensor in self._buffers}

        def now() -> list[Tensor]:
            return [where[id(buffer)][0][where[id(buffer)][1]] for buffer in self.buffers]

        try:
            for kept, name, tensor in (*self._parameters, *self._buffers):
                kept[name] = instead[id(tensor)]
            yield now
        finally:
            for kept, name, tensor in (*self._parameters, *self._buffers):
                kept[name] = tensor


def _kept(dictionaries: Iterable[dict[str, Any]]) -> Kept:
    return [(kept, name, tensor) for kept in dictionaries for name, tensor in kept.items() if tensor is not None]


def _unique(kept: Kept) -> list[Tensor]:
    return list({id(tensor): tensor for _, _, tensor in kept}.values())


class Pure:
    """A module's forward pass (and the gradients of its loss) as a function of tensors.

    It takes parameters, buffers and arguments, and returns outputs, then gradients, then the new values of those buffers that
    the pass changes, all in one list. Which these are, and what the outputs are called, is learned in the first call, which
    is also where a `fault` is found.

    Arguments:
        module: returns a tensor, or a mapping from names to tensors. gradient: of the tensor, or of that called "loss",
            with respect to the parameters that require one.

    Attributes:
        names: of the outputs; None where the module returns a tensor. trained: indices of the parameters with a gradient.
        changed: indices of the buffers that a pass changes. fault: why no graph can do what the first call did, or None.
        moved: whether that call has changed what it was given.
    """

    names: tuple[str, ...] | None

    def __init__(self, module: nn.Module, places: Places, gradient: bool) -> None:
        self.module, self.places, self.gradient = module, places, gradient
        self.wanted = [i for i, p in enumerate(places.parameters) if gradient and p.requires_grad]
        self.trained: list[int] | None = None
        self.changed: list[int] | None = None
        self.fault: str | None = None
        self.moved = False

    @property
    def count(self) -> tuple[int, int]:
        """Of parameters and buffers: what of the arguments of the function are not the module's arguments."""
        return len(self.places.parameters), len(self.places.buffers)

    def __call__(self, *tensors: Tensor) -> list[Tensor]:
        p, b = self.count
        leaves = [tensor.detach() for tensor in tensors[:p]]
        for i in self.wanted:
            leaves[i].requires_grad_()
        buffers, arguments = list(tensors[p : p + b]), tensors[p + b :]
        for i in range(b) if self.changed is None else self.changed:
            buffers[i] = buffers[i].clone()
        given = [*leaves, *arguments, *buffers]
        versions = [tensor._version for tensor in given]
        own = {id(parameter) for parameter in self.places.parameters}
        stored = {name for name, tensor in pyro.get_param_store().named_parameters() if id(tensor) not in own}
        statements = _Statements(leaves, stored)
        with torch.set_grad_enabled(self.gradient), pyro.validation_enabled(False), _tensors_stay(), statements:
            with self.places.holding(leaves, buffers) as now:
                outputs = self._named(self.module(*arguments))
                after = now()
            moved = [tensor._version != version for tensor, version in zip(given, versions, strict=True)]
            if self.changed is None:
                self.moved = any(moved[: len(moved) - b])
                self.fault = self._fault(outputs, leaves, list(zip(after, buffers, strict=True)))
                pairs = zip(after, buffers, moved[len(moved) - b :], strict=True)
                self.changed = [i for i, (new, old, in_place) in enumerate(pairs) if new is not old or in_place]
            grads = self._gradients(outputs, leaves)
        return [*(t.detach() for t in outputs.values()), *grads, *(after[i].detach() for i in self.changed)]

    def _named(self, outputs: Any) -> dict[str, Tensor]:
        self.names = tuple(outputs) if isinstance(outputs, Mapping) else None
        named = dict(outputs) if isinstance(outputs, Mapping) else {"loss": outputs}
        what = type(self.module).__name__
        if wrong := [type(value).__name__ for value in named.values() if not isinstance(value, Tensor)]:
            raise ConfigError(
                f"{what} returned {wrong[0]}; a captured module returns a tensor, or a mapping from names to tensors."
            )
        if self.gradient and ("loss" not in named or named["loss"].numel() != 1):
            raise ConfigError(
                f"{what} returned no loss: one number, by itself or under the name 'loss'. Use gradient=False for a module "
                "that is only evaluated."
            )
        return named

    def _fault(self, outputs: Mapping[str, Tensor], leaves: list[Tensor], buffers: list[tuple[Tensor, Tensor]]) -> str | None:
        if self.moved:
            return "it changes parameters or arguments in place"
        for new, old in buffers:
            if (new.shape, new.dtype, new.device) != (old.shape, old.dtype, old.device):
                return "it changes the shape, dtype or device of a buffer"
        if self.gradient and _trains_others(outputs["loss"], leaves):
            return "its loss reaches tensors that require a gradient and are no parameters of the module"
        return None

    def _gradients(self, outputs: Mapping[str, Tensor], leaves: list[Tensor]) -> list[Tensor]:
        wanted = [leaves[i] for i in self.wanted]
        if not wanted or not outputs["loss"].requires_grad:
            self.trained = []
            return []
        grads = torch.autograd.grad(outputs["loss"], wanted, allow_unused=True)
        # A parameter that the loss does not reach has no gradient, which is something else than a gradient of zero.
        self.trained = [i for i, grad in zip(self.wanted, grads, strict=True) if grad is not None]
        return [grad for grad in grads if grad is not None]

    def parts(self, values: Sequence[Tensor]) -> tuple[Any, dict[int, Tensor], dict[int, Tensor]]:
        """What a call returned: outputs as the module returns them, gradients by parameter, new values by buffer."""
        assert self.trained is not None and self.changed is not None
        start = 1 if self.names is None else len(self.names)
        stop = start + len(self.trained)
        outputs = values[0] if self.names is None else dict(zip(self.names, values[:start], strict=True))
        grads = dict(zip(self.trained, values[start:stop], strict=True))
        return outputs, grads, dict(zip(self.changed, values[stop : stop + len(self.changed)], strict=True))


def _trains_others(loss: Tensor, leaves: list[Tensor]) -> bool:
    """Whether autograd would give a gradient to anything but these leaves."""
    own, seen, todo = {id(leaf) for leaf in leaves}, set(), [loss.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable") and id(node.variable) not in own:  # pyright: ignore[reportAttributeAccessIssue]
            return True
        todo += [following for following, _ in node.next_functions]
    return False


@contextmanager
def _tensors_stay() -> Iterator[None]:
    """Stock bounds of Pyro read numbers off tensors, for warnings and as constants: here they detach them instead.

    And the store in which a PyroModule leaves its parameters is one for this pass.
    """
    instead = {"torch_item": lambda x: x.detach() if isinstance(x, Tensor) else x, "warn_if_nan": lambda *args: None}
    modules: list[ModuleType] = [trace_elbo, trace_mean_field_elbo]
    before = [(module, name, getattr(module, name)) for module in modules for name in instead if hasattr(module, name)]
    try:
        for module, name, _ in before:
            setattr(module, name, instead[name])
        with pyro.get_param_store().scope():
            yield
    finally:
        for module, name, function in before:
            setattr(module, name, function)


class _Statements(Messenger):
    """Refuses parameters of Pyro's store: a graph would read them once and never train them.

    Arguments:
        leaves: what stands for the module's parameters, which PyroModules may well announce. stored: names of what is in the
            store and not a parameter of the module.
    """

    def __init__(self, leaves: Sequence[Tensor], stored: Collection[str]) -> None:
        super().__init__()
        self.leaves, self.stored = {id(leaf) for leaf in leaves}, stored

    def _pyro_param(self, msg: Any) -> None:
        new = len(msg["args"]) > 1 and id(msg["args"][1]) not in self.leaves
        if new or msg["name"] in self.stored:
            raise Uncapturable(f"pyro.param('{msg['name']}') is in the parameter store; make it an nn.Parameter of a module")
