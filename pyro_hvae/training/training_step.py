"""What a training step computes from one batch: the bound, the constraint, the schedule's weights, the loss."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pyro_hvae.networks.mixed_precision import network_precision
from pyro_hvae.objectives.elbo import Objective
from pyro_hvae.objectives.estimate import Terms
from pyro_hvae.schedules import Schedule

__all__ = ["Found", "TrainingPass"]


class Found(NamedTuple):
    """Of one batch: the loss, the terms it is made of, and the constraint in nats where that was asked for."""

    loss: Tensor
    terms: Terms
    nats: Tensor | None


class TrainingPass(nn.Module):
    """Pass, constraint, schedule and loss (Klushyn et al. 2019, Algorithm 1, in this order), as one module of tensors.

    A schedule that watches the constraint moves within it. One that does not is moved before, and its weights are arguments: it
    may then do what it likes in Python, and the pass can be captured all the same.

    Arguments:
        nats: also return the constraint in nats. precision: of the networks (see `network_precision`).
    """

    schedule: Schedule | None

    def __init__(self, objective: Objective, schedule: Schedule, nats: bool = False, precision: str = "float32") -> None:
        super().__init__()
        self.objective, self.nats, self.precision = objective, nats, precision
        self.measure = schedule.measure or ""
        self.schedule = schedule if schedule.measure else None
        self.sites: tuple[str, ...] = ()

    def arguments(self, schedule: Schedule) -> tuple[Tensor, ...]:
        """The weights of sites as this pass takes them; moves a schedule that watches nothing."""
        if self.schedule is not None:
            return ()
        schedule.update()
        weights = schedule.weights()
        self.sites = tuple(weights)
        return tuple(torch.as_tensor(weight) for weight in weights.values())

    def forward(self, x: Tensor, *weights: Tensor) -> dict[str, Tensor]:
        """Name -> tensor, "loss" among them; what `found` reads."""
        with network_precision(self.precision):
            estimate = self.objective.estimate(x)
        by_site: Mapping[str, Tensor] = dict(zip(self.sites, weights, strict=True))
        if self.schedule is not None:
            self.schedule.update(estimate.constraint(self.measure))
            by_site = self.schedule.weights()
        values = {"loss": estimate.loss(by_site)}
        if self.nats:
            values["nats"] = estimate.constraint("nats")
        values |= {f"term.{name}": term for name, term in estimate.terms.items()}
        return values | {f"penalty.{name}": penalty for name, penalty in estimate.penalties.items()}

    def found(self, values: Mapping[str, Tensor]) -> Found:
        """What `forward` returned, sorted and without gradients."""
        elbo = self.objective.elbo
        terms, penalties = ({k.removeprefix(p): v.detach() for k, v in values.items() if k.startswith(p)} for p in PREFIXES)
        return Found(values["loss"].detach(), Terms(terms, elbo.particles, elbo.alpha, penalties), values.get("nats"))


PREFIXES = ("term.", "penalty.")
