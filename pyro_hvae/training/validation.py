"""The bound of validation data during a training, of which each process computes a share."""

import torch
from torch import Tensor

from pyro_hvae.data import Batch, Rows
from pyro_hvae.inference import bound
from pyro_hvae.objectives import Objective
from pyro_hvae.runtime import average_values, fixed_seed, noise_seed, share_of

MOST = 10_000  # data of which a training computes the bound


def choose_validation(x: Tensor | Batch | Rows) -> Rows:
    """The validation data whose bound a training follows: all, or of more than 10,000 a random choice, the same in every run.

    The standard error of their mean is a hundredth of the deviation over data, and their time no longer grows with the data.
    """
    rows = Rows.of(x)
    if len(rows) <= MOST:
        return rows
    chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:MOST]
    return rows.take(chosen.sort().values)


def validation_bound(objective: Objective, x: Rows, seed: int) -> float:
    """The bound of validation data in nats per datum, always under the same noise; each datum is of one process."""
    share = share_of(len(x))
    count = share.stop - share.start
    objective.eval()
    with fixed_seed(noise_seed(seed)):
        part = x if count == len(x) else x.take(torch.arange(len(x))[share])
        value = bound(objective.elbo, objective.model, objective.guide, part)["elbo"] if count else 0.0
    objective.train()
    values = {"elbo": torch.tensor(value, dtype=torch.float64, device=x.device)}
    return average_values(values, count / len(x))["elbo"].item()
