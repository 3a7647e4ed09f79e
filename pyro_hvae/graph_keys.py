"""What a captured graph depends on besides the numbers in its tensors."""

import operator
import random
from types import FunctionType, ModuleType, NoneType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pyro_hvae.errors import ConfigError
from pyro_hvae.tracing import Places

__all__ = ["GraphKey", "Keys", "other_streams"]

# Attributes that are taken as they are, a tensor for the object that it is, and those whose contents are taken.
PLAIN = (bool, int, float, str, NoneType, torch.dtype, torch.device, Tensor)
FIXED, CONTAINERS = (tuple, frozenset), (list, dict)
OWN = set(vars(nn.Module())) - {"training"}  # torch's; `Places` looks after tensors and modules


class GraphKey(NamedTuple):
    """Equal for two passes exactly where one graph serves both.

    Attributes:
        arguments: shape, strides, dtype and device of each.
        plain: numbers, flags (`training` among them), texts and the like of every module, and of settings that it holds in
            an object of their own. contents: of its lists and dicts of these.
        parameters: whether each is trained, its shape, dtype, device and hooks. buffers: shape, dtype and device.
        generation: of the module, which begins anew when it gets other sub-modules or names. switches: torch's global ones.
    """

    arguments: tuple[tuple[Any, ...], ...]
    plain: tuple[Any, ...]
    contents: tuple[Any, ...]
    parameters: tuple[tuple[Any, ...], ...]
    buffers: tuple[tuple[Any, ...], ...]
    generation: int
    switches: tuple[Any, ...]

    @property
    def size(self) -> int:
        """The batch size: the first dim of the first argument."""
        shape: Any = self.arguments[0][0] if self.arguments else ()
        return shape[0] if shape else 1

    def any_size(self) -> "GraphKey":
        """The same for batches of every size."""
        return self._replace(arguments=tuple([(shape[1:], *rest[1:]) for shape, *rest in self.arguments]))


class Keys:
    """Makes the keys of a module's passes. It is asked before every step: a key takes some ten microseconds.

    Attributes:
        places: where the module's tensors are.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.generation, self._structure = 0, list[Any]()
        self._look()

    def _look(self) -> None:
        self.places = Places(self.module)
        self._holders = [vars(m) for m in self.places.modules]
        # An ELBO is no module, nor is a dataclass of settings; what is in them counts all the same.
        settings = [value for holder in self._holders for value in holder.values() if _is_settings(value)]
        self._holders += list({id(value): vars(value) for value in settings}.values())
        hooks = (kept for m in self.places.modules for kept in (m._forward_hooks, m._forward_pre_hooks))
        self._growing = [*self._holders, *hooks]
        self._lengths = list(map(len, self._growing))
        structure = [
            [m, *m._parameters, *m._buffers, *m._modules, *m._forward_hooks, *m._forward_pre_hooks] for m in self.places.modules
        ]
        if structure != self._structure:
            self._structure, self.generation = structure, self.generation + 1
        self._plain, self._contents = [], []
        for holder in self._holders:
            if names := [name for name, value in holder.items() if name not in OWN and _is_plain(value)]:
                self._plain.append((operator.itemgetter(*names), holder, names))
            self._contents += [
                (holder, k) for k, v in holder.items() if k not in OWN and isinstance(v, CONTAINERS) and _flat(v)
            ]

    def of(self, arguments: tuple[Any, ...]) -> GraphKey:
        """The key of a pass over these arguments, as things are now.

        Raises:
            ConfigError: for an argument that is no tensor.
        """
        if not self.places.current() or list(map(len, self._growing)) != self._lengths:
            self._look()
        try:
            return self._of(arguments)
        except (KeyError, TypeError):  # an attribute is gone, or has become something that cannot be compared
            self._look()
            return self._of(arguments)
        except AttributeError:
            wrong = next((type(a).__name__ for a in arguments if not isinstance(a, Tensor)), None)
            if wrong is None:
                raise
            raise ConfigError(f"the arguments of a captured module are tensors, got {wrong}. Use torch.tensor(...).") from None

    def _of(self, arguments: tuple[Tensor, ...]) -> GraphKey:
        # Lists inside, for they are faster than generators.
        key = GraphKey(
            tuple([(t.shape, t.stride(), t.dtype, t.device) for t in arguments]),
            tuple([getter(holder) for getter, holder, _ in self._plain]),
            tuple([tuple(v.items()) if type(v := holder[name]) is dict else tuple(v) for holder, name in self._contents]),
            tuple([(t.requires_grad, t.shape, t.dtype, t.device, not t._backward_hooks) for t in self.places.parameters]),
            tuple([(t.shape, t.dtype, t.device) for t in self.places.buffers]),
            self.generation,
            (torch.get_default_dtype(), torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")),
        )
        hash(key)
        return key

    def hooked(self) -> bool:
        """Whether a parameter's gradient goes through hooks, which no graph would call."""
        return any(p._backward_hooks or p._post_accumulate_grad_hooks for p in self.places.parameters)

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
        for (_, name), left, right in zip(self._contents, one.contents, two.contents, strict=False):
            if left != right:
                return f"'{name}'"
        if one.generation != two.generation or one.plain != two.plain or one.contents != two.contents:
            return "what attributes or sub-modules there are"
        if one.buffers != two.buffers:
            return "the shape, dtype or device of a buffer"
        return "a global switch of torch" if one.parameters == two.parameters else "which parameters are trained, or where"

    def names(self) -> tuple[list[str], list[str]]:
        """Of parameters and buffers, as the module calls them."""
        named = {id(t): name for name, t in [*self.module.named_parameters(), *self.module.named_buffers()]}
        return [named[id(t)] for t in self.places.parameters], [named[id(t)] for t in self.places.buffers]


def _is_plain(value: Any) -> bool:
    return isinstance(value, PLAIN) or (isinstance(value, FIXED) and all(map(_is_plain, value)))


def _flat(value: Any) -> bool:
    """Whether a list or dict holds plain values alone."""
    return all(map(_is_plain, value.values() if isinstance(value, dict) else value))


def _is_settings(value: Any) -> bool:
    return hasattr(value, "__dict__") and not isinstance(value, (nn.Module, Tensor, type, FunctionType, ModuleType))


def other_streams() -> tuple[Any, ...]:
    """The states of Python's and NumPy's random numbers, which a graph does not draw from."""
    kind, keys, *rest = np.random.get_state()
    return random.getstate(), kind, keys.tobytes(), *rest  # type: ignore[union-attr]
