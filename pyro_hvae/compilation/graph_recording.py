"""A pure pass recorded as one graph."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode

from pyro_hvae.compilation.pure_function import Pure, Uncapturable

__all__ = ["dtypes", "reason", "record"]

aten = torch.ops.aten
ESCAPES = {torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.__array__}


def record(pure: Pure, tensors: Sequence[Tensor], dynamic: bool = False) -> GraphModule:
    """The graph of a pure pass that has run once, with static shapes or for every batch size.

    It is recorded at other numbers than those it is compared at later, so that a value which leaves torch's sight and stays in
    the graph as a constant shows: parameters are 1.6 % off, data in the reverse order. Batches are of a size that is no other
    dimension's, or the two would be taken for one.

    Arguments:
        tensors: parameters, buffers and arguments. Nothing of them is changed, nor are the random streams.

    Raises:
        Uncapturable: for a pass that reads numbers off tensors, or whose sizes depend on them.
        Whatever torch does, for a pass that cannot be recorded for other reasons.
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
    with torch.random.fork_rng(devices=list(cuda)), torch.no_grad(), _NoEscape():
        traced = make_fx(pure, tracing_mode="symbolic" if dynamic else "real")(*parameters, *buffers, *arguments)
    for node in traced.graph.nodes:
        if _depends_on_data(node):
            raise Uncapturable(
                f"the size of what '{getattr(node.target, '__name__', node.target)}' returns depends on the data"
            )
    _keep_draws(traced)
    _strides_may_differ(traced)
    traced.graph.eliminate_dead_code()
    traced.recompile()
    return traced


class _NoEscape(TorchFunctionMode):
    """Numbers that leave torch would be constants of the graph; torch refuses `.item()` and branches by itself."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in ESCAPES:
            raise Uncapturable(f"it reads numbers off a tensor (.{func.__name__}), which would stay in the graph as they are")
        return func(*args, **(kwargs or {}))


def dtypes(traced: GraphModule) -> set[torch.dtype]:
    """Of everything that a graph computes."""
    values = (node.meta.get("val") for node in traced.graph.nodes)
    return {value.dtype for value in values if isinstance(value, Tensor)}


def _depends_on_data(node: Node) -> bool:
    if torch.Tag.dynamic_output_shape not in getattr(node.target, "tags", ()):
        return False
    if node.target not in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default):
        return True
    indices: Any = node.args[1]
    return any(i is not None and i.meta["val"].dtype in (torch.bool, torch.uint8) for i in indices)


def _keep_draws(traced: GraphModule) -> None:
    """Makes unused random numbers outputs: left out, every later draw would be another than that of the eager pass."""
    output = next(iter(reversed(traced.graph.nodes)))
    unused = [node for node in traced.graph.nodes if _draws(node) and not node.users]
    output.args = ([*output.args[0], *unused],)


def _draws(node: Node) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _strides_may_differ(traced: GraphModule) -> None:
    """A view of data in another layout than those recorded would be an error; `reshape` is a view wherever it can be."""
    for node in traced.graph.nodes:
        if node.target is aten.view.default:
            node.target = aten.reshape.default


def reason(error: Exception | None) -> str:
    """What went wrong, short enough for one line of a terminal."""
    error = getattr(error, "inner_exception", error)  # of what torch says of a backend that failed
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if isinstance(error, Uncapturable):
        return text
    if "value out of a tracing tensor" in text or "data-dependent" in text:
        return "it branches on the numbers of a tensor, or reads them off (.item())"
    return f"{type(error).__name__}: {text[:200]}".rstrip(".:")
