"""When to stop: a loss that no longer falls."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_hvae.errors import ConfigError

__all__ = ["PlateauRule", "PlateauDetector"]


@dataclass(frozen=True)
class PlateauRule:
    """A loss is flat when its mean over an epoch is within `tolerance` (relative) of that `epochs` epochs before.

    Raises:
        ConfigError: for less than an epoch, or a tolerance that is not positive.
    """

    epochs: int = 5
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        if self.epochs < 1 or not self.tolerance > 0:
            raise ConfigError(
                f"a loss is compared with that of at least one epoch before, by a positive tolerance; got {self.epochs} epochs "
                f"and {self.tolerance}."
            )


class PlateauDetector:
    """The mean losses of epochs so far, and whether they have become flat.

    A loss under other weights (a warm-up's) is another loss: what was seen before is forgotten.

    Arguments:
        rule: what flat means; None is never. batches: in an epoch.

    >>> seen = PlateauDetector(PlateauRule(epochs=1, tolerance=0.1), batches=2)
    >>> for loss in (4.0, 2.0, 2.9, 2.9): seen.add(torch.tensor(loss))
    >>> seen.epochs, seen.reached
    ([3.0, 2.9000000953674316], True)
    """

    def __init__(self, rule: PlateauRule | None, batches: int) -> None:
        self.rule, self.batches = rule, max(1, batches)
        self.weights: dict[str, float] = {}
        self._forget()

    def _forget(self) -> None:
        self.epochs: list[float] = []
        self.count, self.sum = 0, torch.zeros(())

    def add(self, loss: Tensor, weights: Mapping[str, float] | None = None) -> None:
        """The loss of one more batch, under these weights of sites; read off its device once an epoch."""
        if self.rule is None:
            return
        if (weights := dict(weights or {})) != self.weights:
            self._forget()
            self.weights = weights
        self.count, self.sum = self.count + 1, self.sum + loss.detach()
        if self.count == self.batches:
            self.epochs.append(self.sum.item() / self.count)
            self.count, self.sum = 0, torch.zeros(())

    @property
    def reached(self) -> bool:
        """Whether the last whole epoch was as the one so many before it; it stays so until the next epoch ends."""
        if self.rule is None or len(self.epochs) <= self.rule.epochs:
            return False
        before, now = self.epochs[-1 - self.rule.epochs], self.epochs[-1]
        return abs(now - before) < self.rule.tolerance * abs(before)

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs, "count": self.count, "sum": self.sum, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epochs, self.count, self.sum = list(state["epochs"]), state["count"], state["sum"]
        self.weights = dict(state["weights"])
