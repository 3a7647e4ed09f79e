"""What a recipe is: a function from training data to stages, and where it comes from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pyro_hvae.data import Rows
from pyro_hvae.objectives import Objective

__all__ = ["Recipe", "Stage"]


@dataclass(frozen=True)
class Stage:
    """One stage of a recipe: what is trained, on which view of the data, for which share of the steps.

    Attributes:
        objective: the pair and its bound.
        share: this stage's proportion of the run's steps, relative to the other stages'.
        view: maps a batch of the data set's x to what this stage trains on (a later stage may see an earlier one's
            features), without gradient; None is x itself.
        before: called once, when this stage begins after those before it are trained.
        schedule: options of the schedule that are this stage's own.
    """

    name: str
    objective: Objective
    share: float = 1.0
    view: Callable[[Tensor], Tensor] | None = None
    before: Callable[[], None] | None = None
    schedule: Mapping[str, Any] = field(default_factory=dict)

    def sees(self, x: Tensor | Rows, device: torch.device) -> Rows:
        """The stage's view of data, given out on a device."""
        rows = Rows.of(x).to(device)
        return rows.map(self.view) if self.view else rows


@dataclass(frozen=True)
class Recipe:
    """A named system.

    Attributes:
        build: (x, **options) -> stages, with x the training data: its shape sets the networks, its mean their start.
        paper: where it comes from. summary: one line for `list`.
        schedule: the default.
        refused: schedule name -> why it makes no sense here.
    """

    build: Callable[..., list[Stage]]
    paper: str
    summary: str
    schedule: str = "constant"
    refused: dict[str, str] | None = None
