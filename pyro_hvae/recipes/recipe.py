"""What a recipe is: a function from training data to stages, and where it comes from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pyro_hvae.data import Rows
from pyro_hvae.errors import ConfigError
from pyro_hvae.objectives.elbo import Objective
from pyro_hvae.schedules.plateau import PlateauRule

__all__ = ["Pixels", "Recipe", "Stage", "stage_lengths"]


@dataclass(frozen=True, eq=False)
class Pixels:
    """What a stage that sees features of x offers over x itself, with the same parameters.

    Attributes:
        model, guide: a pair that keeps the contract, for pictures and codes. Its density is not what was trained.
        space: what the trained pair's "x" is, for the protocol of its likelihood.
        decoded: x -> x as the features alone keep it, the best reconstruction that there can be.
        variance: x -> variance of the features over all places of all images, and the value that it had when the stage began;
            None where features are fixed.
    """

    model: nn.Module
    guide: nn.Module
    space: str
    decoded: Callable[[Tensor], Tensor]
    variance: Callable[[Tensor], tuple[float, float]] | None = None


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
        data: training and validation data of the stage's own, in the place of the run's.
        keep: the view, which costs more than a step, is made once, when the stage begins, and held in memory where it fits.
        settings: training settings (see `TrainConfig`) that are this stage's own.
        until: the stage ends before its share of the steps does when its loss is flat (without the constants of p(x | z)).
        pixels: what is shown of a stage that sees features.
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

    def sees(self, x: Tensor | Rows, device: torch.device) -> Rows:
        """The stage's view of data, given out on a device."""
        rows = Rows.of(x).to(device)
        return rows.map(self.view) if self.view else rows

    def trains_on(self, x: Tensor | Rows, device: torch.device) -> Rows:
        """What the stage trains on, of a run whose training data are x; nothing is read yet."""
        return self.sees(self.data[0] if self.data else x, device)

    def learns_from(self, x: Tensor | Rows, device: torch.device) -> Rows:
        """The same, read and held where the stage keeps it."""
        return self._held(self.trains_on(x, device))

    def judged_on(self, x: Tensor | Rows, device: torch.device) -> Rows:
        """What the stage is validated on, of a run whose validation data are x."""
        return self._held(self.sees(self.data[1] if self.data else x, device))

    def _held(self, rows: Rows) -> Rows:
        return rows.load_into_memory() if self.keep else rows


@dataclass(frozen=True)
class Recipe:
    """A named system.

    Attributes:
        build: (x, **options) -> stages, with x the training data: its shape sets the networks, its mean their start.
        paper: where it comes from. summary: one line for `list`.
        schedule: the default.
        refused: schedule name -> why it makes no sense here.
        crops: its builder takes a second argument, a function from a side in pixels to a `Dataset` of squares of what the
            images are made of.
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
    total = sum(stage.share for stage in stages)
    ends = [round(steps * sum(s.share for s in stages[: i + 1]) / total) for i in range(len(stages))]
    lengths = [max(1, end - start) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    lengths[-1] = max(1, steps - sum(lengths[:-1]))
    return lengths
