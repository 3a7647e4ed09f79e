"""Detects that a loss no longer falls, which ends a stage."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_hvae.errors import ConfigError


@dataclass(frozen=True)
class PlateauRule:
    """A plateau is reached when the mean loss of an epoch is within `tolerance` (relative) of that `epochs` epochs before."""

    epochs: int = 5
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        if self.epochs < 1 or not self.tolerance > 0:
            raise ConfigError(
                f"a plateau needs a comparison over at least one epoch, and a positive tolerance; got {self.epochs} epochs and "
                f"{self.tolerance}. The default is 5 epochs and 0.001."
            )


class PlateauDetector:
    """Collects the mean losses of epochs, and says whether they have reached a plateau.

    A loss under other weights (those of a warm-up) is another loss, before which everything is forgotten.

    Arguments:
        rule: of the plateau; None never reaches one. batches: in an epoch.

    >>> detector = PlateauDetector(PlateauRule(epochs=1, tolerance=0.1), batches=2)
    >>> for loss in (4.0, 2.0, 2.9, 2.9): detector.add(torch.tensor(loss))
    >>> detector.epochs, detector.reached
    ([3.0, 2.9000000953674316], True)
    """

    def __init__(self, rule: PlateauRule | None, batches: int) -> None:
        self.rule, self.batches = rule, max(1, batches)
        self._restart({})

    def _restart(self, weights: dict[str, float]) -> None:
        self.weights, self.epochs = weights, list[float]()
        self.count, self.sum = 0, torch.zeros(())

    def add(self, loss: Tensor, weights: Mapping[str, float] | None = None) -> None:
        """Adds the loss of one batch under these weights of sites. Reads it off its device once an epoch."""
        if self.rule is None:
            return
        if (weights := dict(weights or {})) != self.weights:
            self._restart(weights)
        self.count, self.sum = self.count + 1, self.sum + loss.detach()
        if self.count == self.batches:
            self.epochs.append(self.sum.item() / self.count)
            self.count, self.sum = 0, torch.zeros(())

    @property
    def reached(self) -> bool:
        """Whether the last whole epoch satisfies the rule. The answer holds until the next epoch ends."""
        if self.rule is None or len(self.epochs) <= self.rule.epochs:
            return False
        before, now = self.epochs[-1 - self.rule.epochs], self.epochs[-1]
        return abs(now - before) < self.rule.tolerance * abs(before)

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs, "count": self.count, "sum": self.sum, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epochs, self.weights = list(state["epochs"]), dict(state["weights"])
        if not 0 <= state["count"] < self.batches or state["sum"].shape:
            raise ValueError(f"the sum of {state['count']} of {self.batches} losses has shape {tuple(state['sum'].shape)}.")
        self.count, self.sum = state["count"], state["sum"]
