"""Compares the results of a graph with those of the eager pass, up to rounding."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from pyro_hvae.compilation.pure_function import PureFunction

# Relative to the norm, by the coarsest dtype on the way: much more than another order of sums, much less than a wrong graph.
TOLERANCE = {torch.float64: 1e-7, torch.float32: 0.02}
COARSE = 0.15  # for bfloat16 and the like
FAINT = 1e-3  # of the largest norm: a smaller tensor may be all rounding of what cancels


def tolerance(dtypes: Iterable[torch.dtype]) -> float:
    """Largest relative difference of norms that is accepted where these dtypes take part."""
    return max([TOLERANCE.get(dtype, COARSE) for dtype in dtypes if dtype.is_floating_point], default=0.0)


def describe_deviation(
    names: Sequence[str], expected: Sequence[Tensor], found: Sequence[Tensor], within: float = TOLERANCE[torch.float32]
) -> str | None:
    """Name and relative difference of the tensor that differs most, or None where all tensors agree up to rounding.

    Numbers that are not finite agree with each other. The scale of a tensor is its norm, at least `FAINT` of the largest norm.

    >>> one, two = torch.ones(3), torch.zeros(2)
    >>> describe_deviation(["a", "b"], [one, two], [one * (1 + 1e-6), two])
    >>> describe_deviation(["a", "b"], [one, two], [one * 1.5, two])
    "'a' is 50 % off"
    """
    norms = [_norm(tensor) for tensor in expected]
    largest = max([norm for norm, tensor in zip(norms, expected, strict=True) if tensor.is_floating_point()], default=0.0)
    worst = 0.0, ""
    for name, one, two, norm in zip(names, expected, found, norms, strict=True):
        if one.shape != two.shape or one.dtype != two.dtype:
            return f"'{name}' is {two.dtype} of shape {tuple(two.shape)} instead of {one.dtype} of {tuple(one.shape)}"
        if not torch.equal(one.isfinite(), two.isfinite()):
            return f"'{name}' is not finite where it should be, or the other way round"
        scale = max(norm, FAINT * largest) if one.is_floating_point() else norm
        off = _norm(one.double() - two.double()) / scale if scale else _norm(two)
        if off > max(worst[0], within if one.is_floating_point() else 0.0):
            worst = off, name
    return f"'{worst[1]}' is {100 * worst[0]:.2g} % off" if worst[1] else None


def describe_pass_deviation(
    pure: PureFunction,
    names: tuple[Sequence[str], Sequence[str]],
    expected: Sequence[Tensor],
    found: Sequence[Tensor],
    within: float,
) -> str | None:
    """As `describe_deviation` for a pass: outputs, gradients and buffers each by themselves, for a loss exceeds any gradient.

    Arguments:
        names: of the parameters and of the buffers.
    """
    assert pure.changed is not None
    parameters, buffers = names
    outputs = list(pure.names or ("output",))
    start = 0
    for group in (outputs, [f"gradient of {parameters[i]}" for i in pure.trained], [buffers[i] for i in pure.changed]):
        part = slice(start, start + len(group))
        if off := describe_deviation(group, expected[part], found[part], within):
            return off
        start += len(group)
    return None


def _norm(tensor: Tensor) -> float:
    return tensor.detach().double().nan_to_num(0.0, 0.0, 0.0).norm().item()
