"""The bound of validation data during a training, of which each process computes a share."""

import torch

from pyro_hvae.data import Rows
from pyro_hvae.inference import bound
from pyro_hvae.objectives import Objective
from pyro_hvae.runtime import average_values, fixed_seed, noise_seed, share_of


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
