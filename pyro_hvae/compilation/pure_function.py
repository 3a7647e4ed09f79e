"""A module's pass as a function of tensors alone, without side effects."""

import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any
from unittest.mock import patch

import pyro
import torch
from pyro.infer import trace_elbo, trace_mean_field_elbo
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from pyro_hvae.compilation.argument_layout import Layout, call_with_layout
from pyro_hvae.errors import ConfigError

Slots = list[tuple[dict[str, Any], str, Any]]  # a dictionary of a module, a name in it, the tensor there


class Uncapturable(Exception):
    """Why a module cannot run as one graph. It never reaches the caller of a captured module, which then runs eagerly."""


class TensorSlots:
    """The places in which a module and its sub-modules keep parameters and buffers. A tensor in several places counts once.

    Attributes:
        modules: as `modules()` gives them. parameters, buffers: the tensors, in their order.
    """

    def __init__(self, module: nn.Module) -> None:
        self.modules = list(module.modules())
        self._parameters = _slots(m._parameters for m in self.modules)
        self._buffers = _slots(m._buffers for m in self.modules)
        self.parameters, self.buffers = (
            list({id(t): t for _, _, t in slots}.values()) for slots in (self._parameters, self._buffers)
        )
        self._dictionaries = [d for m in self.modules for d in (m._parameters, m._buffers, m._modules)]
        self._values = [value for d in self._dictionaries for value in d.values()]

    def unchanged(self) -> bool:
        """Whether every module and tensor is still in its place. A graph would not read one that has replaced another."""
        values = chain.from_iterable(map(dict.values, self._dictionaries))
        return sum(map(len, self._dictionaries)) == len(self._values) and all(map(operator.is_, values, self._values))

    @contextmanager
    def substitute(self, parameters: Sequence[Tensor], buffers: Sequence[Tensor]) -> Iterator[Callable[[], list[Tensor]]]:
        """Puts other tensors in the places of the module's own. Yields a function that returns the buffers there now."""
        new = {id(old): new for old, new in zip(self.parameters + self.buffers, [*parameters, *buffers], strict=True)}
        slots = {id(tensor): (d, name) for d, name, tensor in self._buffers}
        try:
            for d, name, tensor in (*self._parameters, *self._buffers):
                d[name] = new[id(tensor)]
            yield lambda: [d[name] for d, name in (slots[id(buffer)] for buffer in self.buffers)]
        finally:
            for d, name, tensor in (*self._parameters, *self._buffers):
                d[name] = tensor


def _slots(dictionaries: Iterable[dict[str, Any]]) -> Slots:
    return [(d, name, tensor) for d in dictionaries for name, tensor in d.items() if tensor is not None]


class PureFunction:
    """A module's forward pass (and the gradients of its loss) as a function of tensors.

    It takes parameters, buffers and arguments. It returns one list: outputs, then gradients, then the new values of those
    buffers that the pass changes. The first call finds out which these are, and sets the attributes.

    Arguments:
        module: returns a tensor, or a mapping from names to tensors. gradient: whether to differentiate the tensor, or the one
            called "loss", with respect to the parameters that require a gradient. layout: of the arguments.

    Attributes:
        count: of parameters and of buffers, which precede the module's arguments.
        names: of the outputs; None where the module returns a tensor. trained: indices of the parameters with a gradient.
        changed: indices of the buffers that a pass changes. fault: why no graph can do what the first call did, or None.
        changes_inputs: whether the first call has changed parameters or arguments in place.
    """

    def __init__(self, module: nn.Module, slots: TensorSlots, gradient: bool, layout: Layout = ()) -> None:
        self.module, self.slots, self.gradient, self.layout = module, slots, gradient, layout
        self.wanted = [i for i, p in enumerate(slots.parameters) if gradient and p.requires_grad]
        self.count = len(slots.parameters), len(slots.buffers)
        self.trained, self.changes_inputs = list[int](), False
        self.names: tuple[str, ...] | None = None
        self.changed: list[int] | None = None
        self.fault: str | None = None

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
        own = {id(parameter) for parameter in self.slots.parameters}
        stored = {name for name, tensor in pyro.get_param_store().named_parameters() if id(tensor) not in own}
        refusal = _RefuseStoredParameters(leaves, stored)
        with torch.set_grad_enabled(self.gradient), pyro.validation_enabled(False), _make_pyro_recordable(), refusal:
            with self.slots.substitute(leaves, buffers) as current_buffers:
                outputs = self._named(call_with_layout(self.module, arguments, self.layout))
                after = current_buffers()
            if self.changed is None:
                in_place = [tensor._version != version for tensor, version in zip(given, versions, strict=True)]
                self.changes_inputs = any(in_place[: len(given) - b])
                self.fault = self._find_fault(outputs, leaves, list(zip(after, buffers, strict=True)))
                pairs = zip(after, buffers, in_place[len(given) - b :], strict=True)
                self.changed = [i for i, (new, old, changed) in enumerate(pairs) if new is not old or changed]
            grads = self._gradients(outputs, leaves)
        return [*(t.detach() for t in outputs.values()), *grads, *(after[i].detach() for i in self.changed)]

    def _named(self, outputs: Any) -> dict[str, Tensor]:
        """The outputs by name. Raises `ConfigError` where one is no tensor, or the loss is not one number."""
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

    def _find_fault(
        self, outputs: Mapping[str, Tensor], leaves: list[Tensor], buffers: list[tuple[Tensor, Tensor]]
    ) -> str | None:
        if self.changes_inputs:
            return "it changes parameters or arguments in place"
        for new, old in buffers:
            if (new.shape, new.dtype, new.device) != (old.shape, old.dtype, old.device):
                return "it changes the shape, dtype or device of a buffer"
        if self.gradient and _reaches_other_leaves(outputs["loss"], leaves):
            return "its loss reaches tensors that require a gradient and are no parameters of the module"
        return None

    def _gradients(self, outputs: Mapping[str, Tensor], leaves: list[Tensor]) -> list[Tensor]:
        wanted = [leaves[i] for i in self.wanted]
        if not wanted or not outputs["loss"].requires_grad:
            return []
        grads = torch.autograd.grad(outputs["loss"], wanted, allow_unused=True)
        # A parameter that the loss does not reach has no gradient, which differs from a gradient of zero.
        self.trained = [i for i, grad in zip(self.wanted, grads, strict=True) if grad is not None]
        return [grad for grad in grads if grad is not None]

    def split(self, values: Sequence[Tensor]) -> tuple[Any, dict[int, Tensor], dict[int, Tensor]]:
        """The results of a call: outputs as the module returns them, gradients by parameter, new values by buffer."""
        assert self.changed is not None
        start = 1 if self.names is None else len(self.names)
        stop = start + len(self.trained)
        outputs = values[0] if self.names is None else dict(zip(self.names, values[:start], strict=True))
        grads = dict(zip(self.trained, values[start:stop], strict=True))
        return outputs, grads, dict(zip(self.changed, values[stop : stop + len(self.changed)], strict=True))


def _reaches_other_leaves(loss: Tensor, leaves: list[Tensor]) -> bool:
    """Whether autograd would give a gradient to anything but these leaves."""
    own, visited, todo = {id(leaf) for leaf in leaves}, set(), [loss.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        if hasattr(node, "variable") and id(node.variable) not in own:  # pyright: ignore[reportAttributeAccessIssue]
            return True
        todo += [following for following, _ in node.next_functions]
    return False


@contextmanager
def _make_pyro_recordable() -> Iterator[None]:
    """Detaches tensors where Pyro's bounds read numbers off them, for warnings and as constants.

    Also gives the pass a parameter store of its own, for a PyroModule leaves its parameters in the store.
    """
    replacements = {"torch_item": lambda x: x.detach() if isinstance(x, Tensor) else x, "warn_if_nan": lambda *args: None}
    with ExitStack() as stack:
        for module in (trace_elbo, trace_mean_field_elbo):
            for name in filter(module.__dict__.__contains__, replacements):
                stack.enter_context(patch.object(module, name, replacements[name]))
        stack.enter_context(pyro.get_param_store().scope())
        yield


class _RefuseStoredParameters(Messenger):
    """Refuses parameters of Pyro's store (those `stored`, and new ones): a graph would read them once and never train them.

    PyroModules may announce the `leaves`, which stand for the module's own parameters.
    """

    def __init__(self, leaves: Sequence[Tensor], stored: Collection[str]) -> None:
        super().__init__()
        self.leaves, self.stored = {id(leaf) for leaf in leaves}, stored

    def _pyro_param(self, msg: Any) -> None:
        new = len(msg["args"]) > 1 and id(msg["args"][1]) not in self.leaves
        if not new and msg["name"] in self.stored and "$$$" in msg["name"]:
            module = msg["name"].partition("$$$")[0]
            raise Uncapturable(
                f"the parameter store holds pyro.module('{module}') of another model; give it another name, or call "
                "pyro.clear_param_store() first"
            )
        if new or msg["name"] in self.stored:
            raise Uncapturable(f"pyro.param('{msg['name']}') is in the parameter store; make it an nn.Parameter of a module")


def find_aliased(values: Sequence[Tensor], given: Sequence[Tensor]) -> list[int]:
    """Indices of the values that lie in the memory of another value, or of a given tensor, or that overlap themselves."""
    taken, found = {t.untyped_storage().data_ptr() for t in given}, []
    for i, value in enumerate(values):
        address = value.untyped_storage().data_ptr()
        if address in taken or 0 in [stride for stride, n in zip(value.stride(), value.shape, strict=True) if n > 1]:
            found.append(i)
        taken.add(address)
    return found
