"""Whether the losses of a run are still usable, read off their device once for many steps."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_hvae.training.training_step import Found

__all__ = ["BLOCK", "Trouble", "Watch"]

BLOCK = 100  # steps between looks, at most
FACTOR = 1e6  # times the first loss, or nats where that is below one


class Trouble(NamedTuple):
    """The first step whose loss is not usable, that loss, and which site is to blame."""

    step: int
    loss: float
    site: str


class Watch:
    """Collects what steps found, as tensors, and says when asked whether all of it is sound: finite, and not a million times
    the first loss.

    >>> from pyro_hvae.objectives.estimate import Terms
    >>> watch = Watch()
    >>> for step, loss in enumerate((2.0, math.nan, math.nan), 1):
    ...     watch.see(step, Found(torch.tensor(loss), Terms({"x": torch.tensor([-loss])}, 1, 0.0), None))
    >>> watch.trouble()
    Trouble(step=2, loss=nan, site="'x' (mean |log-ratio| nan)")
    """

    def __init__(self) -> None:
        self.first: float | None = None
        self.seen: list[tuple[int, Tensor]] = []
        self.terms: list[Mapping[str, Tensor]] = []

    def __len__(self) -> int:
        """Steps that have not been looked at."""
        return len(self.seen)

    def see(self, step: int, found: Found) -> None:
        # A CUDA graph writes its next results where its last ones are.
        self.seen.append((step, found.loss.clone()))
        if found.loss.is_cuda:
            self.terms.clear()
        self.terms.append(found.terms.terms)

    def trouble(self) -> Trouble | None:
        """What is wrong with the steps seen since the last look, or None; waits for the device."""
        if not self.seen:
            return None
        losses = torch.stack([loss for _, loss in self.seen]).tolist()
        steps, terms = [step for step, _ in self.seen], self.terms
        self.seen, self.terms = [], []
        first = self.first = losses[0] if self.first is None else self.first
        limit = FACTOR * max(1.0, abs(first))
        for i, (step, loss) in enumerate(zip(steps, losses, strict=True)):
            if not math.isfinite(loss) or abs(loss) > limit:
                return Trouble(step, loss, worst_site(terms[min(i, len(terms) - 1)]))
        return None


def worst_site(terms: Mapping[str, Tensor]) -> str:
    """The site whose term is not finite, or the largest, with its value."""
    means = {name: term.detach().double().abs().mean().item() for name, term in terms.items()}
    bad = [name for name, value in means.items() if not math.isfinite(value)]
    name = bad[0] if bad else max(means, key=lambda n: means[n])
    return f"'{name}' (mean |log-ratio| {means[name]:.3g})"
