"""What a schedule is, and the one that holds beta fixed."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pyro_hvae.errors import ConfigError

__all__ = ["GateAlphas", "Constant", "Schedule"]


class GateAlphas(NamedTuple):
    """Site -> how far its gate is open, in the model and in the guide."""

    model: dict[str, float]
    guide: dict[str, float]


class Schedule(nn.Module):
    """Base: beta and a step counter. `update` runs once per batch, after the pass and before the step."""

    beta: Tensor
    t: Tensor
    measure: str | None = None  # which C it needs: a key of estimates.MEASURES, or None

    def __init__(self, beta: float) -> None:
        super().__init__()
        if not beta > 0:
            raise ConfigError(f"beta must be positive, got {beta!r}.")
        self.register_buffer("beta", torch.tensor(float(beta), dtype=torch.float64))
        self.register_buffer("t", torch.tensor(0))

    def start(self, steps: int, layers: Sequence[str] = ()) -> None:
        """Told of the run before its first step; a schedule used again starts afresh.

        Arguments:
            steps: its planned length. layers: the sites whose gates may be moved, from the top down.
        """
        if not hasattr(self, "_fresh"):
            self._fresh = {name: value.clone() for name, value in self.state_dict().items()}
        self.load_state_dict(self._fresh)

    def update(self, constraint: Tensor | None = None) -> None:
        """Takes the batch mean of C (0-dim, detached) and moves to the next state."""
        self.t += 1

    def weights(self) -> dict[str, Tensor]:
        """Site -> weight for `Estimate.loss`."""
        return {"x": 1.0 / self.beta}

    @property
    def initial(self) -> bool:
        """Whether only the parameters that reach log p(x|z) may be stepped now (REWO's initial phase)."""
        return False

    @property
    def final(self) -> bool:
        """Whether what is trained now is what is wanted in the end, so that a validation bound may choose the best."""
        return not self.initial

    @property
    def pass_kinds(self) -> int:
        """How many kinds of passes a run has, each of which would be a graph of its own: here, one."""
        return 1

    @property
    def unique_pass(self) -> bool:
        """Whether the next pass is the only one of its kind, so that a graph of it would serve but once."""
        return False

    def gate_alphas(self) -> GateAlphas | None:
        """Where the gates are during the next pass; None for a schedule that leaves them alone."""
        return None

    def log(self) -> dict[str, Tensor]:
        """What to write into the metrics at this step."""
        return {"beta": self.beta}


class Constant(Schedule):
    """A fixed beta: 1 is the bound itself, larger values are the beta-VAE (loss divided by beta, see `Estimate.loss`)."""

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__(beta)
        self.plain = beta == 1.0

    def weights(self) -> dict[str, Tensor]:
        return {} if self.plain else super().weights()
