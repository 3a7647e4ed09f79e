"""What a captured graph depends on besides the numbers in its tensors."""

import operator
from types import FunctionType, ModuleType, NoneType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._device import DeviceContext

from pyro_hvae.compilation.pure_function import Places
from pyro_hvae.errors import ConfigError

__all__ = ["GraphKey", "Keys", "function_modes"]

# Attributes that are taken by value (a tensor for the object that it is); of these containers the contents are taken.
PLAIN = (bool, int, float, str, NoneType, torch.dtype, torch.device, Tensor)
CONTAINERS = (tuple, list, dict)
OWN = set(vars(nn.Module())) - {"training"}  # torch's; `Places` looks after tensors and modules


class GraphKey(NamedTuple):
    """Equal for two passes exactly where one graph serves both.

    Attributes:
        arguments: shape, strides, dtype and device of each.
        plain: numbers, flags (`training` among them), texts and the like of every module, and of settings that it holds in
            an object of their own. contents: of its lists, dicts and settings. objects: identities of all other attributes.
        parameters: whether each is trained, its shape, dtype, device and hooks. buffers: shape, dtype and device.
        generation: of the module, which begins anew when it gets other sub-modules or names. switches: torch's global ones.
    """

    arguments: tuple[tuple[Any, ...], ...]
    plain: tuple[Any, ...]
    contents: tuple[Any, ...]
    objects: tuple[int, ...]
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
        self.generation, self._structure, self._alive = 0, list[Any](), list[Any]()
        self._look()

    def _look(self) -> None:
        self.places = Places(self.module)
        self._holders = [vars(m) for m in self.places.modules]
        # An ELBO is no module, nor is a dataclass of settings; what is in them counts all the same.
        self._settings = [(holder, k, v) for holder in self._holders for k, v in holder.items() if _is_settings(v)]
        apart = {id(value) for _, _, value in self._settings}
        self._holders += list({id(value): vars(value) for _, _, value in self._settings}.values())
        hooks = (kept for m in self.places.modules for kept in (m._forward_hooks, m._forward_pre_hooks))
        self._growing = [*self._holders, *hooks]
        self._lengths = list(map(len, self._growing))
        structure = [
            [m, *m._parameters, *m._buffers, *m._modules, *m._forward_hooks, *m._forward_pre_hooks] for m in self.places.modules
        ]
        structure += [[value for _, _, value in self._settings]]
        if structure != self._structure:
            self._structure, self.generation = structure, self.generation + 1
        self._plain, self._contents, self._objects = [], [], []
        for holder in self._holders:
            names = [name for name in holder if name not in OWN]
            if plain := [name for name in names if _is_plain(holder[name])]:
                self._plain.append((operator.itemgetter(*plain), holder, plain))
            for name in [name for name in names if name not in plain and id(holder[name]) not in apart]:
                (self._contents if _is_nested(holder[name]) else self._objects).append((holder, name))
        self._alive += [holder[name] for holder, name in self._objects]  # or another could have its identity

    def of(self, arguments: tuple[Any, ...]) -> GraphKey:
        """The key of a pass over these arguments, as things are now.

        Raises:
            ConfigError: for an argument that is no tensor.
        """
        replaced = [k for holder, k, v in self._settings if holder.get(k) is not v]
        if replaced or not self.places.current() or list(map(len, self._growing)) != self._lengths:
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
            tuple([_contents(holder[name]) for holder, name in self._contents]),
            tuple([id(holder[name]) for holder, name in self._objects]),
            tuple([(t.requires_grad, t.shape, t.dtype, t.device, not t._backward_hooks) for t in self.places.parameters]),
            tuple([(t.shape, t.dtype, t.device) for t in self.places.buffers]),
            self.generation,
            (
                torch.get_default_dtype(),
                torch.is_autocast_enabled("cpu"),
                torch.is_autocast_enabled("cuda"),
                _default_device(),
            ),
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
        contents = zip(self._contents, one.contents, two.contents, strict=False)
        objects = zip(self._objects, one.objects, two.objects, strict=False)
        if names := [name for (_, name), left, right in (*contents, *objects) if left != right]:
            return f"'{names[0]}'"
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
    return isinstance(value, PLAIN) or (isinstance(value, tuple | frozenset) and all(map(_is_plain, value)))


def _is_nested(value: Any) -> bool:
    return isinstance(value, CONTAINERS) or _is_settings(value)


def _contents(value: Any, depth: int = 4) -> Any:
    """Plain values as they are, containers and settings by what is in them, everything else for the object that it is."""
    if isinstance(value, PLAIN):
        return value
    if depth and isinstance(value, dict):
        return tuple([(key, _contents(v, depth - 1)) for key, v in value.items()])
    if depth and isinstance(value, tuple | list):
        return tuple([_contents(v, depth - 1) for v in value])
    if depth and _is_settings(value):
        return _contents(vars(value), depth - 1)
    return id(value)


def _is_settings(value: Any) -> bool:
    return hasattr(value, "__dict__") and not isinstance(value, (nn.Module, Tensor, type, FunctionType, ModuleType))


def function_modes() -> list[Any]:
    """What stands around torch's functions now, such as `networks_in`, but for a default device."""
    if not torch._C._len_torch_function_stack():
        return []
    return [mode for mode in torch.overrides._get_current_function_mode_stack() if not isinstance(mode, DeviceContext)]


def _default_device() -> torch.device | None:
    """Where new tensors are made, if anybody has said so; torch's own function for it takes as long as the rest of a key."""
    return torch.get_default_device() if torch._C._len_torch_function_stack() else None
