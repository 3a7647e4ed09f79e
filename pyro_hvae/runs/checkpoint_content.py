"""The content of a run's checkpoint: looked through before use, and compared with the pair and the optimiser it goes into."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from pyro_hvae.errors import CheckpointError, DivergenceError, HVAEError
from pyro_hvae.objectives import Objective
from pyro_hvae.runs.checkpoints import load_checkpoint
from pyro_hvae.runs.file_schema import ANY, Kind, find_misfit

TENSORS = {...: ANY}  # compared with the module that takes them
RANDOM_STATE: Kind = {"torch": torch.Tensor, "cuda": [torch.Tensor], "numpy": [ANY], "python": [ANY]}
CHECKPOINT: Kind = {
    "stage": int,
    "step": int,
    "steps": int,
    "lengths?": [int],
    "programs": [{"model": TENSORS, "guide": TENSORS}],
    "session": {
        "t": int,
        "optimizer": {"state": {...: TENSORS}, "param_groups": [{"params": [int], ...: ANY}]},
        "schedule": TENSORS,
        "batches": {"generator": torch.Tensor, "position": int},
        "flatness?": {"epochs": [float], "count": int, "sum": torch.Tensor, "weights": {...: float}},
        ...: ANY,
    },
    "rng": RANDOM_STATE,
    "rng_of_others?": [RANDOM_STATE],  # of the processes that trained the run beside the first
    "best": float,
    "best_at?": int,
    "waited?": int,
    "rows?": int,
    "compile?": bool,
    "config?": {...: ANY},
    ...: ANY,
}
ADVICE = "Use the run's other checkpoint (last or best) if that one is whole, or train again."


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads the checkpoint of a run; raises `CheckpointError` for entries that are missing, of another kind or out of range."""
    content = load_checkpoint(path)
    if misfit := find_misfit(content, CHECKPOINT, "content") or _find_wrong_number(content):
        raise CheckpointError(f"checkpoint '{path}' is not one of a run: {misfit}. {ADVICE}")
    return content


def _find_wrong_number(content: Mapping[str, Any]) -> str | None:
    """What is wrong with the numbers of stage and steps, or None."""
    stage, step, steps, t = content["stage"], content["step"], content["steps"], content["session"]["t"]
    number = len(content["programs"])
    lengths = content.get("lengths")  # older runs have none
    if not 0 <= stage < number:
        return f"stage {stage} of {number}"
    if lengths is not None and (len(lengths) != number or min(lengths) < 0):
        return f"{number} stages of lengths {list(lengths)}"
    longest, before = (lengths[stage], sum(lengths[:stage])) if lengths else (steps, step - t)
    if not (0 <= t <= longest and step <= steps and step == before + t and before >= 0):
        return f"step {t} of {longest} in stage {stage}, and step {step} of {steps} in all"
    return None


@contextmanager
def refuse_larger_pairs(content: Mapping[str, Any], path: Path) -> Iterator[None]:
    """Stops building a pair at the first weight that is larger than the checkpoint's programs altogether, before it is filled.

    Raises:
        CheckpointError: for such a weight, or one that does not go into memory.
    """
    programs = [program for programs in content["programs"] for program in programs.values()]
    most = sum(value.numel() for program in programs for value in program.values() if isinstance(value, Tensor))

    def check(module: nn.Module, name: str, weight: nn.Parameter | None) -> None:
        if weight is not None and weight.numel() > most:
            raise CheckpointError(
                f"checkpoint '{path}' does not fit its configuration: that asks for a weight of {weight.numel():,} numbers, "
                f"and all of the checkpoint's have {most:,}."
            )

    hook = register_module_parameter_registration_hook(check)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def explain_misfit(path: Path) -> Iterator[None]:
    """Turns an error in using the content of a checkpoint into a `CheckpointError`."""
    try:
        yield
    except HVAEError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split("\n\t")[:2])
        raise CheckpointError(f"checkpoint '{path}' does not fit its configuration: {reason}") from error


def restore_pair(objective: Objective, programs: Mapping[str, Any], path: Path) -> None:
    """Loads the weights of a checkpoint into a pair.

    Raises:
        CheckpointError: for weights of other names, shapes or dtypes. DivergenceError: for weights that are not finite.
    """
    with explain_misfit(path):
        for name, module in (("model", objective.model), ("guide", objective.guide)):
            check_tensors(module.state_dict(), programs[name], name)
            _check_finite(module, programs[name], path)
            lacking, further = module.load_state_dict(programs[name], strict=False)
            _refuse_other_names(lacking, further, name, path)


def check_tensors(own: Mapping[str, Any], saved: Mapping[str, Any], where: str, exact: bool = True) -> None:
    """Raises `ValueError` for saved tensors of other shapes or dtypes than a module's own; names are compared by torch.

    Arguments:
        exact: compare dtypes; otherwise only whether they are floating point (Apple's devices have no float64).
    """
    for key, value in own.items():
        if not isinstance(value, Tensor) or key not in saved:
            continue
        if not isinstance(other := saved[key], Tensor):
            raise ValueError(f"{where}.{key} is a {type(other).__name__}, not a tensor.")
        alike = other.dtype == value.dtype or not exact and other.is_floating_point() and value.is_floating_point()
        if other.shape != value.shape or not alike:
            raise ValueError(
                f"{where}.{key} has shape {tuple(other.shape)} and {other.dtype}, where the pair has "
                f"{tuple(value.shape)} and {value.dtype}."
            )


def _refuse_other_names(lacking: Sequence[str], further: Sequence[str], where: str, path: Path) -> None:
    """Raises `CheckpointError` for weights that are missing or that the module does not have."""
    parts = list[str]()
    for what, keys in {"lacks": lacking, "also holds": further}.items():
        if keys:
            more = f" and {len(keys) - 3:,} more" if len(keys) > 3 else ""
            parts.append(f"it {what} {', '.join(f'{where}.{key}' for key in keys[:3])}{more}")
    if parts:
        raise CheckpointError(
            f"checkpoint '{path}' does not fit its configuration: {', and '.join(parts)}. The run was trained by a version of "
            "pyro-hvae, or a program, whose networks were others. Train it again, or open it with that version."
        )


def _check_finite(module: nn.Module, saved: Mapping[str, Any], path: Path) -> None:
    """Raises `DivergenceError` for weights that are not finite; a buffer may be as far as it is so from the start."""
    weights = {name for name, _ in module.named_parameters()}
    for key, own in module.state_dict().items():
        value = saved.get(key)
        if not isinstance(value, Tensor) or value.isfinite().all():
            continue
        if key in weights or own.isfinite().all():
            raise DivergenceError(
                f"the weights of '{path}' are no numbers: its training diverged (first in '{key}'), and nothing can be "
                "computed with them. Use --checkpoint best if that one is finite, or train again with a smaller learning rate."
            )


# State of torch's optimisers that is never negative; a root of it would be NaN.
NON_NEGATIVE = ("step", "exp_avg_sq", "exp_inf", "max_exp_avg_sq", "square_avg", "sum")


def restore_optimizer(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Loads the state of a checkpoint, such as Adam's moments; the settings stay the optimiser's own.

    Raises:
        ValueError: for state that does not fit the parameters, which torch's fused kernels take unseen.
    """
    groups = optimizer.state_dict()["param_groups"]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if [group["params"] for group in saved["param_groups"]] != [group["params"] for group in groups]:
        raise ValueError(f"the optimiser of the checkpoint is not one of {len(parameters)} parameters.")
    fresh = _state_after_one_step(optimizer, parameters) if saved["state"] else {}
    for number, state in saved["state"].items():
        if type(number) is not int or not 0 <= number < len(parameters):
            raise ValueError(f"the optimiser's state names parameter {number!r} of {len(parameters)}.")
        where, own = f"optimizer[{number}]", fresh.get(number, {})
        if set(state) != set(own):
            raise ValueError(f"{where} holds {sorted(map(str, state))}, not {sorted(own)}.")
        check_tensors(own, state, where)
        for key, value in state.items():
            if isinstance(own[key], Tensor) != isinstance(value, Tensor) or not isinstance(value, Tensor | float | int | None):
                raise ValueError(f"{where}.{key} is a {type(value).__name__}, not a {type(own[key]).__name__}.")
            number_or_tensor = torch.as_tensor(0 if value is None else value)
            if not number_or_tensor.isfinite().all() or (key in NON_NEGATIVE and bool((number_or_tensor < 0).any())):
                raise ValueError(f"{where}.{key} is infinite, NaN or negative.")
    optimizer.load_state_dict({"state": dict(saved["state"]), "param_groups": groups})


def _state_after_one_step(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> dict[int, dict[str, Any]]:
    """What an optimiser holds of each parameter, by a step with gradients of zero that leaves the parameters as they were."""
    before = [parameter.detach().clone() for parameter in parameters]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    with torch.no_grad():
        for parameter, value in zip(parameters, before, strict=True):
            parameter.copy_(value)
            parameter.grad = None
    return optimizer.state_dict()["state"]
