"""Detects losses that are no longer usable; reads them off their device once for many steps."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from pyro_hvae.runtime import average_values
from pyro_hvae.training.training_step import StepResult

BLOCK = 100  # largest number of steps between two checks
FACTOR = 1e6  # times the first loss, or nats where that is below one


class DivergenceDetector:
    """Collects the losses of steps as tensors, and checks that all are finite and at most a million times the first.

    Arguments:
        weight: the share of this process in a batch. Losses are averaged over all processes, which so find the same.

    >>> from pyro_hvae.objectives.estimate import Terms
    >>> detector = DivergenceDetector()
    >>> for step, loss in enumerate((2.0, math.nan, math.nan), 1):
    ...     detector.add(step, StepResult(torch.tensor(loss), Terms({"x": torch.tensor([-loss])}, 1, 0.0), None))
    >>> detector.check()
    (2, "the loss became nan at step 2; worst site 'x' (mean |log-ratio| nan)")
    """

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight
        self.first: float | None = None
        self.losses: list[tuple[int, Tensor]] = []
        self.terms: list[Mapping[str, Tensor]] = []

    def __len__(self) -> int:
        """Number of steps since the last check."""
        return len(self.losses)

    def add(self, step: int, result: StepResult) -> None:
        # A CUDA graph writes its next results where its last ones are.
        self.losses.append((step, result.loss.clone()))
        if result.loss.is_cuda:
            self.terms.clear()
        self.terms.append(result.terms.terms)

    def starts_above(self, limit: float) -> bool:
        """Whether the first loss of all was beyond a limit or not finite; asked after a check."""
        return self.first is not None and not abs(self.first) <= limit

    def check(self) -> tuple[int, str] | None:
        """The first step since the last check whose loss is not usable, with a message, or None; waits for the device."""
        if not self.losses:
            return None
        losses = average_values({"loss": torch.stack([loss for _, loss in self.losses])}, self.weight)["loss"].tolist()
        steps, terms = [step for step, _ in self.losses], self.terms
        self.losses, self.terms = [], []
        self.first = losses[0] if self.first is None else self.first
        limit = FACTOR * max(1.0, abs(self.first))
        for i, (step, loss) in enumerate(zip(steps, losses, strict=True)):
            if not math.isfinite(loss) or abs(loss) > limit:
                site = worst_site(terms[min(i, len(terms) - 1)], self.weight)
                return step, f"the loss became {loss:.3g} at step {step}; worst site {site}"
        return None


def worst_site(terms: Mapping[str, Tensor], weight: float) -> str:
    """The site whose term is not finite, or else the largest, with its value."""
    sizes = {name: term.detach().double().abs().mean() for name, term in terms.items()}
    means = {name: value.item() for name, value in average_values(sizes, weight).items()}
    bad = [name for name, value in means.items() if not math.isfinite(value)]
    name = bad[0] if bad else max(means, key=lambda n: means[n])
    return f"'{name}' (mean |log-ratio| {means[name]:.3g})"
