"""Names of torch that may go with any version: all stand in this file, and each use has a way without them."""

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.optim import Optimizer

COMPILE = "torch._inductor.compile"
ADAM, ADAMW = "torch._fused_adam_", "torch._fused_adamw_"
HOOKS = "torch.optim.optimizer._global_optimizer_pre_hooks", "torch.optim.optimizer._global_optimizer_post_hooks"
MODES = "torch.overrides._get_current_function_mode_stack"
DEPTH = "torch._C._len_torch_function_stack"
DEVICE = "torch.utils._device.DeviceContext"
NAMES = (COMPILE, ADAM, ADAMW, *HOOKS, MODES, DEPTH, DEVICE)


@cache
def find(name: str) -> Any | None:
    """What torch calls by this name, or None where this version has none."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        return None


def describe_missing() -> str | None:
    """A sentence about names that make a step fast and that this version of torch lacks; None where it has all."""
    missing = [name for name in (COMPILE, ADAM, ADAMW) if find(name) is None]
    if not missing:
        return None
    return f"torch {torch.__version__} has no {', '.join(missing)}: a step takes longer, with the same results"


def direct_compiler() -> Callable[..., Any] | None:
    """Inductor without Dynamo: a graph, example inputs and options -> a function that checks no input."""
    return find(COMPILE)


def fused_adam(optimizer: Optimizer) -> Callable[..., Any] | None:
    """The operation with which the fused step of an Adam or AdamW changes its parameters."""
    return find(ADAMW if isinstance(optimizer, torch.optim.AdamW) else ADAM)


def has_step_hooks(optimizer: Optimizer) -> bool:
    """Whether a step calls anything but the optimiser; True where this cannot be seen."""
    own = [getattr(optimizer, f"_optimizer_step_{when}_hooks", True) for when in ("pre", "post")]
    return any([True if hooks is None else bool(hooks) for hooks in (*own, *map(find, HOOKS))])


def function_modes() -> list[Any]:
    """The modes around torch's functions now, such as `network_precision`, except a default device."""
    modes, device = find(MODES), find(DEVICE)
    return [mode for mode in modes() if device is None or not isinstance(mode, device)] if modes else []


def in_function_mode() -> bool:
    """Whether any mode is around torch's functions, a default device among them; True where this cannot be seen."""
    depth = find(DEPTH)
    return depth is None or depth() > 0
