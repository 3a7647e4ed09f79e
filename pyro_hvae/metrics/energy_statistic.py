"""Energy distance between two samples, with a standard error for correlated chains."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_hvae.errors import ConfigError


@dataclass(frozen=True)
class EnergyDistance:
    """Value and standard error, in the units of the Euclidean norm between two data."""

    value: float
    stderr: float


def energy_distance(x: Tensor, y: Tensor, groups: Tensor | None = None) -> EnergyDistance:
    r"""$2 E|X - Y| - E|X - X'| - E|Y - Y'|$, zero if and only if X and Y have the same law (Szekely and Rizzo 2013).

    This is an unbiased U-statistic, so it can be slightly negative. The standard error is that of its first-order projection;
    for equal laws the projection vanishes and the error is underestimated.

    Arguments:
        x, y: samples of shape (n, *event) and (m, *event).
        groups: of x, (n,): draws of one chain share a number. Pairs within a group are left out; the error is over groups.

    Raises:
        ConfigError: for fewer than two data (or groups) on a side, or different shapes.

    >>> energy_distance(torch.zeros(5, 1), torch.ones(5, 1)).value
    2.0
    """
    if x.shape[1:] != y.shape[1:]:
        raise ConfigError(f"an energy distance needs data of one shape, got {tuple(x.shape[1:])} and {tuple(y.shape[1:])}.")
    x, y = x.detach().flatten(1).double().cpu(), y.detach().flatten(1).double().cpu()
    groups = torch.arange(len(x)) if groups is None else groups.cpu().unique(return_inverse=True)[1]
    count = int(groups.max()) + 1 if len(x) else 0
    if count < 2 or len(y) < 2:
        raise ConfigError(f"an energy distance needs two data (or chains) on either side, got {count} and {len(y)}.")
    cross = torch.cdist(x, y)
    x_to_y, y_to_x = cross.mean(1), cross.mean(0)
    apart = (groups[:, None] != groups[None, :]).double()
    within_x = torch.cdist(x, x) * apart
    within_y = torch.cdist(y, y)
    x_to_x, y_to_y = within_x.sum(1) / apart.sum(1), within_y.sum(1) / (len(y) - 1)
    value = 2 * cross.mean() - within_x.sum() / apart.sum() - y_to_y.mean()
    # Contribution of each datum to the statistic. The draws of a chain count as one datum, weighted by their number.
    size = torch.bincount(groups, minlength=count).double()
    share_x = torch.zeros(count, dtype=torch.float64).index_add_(0, groups, 2 * (x_to_y - x_to_x)) / size
    share_y, weight = 2 * (y_to_x - y_to_y), size / size.sum()
    spread = (weight.square() * (share_x - (weight * share_x).sum()).square()).sum()
    variance = spread * count / (count - 1) + share_y.var() / len(y)
    return EnergyDistance(value.item(), variance.sqrt().item())
