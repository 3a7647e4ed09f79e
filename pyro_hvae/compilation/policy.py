"""Whether an evaluation is long enough to be compiled, and the lines on standard error about it."""

import sys

import torch
from tqdm import tqdm

from pyro_hvae.compilation.inductor import compile_obstacle

__all__ = ["CHAIN", "WORK", "compiles", "remark"]

# Rows through a model from which on compiling pays. A graph costs 3 to 10 seconds of a slow core and spares 0.6 to 1.3
# microseconds a row, with small networks and with large ones.
WORK = 10_000_000
CHAIN = 500  # rows that cost as much as what every step of a chain costs whatever their number


def compiles(asked: bool | None, what: str, counts: str, work: int, device: torch.device) -> bool:
    """Whether to compile: as asked, else where the work is enough to pay for it; says so on standard error if it decides to.

    It goes by numbers that were typed, not by the clock, so that the same command does the same everywhere there is a compiler.

    Arguments:
        what: is compiled; counts: that make up the work, both for people. work: rows through the model.

    >>> compiles(None, "the model", "500 data x 50 samples", 500 * 50, torch.device("cpu"))
    False
    """
    if asked is not None:
        return asked
    if work < WORK or compile_obstacle(device):
        return False
    remark(f"Compiling {what}, for which {counts} pay (--no-compile).")
    return True


def remark(text: str) -> None:
    """A line on standard error, above the bars there."""
    tqdm.write(text, file=sys.stderr)
