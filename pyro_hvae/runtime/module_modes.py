"""Training and evaluation mode of modules."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def evaluation_mode(*programs: Any) -> Iterator[None]:
    """Puts programs into evaluation mode for the block, and afterwards every module of them back into its own mode.

    A pass in training mode would change the running statistics of batch normalisation.

    >>> norm = nn.BatchNorm1d(2)
    >>> with evaluation_mode(norm):
    ...     norm.training
    False
    >>> norm.training
    True
    """
    before = {m: m.training for program in programs if isinstance(program, nn.Module) for m in program.modules()}
    try:
        for module in before:
            module.training = False
        yield
    finally:
        for module, training in before.items():
            module.training = training
