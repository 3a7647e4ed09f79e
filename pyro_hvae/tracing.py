"""A module's pass as a function of tensors alone, and that function recorded as one graph, gradients included."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pyro
import torch
from pyro.infer import trace_elbo, trace_mean_field_elbo
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

__all__ = ["Places", "Pure", "Uncapturable", "record"]


class Uncapturable(Exception):
    """Why a module cannot run as one graph; never reaches the caller of a captured module, for which it runs eagerly."""


class Places:
    """Where a module and its sub-modules keep parameters and buffers; a tensor that is kept in several places counts once.

    Attributes:
        parameters, buffers: the tensors, in the order of `modules()`.
    """

    def __init__(self, module: nn.Module) -> None:
        self.modules = list(module.modules())
        self._parameters = _kept(m._parameters for m in self.modules)
        self._buffers = _kept(m._buffers for m in self.modules)
        self.parameters, self.buffers = (_unique(kept) for kept in (self._parameters, self._buffers))

    def current(self) -> bool:
        """Whether every tensor is still where it was; one that was replaced is no longer what a graph reads."""
        return all(kept.get(name) is tensor for kept, name, tensor in (*self._parameters, *self._buffers))

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


Kept = list[tuple[dict[str, Any], str, Tensor]]


def _kept(dictionaries: Iterator[dict[str, Any]]) -> Kept:
    return [(kept, name, tensor) for kept in dictionaries for name, tensor in kept.items() if tensor is not None]


def _unique(kept: Kept) -> list[Tensor]:
    return list({id(tensor): tensor for _, _, tensor in kept}.values())


class Pure:
    """A module's forward pass (and the gradients of its loss) as a function of tensors that changes nothing.

    It takes parameters, buffers and arguments, and returns outputs, then gradients, then the new values of those buffers that
    the pass changes, all in one list. Which these are, and what the outputs are called, is learned in the first call.

    Arguments:
        module: returns a tensor, or a mapping from names to tensors. gradient: of the tensor, or of that called "loss",
            with respect to the parameters that require one.

    Attributes:
        names: of the outputs; None where the module returns a tensor. trained: indices of the parameters with a gradient.
        changed: indices of the buffers that a pass changes.
    """

    names: tuple[str, ...] | None

    def __init__(self, module: nn.Module, places: Places, gradient: bool) -> None:
        self.module, self.places, self.gradient = module, places, gradient
        self.wanted = [i for i, p in enumerate(places.parameters) if gradient and p.requires_grad]
        self.trained: list[int] | None = None
        self.changed: list[int] | None = None

    def parts(self, values: Sequence[Tensor]) -> tuple[Any, dict[int, Tensor], dict[int, Tensor]]:
        """What a call returned: outputs as the module returns them, gradients by parameter, new values by buffer."""
        assert self.trained is not None and self.changed is not None
        start = 1 if self.names is None else len(self.names)
        stop = start + len(self.trained)
        outputs = values[0] if self.names is None else dict(zip(self.names, values[:start], strict=True))
        grads = dict(zip(self.trained, values[start:stop], strict=True))
        return outputs, grads, dict(zip(self.changed, values[stop : stop + len(self.changed)], strict=True))

    def labels(self, names: tuple[list[str], list[str]]) -> list[str]:
        """What the parts are, in order, given the names of parameters and buffers."""
        assert self.trained is not None and self.changed is not None
        parameters, buffers = names
        grads = [f"gradient of {parameters[i]}" for i in self.trained]
        return [*(self.names or ("output",)), *grads, *(f"buffer {buffers[i]}" for i in self.changed)]

    @property
    def count(self) -> tuple[int, int]:
        """Of parameters and buffers: what of the arguments of the function are not the module's arguments."""
        return len(self.places.parameters), len(self.places.buffers)

    def __call__(self, *tensors: Tensor) -> list[Tensor]:
        p, b = self.count
        leaves = [tensor.detach() for tensor in tensors[:p]]
        for i in self.wanted:
            leaves[i].requires_grad_()
        buffers = list(tensors[p : p + b])
        for i in range(b) if self.changed is None else self.changed:
            buffers[i] = buffers[i].clone()
        versions = [buffer._version for buffer in buffers]
        with torch.set_grad_enabled(self.gradient), pyro.validation_enabled(False), _tensors_stay():
            with self.places.holding(leaves, buffers) as now, _Statements(leaves):
                outputs = self._named(self.module(*tensors[p + b :]))
                after = now()
            grads = self._gradients(outputs, leaves)
        if self.changed is None:
            pairs = zip(after, buffers, versions, strict=True)
            self.changed = [i for i, (new, old, v) in enumerate(pairs) if new is not old or new._version != v]
        return [*(t.detach() for t in outputs.values()), *grads, *(after[i].detach() for i in self.changed)]

    def _named(self, outputs: Any) -> dict[str, Tensor]:
        self.names = tuple(outputs) if isinstance(outputs, Mapping) else None
        named = dict(outputs) if isinstance(outputs, Mapping) else {"loss": outputs}
        if wrong := [name for name, value in named.items() if not isinstance(value, Tensor)]:
            raise Uncapturable(f"it returns {type(named[wrong[0]]).__name__}, not a tensor or a mapping from names to tensors")
        if self.gradient and ("loss" not in named or named["loss"].numel() != 1):
            raise Uncapturable("it returns no loss: one number, by itself or under the name 'loss'")
        return named

    def _gradients(self, outputs: Mapping[str, Tensor], leaves: list[Tensor]) -> list[Tensor]:
        loss = outputs["loss"] if self.gradient else None
        wanted = [leaves[i] for i in self.wanted]
        if loss is None or not wanted or not loss.requires_grad:
            self.trained = []
            return []
        grads = torch.autograd.grad(loss, wanted, allow_unused=True)
        # A parameter that the loss does not reach has no gradient, which is something else than a gradient of zero.
        self.trained = [i for i, grad in zip(self.wanted, grads, strict=True) if grad is not None]
        return [grad for grad in grads if grad is not None]


@contextmanager
def _tensors_stay() -> Iterator[None]:
    """Stock bounds of Pyro read numbers off tensors, for warnings and as constants: here they detach them instead."""
    instead = {"torch_item": lambda x: x.detach() if isinstance(x, Tensor) else x, "warn_if_nan": lambda *args: None}
    modules: list[ModuleType] = [trace_elbo, trace_mean_field_elbo]
    before = [(module, name, getattr(module, name)) for module in modules for name in instead if hasattr(module, name)]
    try:
        for module, name, _ in before:
            setattr(module, name, instead[name])
        yield
    finally:
        for module, name, function in before:
            setattr(module, name, function)


class _Statements(Messenger):
    """Refuses parameters in Pyro's store: a graph would read them once and never train them."""

    def __init__(self, own: Sequence[Tensor]) -> None:
        super().__init__()
        self.own = {id(tensor) for tensor in own}

    def _pyro_post_param(self, msg: Any) -> None:
        value = msg["value"]
        if id(getattr(value, "unconstrained", lambda: value)()) not in self.own:
            raise Uncapturable(f"pyro.param('{msg['name']}') is in the parameter store; make it an nn.Parameter of a module")


def record(pure: Pure, tensors: Sequence[Tensor], dynamic: bool = False) -> GraphModule:
    """The graph of a pure pass that has run once, with static shapes or for every batch size.

    It is recorded at other numbers than those it is compared at later, so that a value which leaves torch's sight (say by
    `.numpy()`) and stays in the graph as a constant shows: parameters are 1.6 % off, data in the reverse order. Batches are
    of a size that is no other dimension's, or the two would be taken for one.

    Arguments:
        tensors: parameters, buffers and arguments. Nothing of them is changed, nor are the random streams.

    Raises:
        Whatever torch does, for a pass that cannot be recorded, such as one that branches on data.
    """
    p, b = pure.count
    arguments = [tensor.detach() for tensor in tensors[p + b :]]
    if dynamic and arguments and arguments[0].dim():
        size, taken = len(arguments[0]), {n for tensor in tensors for n in tensor.shape}
        other = next(n for n in range(size + 2, size + 10_000) if n not in taken)
        index = torch.arange(other, device=arguments[0].device) % size
        arguments = [t.index_select(0, index) if t.dim() and len(t) == size else t for t in arguments]
    arguments = [t.flip(0) if t.dim() else t.clone() for t in arguments]
    parameters = [t.detach() * (1 + 1 / 64) for t in tensors[:p]]
    buffers = [t.detach().clone() for t in tensors[p : p + b]]
    cuda = {t.device for t in tensors if t.is_cuda}
    with torch.random.fork_rng(devices=list(cuda)), torch.no_grad():
        traced = make_fx(pure, tracing_mode="symbolic" if dynamic else "real")(*parameters, *buffers, *arguments)
    _keep_draws(traced)
    traced.graph.eliminate_dead_code()
    traced.recompile()
    return traced


def _keep_draws(traced: GraphModule) -> None:
    """Makes unused random numbers outputs: left out, every later draw would be another than that of the eager pass."""
    output = next(iter(reversed(traced.graph.nodes)))
    unused = [node for node in traced.graph.nodes if _draws(node) and not node.users]
    output.args = ([*output.args[0], *unused],)


def _draws(node: Node) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
