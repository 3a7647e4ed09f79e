"""Looking at a program without leaving traces in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

__all__ = ["evaluated"]


@contextmanager
def evaluated(*programs: Any) -> Iterator[None]:
    """Puts programs into evaluation mode, and every module of them back into its own: some may be frozen there.

    A pass in training mode would move the running statistics of batch normalisation.

    >>> norm = nn.BatchNorm1d(2)
    >>> with evaluated(norm):
    ...     norm.training
    False
    >>> norm.training
    True
    """
    modules = [module for program in programs if isinstance(program, nn.Module) for module in program.modules()]
    before = [(module, module.training) for module in modules]
    try:
        for module, _ in before:
            module.training = False
        yield
    finally:
        for module, training in before:
            module.training = training
