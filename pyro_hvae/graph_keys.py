"""What a captured graph depends on besides the numbers in its tensors."""

import operator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyro_hvae.tracing import Places

__all__ = ["GraphKey", "Keys"]


class GraphKey(NamedTuple):
    """Equal for two passes exactly where one graph serves both.

    Attributes:
        arguments: shape, dtype and device of each. plain: numbers, flags (`training` among them) and texts of every module.
        parameters: whether each is trained, its dtype and device. switches: torch's global ones.
    """

    arguments: tuple[tuple[torch.Size, torch.dtype, torch.device], ...]
    plain: tuple[Any, ...]
    parameters: tuple[tuple[bool, torch.dtype, torch.device], ...]
    switches: tuple[Any, ...]

    @property
    def size(self) -> int:
        """The batch size: the first dim of the first argument."""
        shape = self.arguments[0][0] if self.arguments else ()
        return shape[0] if shape else 1

    def any_size(self) -> "GraphKey":
        """The same for batches of every size."""
        return self._replace(arguments=tuple([(shape[1:], dtype, device) for shape, dtype, device in self.arguments]))


class Keys:
    """Makes the keys of a module's passes. It is asked before every step: a key takes some ten microseconds.

    Attributes:
        places: where the module's tensors are.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._look()

    def _look(self) -> None:
        self.places = Places(self.module)
        holders = [vars(m) for m in self.places.modules]
        # An ELBO is no module; Pyro's and ours keep settings in it all the same.
        holders += [vars(elbo) for m in self.places.modules if hasattr(elbo := getattr(m, "elbo", None), "__dict__")]
        names = [[k for k, v in values.items() if isinstance(v, bool | int | float | str)] for values in holders]
        self._plain = [(operator.itemgetter(*n), values, n) for n, values in zip(names, holders, strict=True) if n]

    def of(self, arguments: tuple[Tensor, ...]) -> GraphKey:
        """The key of a pass over these arguments, as things are now."""
        if not self.places.current():
            self._look()
        # Lists inside, for they are faster than generators.
        return GraphKey(
            tuple([(t.shape, t.dtype, t.device) for t in arguments]),
            tuple([getter(values) for getter, values, _ in self._plain]),
            tuple([(t.requires_grad, t.dtype, t.device) for t in self.places.parameters]),
            (torch.get_default_dtype(), torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")),
        )

    def difference(self, one: GraphKey, two: GraphKey) -> str:
        """What of two keys is not the same, for people."""
        if one.arguments != two.arguments:
            return "the shape, dtype or device of an argument"
        for (_, values, names), left, right in zip(self._plain, one.plain, two.plain, strict=False):
            pairs = zip(names, *((part,) if len(names) == 1 else part for part in (left, right)), strict=True)
            for name, before, now in pairs:
                if before != now:
                    owner = next((m for m in self.places.modules if vars(m) is values), None)
                    return f"'{name}'" + (f" of {type(owner).__name__}" if owner is not None else "") + f" ({before} to {now})"
        return "a global switch of torch" if one.parameters == two.parameters else "which parameters are trained, or where"

    def names(self) -> tuple[list[str], list[str]]:
        """Of parameters and buffers, as the module calls them."""
        named = {id(t): name for name, t in [*self.module.named_parameters(), *self.module.named_buffers()]}
        return [named[id(t)] for t in self.places.parameters], [named[id(t)] for t in self.places.buffers]
