"""The computation of a training step on one batch: bound, constraint, schedule, loss."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pyro_hvae.data import Batch
from pyro_hvae.networks import network_precision
from pyro_hvae.objectives import Objective, Terms
from pyro_hvae.schedules import Schedule


class StepResult(NamedTuple):
    """The loss of one batch, its terms, and the constraint in nats where that was asked for."""

    loss: Tensor
    terms: Terms
    nats: Tensor | None


class TrainingPass(nn.Module):
    """Estimate, constraint, schedule and loss (Klushyn et al. 2019, Algorithm 1, in this order), as one module of tensors.

    A schedule that watches the constraint is updated in the pass. Any other schedule is updated before it, and its weights are
    arguments: such a schedule may run any Python code, and the pass can still be captured.

    Arguments:
        nats: also return the constraint in nats. precision: of the networks (see `network_precision`).
        free_bits, balanced: see `Estimate.loss`.
    """

    schedule: Schedule | None

    def __init__(
        self,
        objective: Objective,
        schedule: Schedule,
        nats: bool = False,
        precision: str = "float32",
        free_bits: float = 0.0,
        balanced: bool = False,
    ) -> None:
        super().__init__()
        self.objective, self.nats, self.precision = objective, nats, precision
        self.free_bits, self.balanced = free_bits, balanced
        self.schedule = schedule if schedule.measure else None
        self.sites: tuple[str, ...] = ()

    def arguments(self, schedule: Schedule) -> tuple[Tensor, ...]:
        """Updates a schedule that does not watch the constraint; returns its weights of sites, the arguments of this pass."""
        if self.schedule is not None:
            return ()
        schedule.update()
        weights = schedule.weights()
        self.sites = tuple(weights)
        return tuple(torch.as_tensor(weight) for weight in weights.values())

    def forward(self, x: Tensor | Batch, *weights: Tensor) -> dict[str, Tensor]:
        """Name -> tensor, "loss" among them; see `result`."""
        with network_precision(self.precision):
            estimate = self.objective.estimate(x)
        by_site: Mapping[str, Tensor] = dict(zip(self.sites, weights, strict=True))
        if self.schedule is not None and self.schedule.measure is not None:
            self.schedule.update(estimate.constraint(self.schedule.measure))
            by_site = self.schedule.weights()
        values = {"loss": estimate.loss(by_site, self.free_bits, self.balanced)}
        if self.nats:
            values["nats"] = estimate.constraint("nats")
        values |= {f"term.{name}": term for name, term in estimate.terms.items()}
        return values | {f"penalty.{name}": penalty for name, penalty in estimate.penalties.items()}

    def result(self, values: Mapping[str, Tensor]) -> StepResult:
        """The values that `forward` returned, without gradients."""
        elbo, prefixes = self.objective.elbo, ("term.", "penalty.")
        terms, penalties = ({k.removeprefix(p): v.detach() for k, v in values.items() if k.startswith(p)} for p in prefixes)
        return StepResult(values["loss"].detach(), Terms(terms, elbo.particles, elbo.alpha, penalties), values.get("nats"))
