"""Records a pure function of tensors as one graph."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode

from pyro_hvae.compilation.pure_function import PureFunction, Uncapturable

aten = torch.ops.aten
READS = {torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.__array__}


def record_graph(pure: PureFunction, tensors: Sequence[Tensor], dynamic: bool = False) -> GraphModule:
    """The graph of a pure function that has run once, with static shapes or for every batch size.

    The numbers during recording differ from those of the comparison that follows, which therefore detects a value that left
    torch and became a constant of the graph: parameters are 1.6 % off, data are in reverse order. The batch size is one that no
    other dimension has, because torch would take equal sizes for the same symbol.

    Arguments:
        tensors: parameters, buffers and arguments. Neither they nor the random streams change.

    Raises:
        Uncapturable: for a pass that reads numbers off tensors, or whose sizes depend on them.
        Whatever torch raises, for a pass that cannot be recorded for other reasons.
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
    devices = list({t.device for t in tensors if t.is_cuda})
    with torch.random.fork_rng(devices=devices), torch.no_grad(), _RefuseReads():
        traced = make_fx(pure, tracing_mode="symbolic" if dynamic else "real")(*parameters, *buffers, *arguments)
    nodes, unused = traced.graph.nodes, []
    for node in nodes:
        if _has_data_dependent_size(node):
            raise Uncapturable(f"the size of the result of '{node.target}' depends on the data")
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()) and not node.users:
            unused.append(node)
        if node.target is aten.view.default:
            node.target = aten.reshape.default  # a view of data in another layout than these would be an error
    # Unused random numbers become outputs. Without them every later draw would differ from that of the eager pass.
    output = next(iter(reversed(nodes)))
    output.args = ([*output.args[0], *unused],)
    traced.graph.eliminate_dead_code()
    traced.recompile()
    return traced


class _RefuseReads(TorchFunctionMode):
    """Refuses reads of numbers, which would be constants of the graph. Torch itself refuses `.item()` and branches."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in READS:
            raise Uncapturable(f"it reads numbers off a tensor (.{func.__name__}), which would stay in the graph as they are")
        return func(*args, **(kwargs or {}))


def graph_dtypes(traced: GraphModule) -> set[torch.dtype]:
    """The dtypes of everything that a graph computes."""
    return {value.dtype for node in traced.graph.nodes if isinstance(value := node.meta.get("val"), Tensor)}


def _has_data_dependent_size(node: Node) -> bool:
    if torch.Tag.dynamic_output_shape not in getattr(node.target, "tags", ()):
        return False
    if node.target not in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default):
        return True
    indices: Any = node.args[1]
    return any(i is not None and i.meta["val"].dtype in (torch.bool, torch.uint8) for i in indices)


def describe_error(error: Exception | None) -> str:
    """What went wrong, short enough for one line of a terminal."""
    error = getattr(error, "inner_exception", error)  # inside torch's error about a failed compiler
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if isinstance(error, Uncapturable):
        return text
    if "value out of a tracing tensor" in text or "data-dependent" in text:
        return "it branches on the numbers of a tensor, or reads them off (.item())"
    return f"{type(error).__name__}: {text[:200]}".rstrip(".:")
