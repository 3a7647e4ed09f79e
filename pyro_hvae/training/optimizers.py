"""Optimisers by name, and those of a user's own, checked before a run begins."""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from pyro_hvae.errors import ConfigError, require_known
from pyro_hvae.runs import OPTIMIZERS, OWN

MakeOptimizer = Callable[[list[Parameter]], Optimizer]
# The names of `runs.OPTIMIZERS`. All have torch's default settings but for the learning rate.
CLASSES: dict[str, Callable[..., Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adamax": torch.optim.Adamax,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
    "sgd": torch.optim.SGD,
}
FUSED = ("adam", "adamw", "sgd")  # one kernel for all parameters, on CPU and CUDA


def check_optimizer(optimizer: Any) -> None:
    """Raises `ConfigError` for what is neither a name nor a function of the parameters."""
    if isinstance(optimizer, str):
        require_known("optimizer", optimizer, OPTIMIZERS)
    elif not callable(optimizer):
        what = type(optimizer).__name__ if isinstance(optimizer, Optimizer) else repr(optimizer)
        raise ConfigError(
            f"optimizer={what} is neither a name ({', '.join(OPTIMIZERS)}) nor a function of the parameters. "
            "Example: optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=1e-3)."
        )


def make_optimizer(
    name: str, parameters: Sequence[Parameter], lr: float, device: torch.device, own: MakeOptimizer | None = None
) -> Optimizer:
    """The optimiser called `name` with a learning rate, or the one that `own` makes of the parameters.

    Raises:
        ConfigError: for an optimiser of one's own that was not handed over, is none, leaves parameters out, or needs a closure.
    """
    if own is None and name == OWN:
        raise ConfigError(
            "this run was trained with an optimiser of a script. Hand it over: hv.fit(..., optimizer=lambda parameters: ...)."
        )
    if own is None:
        more: dict[str, Any] = {"fused": device.type in ("cpu", "cuda")} if name in FUSED else {}
        return CLASSES[name](list(parameters), lr=lr, **more)
    optimizer = own(list(parameters))
    if not isinstance(optimizer, Optimizer):
        raise ConfigError(
            f"optimizer= is a function of the parameters that returns a torch optimiser, but it returned "
            f"{type(optimizer).__name__}. Example: optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=1e-3)."
        )
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ConfigError(
            f"{type(optimizer).__name__} calls the loss several times in a step (a closure), but a step here has one batch and "
            "one draw of the noise, at which its line search or curvature would be of other functions. Use AdamW or SGD."
        )
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if missing := sum(id(parameter) not in held for parameter in parameters):
        raise ConfigError(
            f"the optimiser holds {len(parameters) - missing} of the {len(parameters)} parameters, so the others would stay as "
            "they are. Give it all that the function is called with, or freeze the others by requires_grad_(False)."
        )
    return optimizer


def learning_rate(lr: float, decay: float, step: int, steps: int, floor: float = 0.02) -> float:
    """lr, taken down to `floor` of itself by a cosine over the last fraction `decay` of the steps; step = 1 ... steps.

    >>> [round(learning_rate(1.0, 0.5, t, 100), 3) for t in (1, 50, 75, 100)]
    [1.0, 1.0, 0.5, 0.02]
    """
    start = (1 - decay) * steps
    if step <= start or decay == 0:
        return lr
    return lr * max(floor, 0.5 * (1 + math.cos(math.pi * (step - start) / (steps - start))))
