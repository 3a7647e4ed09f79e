"""Whether a run is long enough to be compiled."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from pyro_hvae.compilation.inductor import compile_obstacle
from pyro_hvae.runs.config import TrainConfig

__all__ = ["decided"]

# Steps from which on compiling pays. The first graph costs 10 to 20 seconds of a slow core the first time and every other some
# three more; the smallest networks are spared 1 ms a step (see docs/performance.md).
FIRST, EACH = 5_000, 2_000


def decided(config: TrainConfig, lengths: Sequence[int], kinds: int, device: torch.device) -> tuple[TrainConfig, str]:
    """The settings with `compile` decided where it was left open, and a line that says so; an empty one where it was not.

    It goes by numbers of steps alone, so that the same command does the same everywhere there is a compiler.

    Arguments:
        lengths: steps of the stages. kinds: how many graphs they need, all together.
    """
    if config.compile is not None or config.engine == "svi":
        return replace(config, compile=bool(config.compile)), ""
    no, steps, enough = "Training eagerly", sum(lengths), FIRST + EACH * (kinds - 1)
    if why := compile_obstacle(device):
        return replace(config, compile=False), f"{no}: {why}"
    if steps < enough or min(lengths) < EACH:
        return replace(config, compile=False), f"{no}: {steps:,} steps are too few for compiling to pay (--compile does it)."
    return replace(config, compile=True), f"Compiling the training step, which pays from {enough:,} steps on (--no-compile)."
