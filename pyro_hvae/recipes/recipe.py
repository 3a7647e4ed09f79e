"""The recipe of a system, and the stages that it builds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pyro_hvae.data import Batch, Rows
from pyro_hvae.errors import ConfigError
from pyro_hvae.objectives import Objective
from pyro_hvae.schedules import PlateauRule


@dataclass(frozen=True, eq=False)
class Pixels:
    """A pair over x that shares the parameters of a stage that trains on features of x.

    Attributes:
        model, guide: a pair that keeps the contract, for pictures and codes. Its density is not what was trained.
        space: what the trained pair's "x" is, for the protocol of its likelihood.
        reconstruct: x -> x decoded from its features, the best reconstruction that features allow.
        variance: x -> the variance of features over all places of all images, now and when the stage began; None if fixed.
    """

    model: nn.Module
    guide: nn.Module
    space: str
    reconstruct: Callable[[Tensor], Tensor]
    variance: Callable[[Tensor], tuple[float, float]] | None = None


@dataclass(frozen=True)
class Stage:
    """One stage of a recipe: what is trained, on which view of the data, for which share of the steps.

    Attributes:
        objective: the pair and its bound.
        share: this stage's proportion of the run's steps, relative to the other stages'.
        view: a batch of x -> what this stage trains on, such as an earlier one's features, without gradient; None is x itself.
        before: called once, when this stage begins after those before it are trained.
        schedule: options of the schedule for this stage alone.
        data: training and validation data of the stage's own, in the place of the run's.
        keep: compute the view, which costs more than a step, once when the stage begins, and hold it in memory where it fits.
        settings: training settings (see `TrainConfig`) for this stage alone.
        until: ends the stage early, when its loss is flat (without the constants of p(x | z)).
        pixels: the pair over x, for a stage that trains on features.
    """

    name: str
    objective: Objective
    share: float = 1.0
    view: Callable[[Tensor], Tensor] | None = None
    before: Callable[[], None] | None = None
    schedule: Mapping[str, Any] = field(default_factory=dict)
    data: tuple[Rows, Rows] | None = None
    keep: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    until: PlateauRule | None = None
    pixels: Pixels | None = None

    def view_of(self, x: Tensor | Batch | Rows, device: torch.device) -> Rows:
        """The stage's view of x on a device, computed when it is read."""
        rows = Rows.of(x).to(device)
        return rows.map(self.view) if self.view else rows

    def training_data(self, x: Tensor | Batch | Rows, device: torch.device) -> Rows:
        """The stage's view of its training data, in a run whose training data are x."""
        return self._hold(self.view_of(self.data[0] if self.data else x, device))

    def validation_data(self, x: Tensor | Batch | Rows, device: torch.device) -> Rows:
        """The stage's view of its validation data, in a run whose validation data are x."""
        return self._hold(self.view_of(self.data[1] if self.data else x, device))

    def _hold(self, rows: Rows) -> Rows:
        return rows.load_into_memory() if self.keep else rows


@dataclass(frozen=True)
class Recipe:
    """A named system.

    Attributes:
        build: (x, **options) -> stages, with x the training data: its shape sets the networks, its mean their start.
        paper: its authors and year. summary: one line for `list`.
        schedule: the default. refused: name of a schedule -> why it does not go with this recipe.
        crops: `build` takes a second argument: side in pixels -> `Dataset` of squares of what the images are made of.
    """

    build: Callable[..., list[Stage]]
    paper: str
    summary: str
    schedule: str = "constant"
    refused: dict[str, str] | None = None
    crops: bool = False


def stage_lengths(steps: int, stages: Sequence[Stage]) -> list[int]:
    """Steps per stage in the proportions of their shares, at least one each, `steps` in total.

    Raises:
        ConfigError: for fewer steps than stages.
    """
    if steps < len(stages):
        raise ConfigError(f"{steps} steps are fewer than the {len(stages)} stages of this recipe. Use at least one for each.")
    total, lengths = sum(stage.share for stage in stages), list[int]()
    for left in reversed(range(len(stages))):  # a step remains for each stage that follows
        end = round(steps * sum(stage.share for stage in stages[: len(stages) - left]) / total)
        done = sum(lengths)
        lengths.append(min(max(1, end - done), steps - done - left) if left else steps - done)
    return lengths
