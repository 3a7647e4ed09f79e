"""The key of a captured graph: everything that the graph depends on except the numbers in its tensors."""

import operator
from types import FunctionType, ModuleType, NoneType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyro_hvae.compilation.argument_layout import Layout
from pyro_hvae.compilation.pure_function import TensorSlots
from pyro_hvae.compilation.torch_private import in_function_mode
from pyro_hvae.errors import ConfigError

# Attributes of these types count by value (a tensor by identity).
PLAIN = (bool, int, float, str, NoneType, torch.dtype, torch.device, Tensor)
OWN = set(vars(nn.Module())) - {"training"}  # attributes of torch; `TensorSlots` covers tensors and modules


class GraphKey(NamedTuple):
    """Two passes have equal keys exactly where one graph serves both.

    Attributes:
        arguments: shape, strides, dtype and device of each tensor. layout: of these in batches, and the names of inputs.
        plain: numbers, flags (`training` among them), texts and the like of every module, and of settings that it holds in
            an object of their own. contents: of its lists, dicts and settings. objects: identities of all other attributes.
        parameters: whether each is trained, its shape, strides, dtype, device and hooks. buffers: the same but for the first
            and the last.
        generation: counts changes of the module's sub-modules and names. switches: torch's global ones.

    Nothing checks the inputs of compiled code again (see `GraphRunner`).
    """

    arguments: tuple[tuple[Any, ...], ...]
    plain: tuple[Any, ...]
    contents: tuple[Any, ...]
    objects: tuple[int, ...]
    parameters: tuple[tuple[Any, ...], ...]
    buffers: tuple[tuple[Any, ...], ...]
    generation: int
    layout: Layout
    switches: tuple[Any, ...]

    @property
    def size(self) -> int:
        """The batch size: the first dim of the first argument."""
        shape: Any = self.arguments[0][0] if self.arguments else ()
        return shape[0] if shape else 1

    def any_size(self) -> "GraphKey":
        """The same key for batches of every size."""
        return self._replace(arguments=tuple([(shape[1:], *rest[1:]) for shape, *rest in self.arguments]))


class KeyReader:
    """Reads the keys of a module's passes. A key precedes every step, and takes some ten microseconds.

    Attributes:
        slots: where the module's tensors are.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.generation, self._structure, self._alive = 0, list[Any](), list[Any]()
        self._inspect()

    def _inspect(self) -> None:
        """Finds what a key reads: the attributes of all modules and settings, by kind."""
        self.slots = TensorSlots(self.module)
        modules = self.slots.modules
        self._holders = [vars(m) for m in modules]
        # An ELBO is no module, nor is a dataclass of settings, but a graph depends on what they hold.
        settings = ((holder, k, v) for holder in self._holders for k, v in holder.items() if k not in OWN and _is_settings(v))
        self._settings = list(settings)
        inspected = {id(value) for _, _, value in self._settings}
        self._holders += list({id(value): vars(value) for _, _, value in self._settings}.values())
        hooks = (d for m in modules for d in (m._forward_hooks, m._forward_pre_hooks))
        self._growing = [*self._holders, *hooks]
        self._lengths = list(map(len, self._growing))
        structure = [[m, *m._parameters, *m._buffers, *m._modules, *m._forward_hooks, *m._forward_pre_hooks] for m in modules]
        structure += [[value for _, _, value in self._settings]]
        if structure != self._structure:
            self._structure, self.generation = structure, self.generation + 1
        self._plain, self._contents, self._objects = [], [], []
        for holder in self._holders:
            names = [name for name in holder if name not in OWN]
            if plain := [name for name in names if _is_plain(holder[name])]:
                self._plain.append((operator.itemgetter(*plain), holder, plain))
            for name in [name for name in names if name not in plain and id(holder[name]) not in inspected]:
                nested = isinstance(holder[name], tuple | list | dict) or _is_settings(holder[name])
                (self._contents if nested else self._objects).append((holder, name))
        self._alive += [holder[name] for holder, name in self._objects]  # else another object could take over an identity

    def read(self, arguments: tuple[Any, ...], layout: Layout = ()) -> GraphKey:
        """The key of a pass over these arguments in the present state of the module.

        Raises:
            ConfigError: for an argument that is no tensor.
        """
        replaced = [k for holder, k, v in self._settings if holder.get(k) is not v]
        if replaced or not self.slots.unchanged() or list(map(len, self._growing)) != self._lengths:
            self._inspect()
        try:
            return self._read(arguments, layout)
        except (KeyError, TypeError):  # an attribute is gone, or can no longer be compared
            self._inspect()
            return self._read(arguments, layout)
        except AttributeError:
            wrong = next((type(a).__name__ for a in arguments if not isinstance(a, Tensor)), None)
            if wrong is None:
                raise
            raise ConfigError(f"the arguments of a captured module are tensors, got {wrong}. Use torch.tensor(...).") from None

    def _read(self, arguments: tuple[Tensor, ...], layout: Layout) -> GraphKey:
        # Lists inside the tuples, because they are faster than generators.
        key = GraphKey(
            tuple([(t.shape, t.stride(), t.dtype, t.device) for t in arguments]),
            tuple([getter(holder) for getter, holder, _ in self._plain]),
            tuple([_contents(holder[name]) for holder, name in self._contents]),
            tuple([id(holder[name]) for holder, name in self._objects]),
            tuple(
                [
                    (t.requires_grad, t.shape, t.stride(), t.dtype, t.device, not t._backward_hooks)
                    for t in self.slots.parameters
                ]
            ),
            tuple([(t.shape, t.stride(), t.dtype, t.device) for t in self.slots.buffers]),
            self.generation,
            layout,
            (
                torch.get_default_dtype(),
                torch.is_autocast_enabled("cpu"),
                torch.is_autocast_enabled("cuda"),
                # Asked only inside a mode: torch's function takes as long as the rest of a key.
                torch.get_default_device() if in_function_mode() else None,
                torch.get_num_threads(),
                torch.are_deterministic_algorithms_enabled(),
            ),
        )
        hash(key)
        return key

    def describe_difference(self, one: GraphKey, two: GraphKey) -> str:
        """What differs between two keys, as text."""
        if one.layout != two.layout:
            return "what is given beside the data"
        if one.arguments != two.arguments:
            return "the shape, dtype or device of an argument"
        for (_, values, names), left, right in zip(self._plain, one.plain, two.plain, strict=False):
            pairs = zip(names, *((part,) if len(names) == 1 else part for part in (left, right)), strict=True)
            for name, before, now in pairs:
                if before != now:
                    owner = next((f" of {type(m).__name__}" for m in self.slots.modules if vars(m) is values), "")
                    return f"'{name}'{owner} ({before} to {now})"
        contents = zip(self._contents, one.contents, two.contents, strict=False)
        objects = zip(self._objects, one.objects, two.objects, strict=False)
        if names := [name for (_, name), left, right in (*contents, *objects) if left != right]:
            return f"'{names[0]}'"
        if one.generation != two.generation or one.plain != two.plain or one.contents != two.contents:
            return "the set of attributes or sub-modules"
        if one.buffers != two.buffers:
            return "the shape, dtype or device of a buffer"
        return "a global switch of torch" if one.parameters == two.parameters else "which parameters are trained, or where"

    def tensor_names(self) -> tuple[list[str], list[str]]:
        """The module's names of its parameters and of its buffers."""
        named = {id(t): name for name, t in [*self.module.named_parameters(), *self.module.named_buffers()]}
        return [named[id(t)] for t in self.slots.parameters], [named[id(t)] for t in self.slots.buffers]


def _is_plain(value: Any) -> bool:
    return isinstance(value, PLAIN) or (isinstance(value, tuple | frozenset) and all(map(_is_plain, value)))


def _contents(value: Any, depth: int = 4) -> Any:
    """Plain values as they are, containers and settings by their contents, everything else by identity."""
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
