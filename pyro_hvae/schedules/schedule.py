"""The base class of schedules, and the schedule that holds beta fixed."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyro_hvae.errors import ConfigError


class GateAlphas(NamedTuple):
    """Site -> alpha of its gate, from 0 (closed) to 1 (open), in the model and in the guide."""

    model: dict[str, float]
    guide: dict[str, float]


class Schedule(nn.Module):
    """Holds beta and a step counter. `update` runs once per batch, after the pass and before the optimiser's step.

    Attributes:
        measure: of the constraint that it needs, a key of `MEASURES` in `objectives.estimate`, a function (see `Geco`) or None.
        initial: whether only the parameters that reach log p(x|z) may be stepped now (REWO's initial phase).
        pass_kinds: number of kinds of passes in a run; each needs a graph of its own.
        unique_pass: whether the next pass is the only one of its kind, so that its graph would serve one call.
        gradient_scale: how many times (C + beta F) / max(1, beta) the loss is that `weights` give. Logged losses, the limit of
            divergence and `grad_clip` are those of this quotient under every schedule.
    """

    beta: Tensor
    t: Tensor
    measure: str | Callable[..., Any] | None = None
    initial: bool = False
    pass_kinds: int = 1
    unique_pass: bool = False
    gradient_scale: float = 1.0

    def __init__(self, beta: float) -> None:
        super().__init__()
        if not beta > 0:
            raise ConfigError(f"beta must be positive, got {beta!r}.")
        self.register_buffer("beta", torch.tensor(float(beta), dtype=torch.float64))
        self.register_buffer("t", torch.tensor(0))

    def start(self, steps: int, layers: Sequence[str] = ()) -> None:
        """Prepares for a run, before its first step. A schedule that has been used starts afresh.

        Arguments:
            steps: planned length of the run. layers: the sites whose gates may move, from the top down.
        """
        if not hasattr(self, "_fresh"):
            self._fresh = {name: value.clone() for name, value in self.state_dict().items()}
        self.load_state_dict(self._fresh)

    def update(self, constraint: Tensor | None = None) -> None:
        """Moves to the next state, given the batch mean of C (0-dim, detached)."""
        self.t += 1

    def weights(self) -> dict[str, Tensor]:
        """Site -> weight for `Estimate.loss`."""
        return {"x": 1.0 / self.beta}

    @property
    def final(self) -> bool:
        """Whether the loss is now that of the end of the run, so that a validation bound may choose the best parameters."""
        return not self.initial

    @property
    def settled(self) -> bool:
        """Whether warm-up, initial phase and the like are over, so that a bound that no longer rises may end the training."""
        return self.final

    def gate_alphas(self) -> GateAlphas | None:
        """Positions of the gates during the next pass; None for a schedule that does not move them."""
        return None

    def log(self) -> dict[str, Tensor]:
        """Name -> value for the metrics of this step."""
        return {"beta": self.beta}

    def require_usable(self) -> None:
        """Raises `ConfigError` where what the schedule watches cannot move beta; waits for the device."""


class Constant(Schedule):
    """A fixed beta: 1 gives the bound itself, larger values the beta-VAE (loss divided by beta, see `Estimate.loss`)."""

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__(beta)
        self.plain = beta == 1.0

    def weights(self) -> dict[str, Tensor]:
        return {} if self.plain else super().weights()
