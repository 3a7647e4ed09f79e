"""The order in which a graph's convolutions want the numbers of an image to lie."""

from typing import Any

import torch
from torch.fx import GraphModule, Node

__all__ = ["channels_last"]

aten = torch.ops.aten
INPUT = {aten.convolution.default: 0, aten.convolution_backward.default: 1}  # operation -> which of its arguments


def channels_last(traced: GraphModule) -> None:
    """Hands two-dimensional convolutions their inputs with the channels last, once for the pass and its gradient.

    That is how a CPU's are fastest, and Inductor otherwise writes each input three times: as it was, and for each of the two.
    """
    for node in list(traced.graph.nodes):
        uses = [user for user in node.users if _input_of_2d(user) is node]
        if uses:
            with traced.graph.inserting_after(node):
                last = traced.graph.call_function(aten.clone.default, (node,), {"memory_format": torch.channels_last})
            node.replace_all_uses_with(last, delete_user_cb=lambda user, uses=uses: user in uses)
    traced.recompile()


def _input_of_2d(node: Node) -> Any:
    """The input of a two-dimensional convolution (or of its gradient), else None."""
    which = INPUT.get(node.target)  # pyright: ignore[reportArgumentType, reportCallIssue]
    if which is None or len(node.args[3 + which]) != 2:  # pyright: ignore[reportArgumentType]
        return None
    return node.args[which]
