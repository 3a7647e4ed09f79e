"""Tail index of importance weights: the k-hat of Pareto smoothed importance sampling (Vehtari et al. 2024)."""

import math

import numpy as np
from pyro.ops.stats import fit_generalized_pareto
from torch import Tensor

from pyro_hvae.errors import ConfigError

LEAST_DRAWS = 30
SMALLEST = math.log(1e-15)  # of a weight beside the largest one: smaller ones are rounding


def pareto_khat(log_weights: Tensor) -> np.ndarray:
    r"""$\hat k$ of N columns of S log weights, shape (S, N) -> (N,): the shape of a Pareto law fitted to the largest weights.

    Below 0.5 weights have a finite variance; above $\min(1 - 1/\log_{10} S, 0.7)$ an estimate of theirs is not to be relied on
    (Vehtari, Simpson, Gelman, Yao and Gabry 2024). The fit is Pyro's, to the min(0.2 S, 3 sqrt(S)) largest weights.
    A column of weights that are equal up to rounding has no tail: its value is minus infinity.

    Raises:
        ConfigError: for fewer than 30 draws, or log weights that are NaN or plus infinity.

    >>> import torch
    >>> u = torch.rand(1000, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> print(pareto_khat(-0.5 * u.log()).mean().round(1))  # weights u^-k have the index k
    0.5
    """
    draws = len(log_weights)
    if draws < LEAST_DRAWS:
        raise ConfigError(f"draws={draws}: a tail is fitted to {LEAST_DRAWS} draws or more, such as draws=1000.")
    if log_weights.isnan().any() or log_weights.isposinf().any():
        raise ConfigError("some log weights are NaN or infinite, so their tail cannot be fitted. Look at the pair's densities.")
    ordered = (log_weights - log_weights.amax(0)).double().cpu().sort(0).values
    cutoff = ordered[-math.ceil(min(0.2 * draws, 3 * math.sqrt(draws))) - 1].clamp_min(SMALLEST)
    return np.array([_fit(column, float(least)) for column, least in zip(ordered.T, cutoff, strict=True)])


def _fit(ordered: Tensor, cutoff: float) -> float:
    """k-hat of ascending log weights, of which the largest is 0."""
    if cutoff > -1e-4:  # of single precision
        return -math.inf
    tail = ordered[ordered > cutoff]
    if len(tail) < 5:  # a handful of draws carry all weight
        return math.inf
    return fit_generalized_pareto(tail.exp() - math.exp(cutoff))[0]
