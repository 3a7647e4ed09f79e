"""What is checked of computed tensors: that they agree with others up to rounding, and lie in memory of their own."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

__all__ = ["apart", "shared", "tolerance"]

# Of the norm, by the coarsest numbers on the way. Kernels that sum in another order differ by much less, what was captured
# wrongly by much more.
TOLERANCE = {torch.float64: 1e-7, torch.float32: 0.02}
COARSE = 0.15  # of bfloat16 and the like
FAINT = 1e-3  # of the largest norm; below it rounding in what cancels is all there is


def tolerance(dtypes: Iterable[torch.dtype]) -> float:
    """How far apart the norms of what is computed in these may be, relative to them."""
    return max([TOLERANCE.get(dtype, COARSE) for dtype in dtypes if dtype.is_floating_point], default=0.0)


def apart(
    names: Sequence[str], expected: Sequence[Tensor], found: Sequence[Tensor], within: float = TOLERANCE[torch.float32]
) -> str | None:
    """The name and the distance of the worst of several tensors that are not the same up to rounding; None if all are.

    Numbers that are not finite agree with others that are not. A tensor much smaller than the largest of them is held to that.

    >>> one, two = torch.ones(3), torch.zeros(2)
    >>> apart(["a", "b"], [one, two], [one * (1 + 1e-6), two])
    >>> apart(["a", "b"], [one, two], [one * 1.5, two])
    "'a' is 50 % off"
    """
    norms = [_norm(tensor) for tensor in expected]
    largest = max([norm for norm, tensor in zip(norms, expected, strict=True) if tensor.is_floating_point()], default=0.0)
    worst = None
    for name, one, two, norm in zip(names, expected, found, norms, strict=True):
        if one.shape != two.shape or one.dtype != two.dtype:
            return f"'{name}' is {two.dtype} of shape {tuple(two.shape)} instead of {one.dtype} of {tuple(one.shape)}"
        if not torch.equal(one.isfinite(), two.isfinite()):
            return f"'{name}' is not finite where it should be, or the other way round"
        scale = max(norm, FAINT * largest) if one.is_floating_point() else norm
        off = _norm(one.double() - two.double()) / scale if scale else _norm(two)
        if off > (within if one.is_floating_point() else 0.0) and off > (worst or (0.0,))[0]:
            worst = off, name
    return f"'{worst[1]}' is {100 * worst[0]:.2g} % off" if worst else None


def _norm(tensor: Tensor) -> float:
    return tensor.detach().double().nan_to_num(0.0, 0.0, 0.0).norm().item()


def shared(values: Sequence[Tensor], given: Sequence[Tensor]) -> tuple[int, ...]:
    """Which of the values a graph returned lie in the memory of another, or of what it was given, or overlap themselves."""
    taken, found = {t.untyped_storage().data_ptr() for t in given}, []
    for i, value in enumerate(values):
        place = value.untyped_storage().data_ptr()
        if place in taken or 0 in [stride for stride, n in zip(value.stride(), value.shape, strict=True) if n > 1]:
            found.append(i)
        taken.add(place)
    return tuple(found)
