"""Convergence of parallel Markov chains: rank-normalised split R-hat, bulk and tail effective sample size."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata
from torch import Tensor


@dataclass(frozen=True)
class Convergence:
    """Diagnostics of one site: extremes and medians over its dimensions. NaN: the chains diverged, draws are not finite.

    Attributes:
        rhat, rhat_median: rank-normalised split R-hat, the largest and the median. Above about 1.05 the chains have not mixed.
        ess, ess_median: bulk effective sample size, the smallest and the median. Chains that alternate around their mean have
            more than one effective draw for each draw, here at most log10 of the number of draws.
        draws: number of draws of all chains together.
        ess_tail: tail effective sample size, the smallest.
    """

    rhat: float
    rhat_median: float
    ess: float
    ess_median: float
    draws: int
    ess_tail: float


def convergence(z: Tensor) -> Convergence | None:
    """Diagnostics of one site, shape (T, C, *event); None for fewer than four chains or draws, or where no dimension varies.

    Dimensions that are constant over all draws are left out, unless this constant is no finite number.

    >>> import torch
    >>> z = torch.randn(200, 8, 2, generator=torch.Generator().manual_seed(0))
    >>> found = convergence(z)
    >>> found.rhat < 1.02 and found.ess > 1000 and found.ess_tail > 1000
    True
    """
    if z.shape[0] < 4 or z.shape[1] < 4:
        return None
    dimensions = z.detach().flatten(2).movedim(2, 0).double().cpu().numpy()
    # An infinity equals itself, and is no constant: its chains diverged.
    varying = [draws for draws in dimensions if not ((draws == draws[0, 0]).all() and np.isfinite(draws[0, 0]))]
    if not varying:
        return None
    rhat, bulk, tail = (
        np.array([measure(draws) for draws in varying]) for measure in (rank_normalised_rhat, bulk_ess, tail_ess)
    )
    return Convergence(
        rhat=float(rhat.max()),
        rhat_median=float(np.median(rhat)),
        ess=float(bulk.min()),
        ess_median=float(np.median(bulk)),
        draws=z.shape[0] * z.shape[1],
        ess_tail=float(tail.min()),
    )


def rank_normalised_rhat(draws: np.ndarray) -> float:
    """Rank-normalised split R-hat of a scalar: the larger one of bulk and folded R-hat.

    The folded draws |x - median| show chains that have one location and different scales.

    Arguments:
        draws: T draws of C chains, shape (T, C); at least four draws of two chains.

    Returns:
        NaN for draws that are not finite, or that are all equal. Infinity for chains that each stay at one place.

    Source: Vehtari, Gelman, Simpson, Carpenter, Bürkner 2021, "Rank-normalization, folding, and localization: an improved
    R-hat for assessing convergence of MCMC", Bayesian Analysis 16(2), https://arxiv.org/abs/1903.08008, sections 4.1 and 4.2.
    """
    if not np.isfinite(draws).all():
        return math.nan
    halves = _split(draws)
    # Folded draws of two values can be constant; their R-hat is NaN, which fmax ignores.
    folded = np.abs(halves - np.median(halves))
    return float(np.fmax(_rhat(_normal_scores(halves)), _rhat(_normal_scores(folded))))


def bulk_ess(draws: np.ndarray) -> float:
    """Bulk effective sample size of a scalar: that of the rank-normalised draws of split chains (same source, section 4.3).

    Arguments and NaN as for `rank_normalised_rhat`; draws that are all equal count fully.
    """
    return _effective_sample_size(_normal_scores(_split(draws))) if np.isfinite(draws).all() else math.nan


def tail_ess(draws: np.ndarray) -> float:
    """Tail effective sample size of a scalar: the smaller one of the 5 % and the 95 % quantile (same source, section 4.3).

    Arguments and NaN as for `bulk_ess`.
    """
    if not np.isfinite(draws).all():
        return math.nan
    return min(_effective_sample_size(_split((draws <= q).astype(float))) for q in np.quantile(draws, (0.05, 0.95)))


def _split(draws: np.ndarray) -> np.ndarray:
    """The first and the second half of every chain as chains of their own; an odd draw in the middle is left out."""
    half = len(draws) // 2
    return np.concatenate([draws[:half], draws[-half:]], 1)


def _normal_scores(draws: np.ndarray) -> np.ndarray:
    """Normal quantiles of the ranks among all draws (equation 14)."""
    return ndtri((rankdata(draws).reshape(draws.shape) - 3 / 8) / (draws.size + 1 / 4))


def _rhat(draws: np.ndarray) -> float:
    """R-hat of unsplit chains (equation 4); infinite where no chain moves."""
    within, between = draws.var(0, ddof=1).mean(), draws.mean(0).var(ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(between / within + (len(draws) - 1) / len(draws))


def _effective_sample_size(draws: np.ndarray) -> float:
    """Effective sample size of unsplit chains by Geyer's initial monotone sequence, as ArviZ 0.23 computes it.

    Chains that alternate around their mean have more than N effective draws, here as there at most N log10 N. ArviZ counts no
    autocorrelation of chains of fewer than five draws (after the split); here the first two lags always count.
    """
    length, size = len(draws), draws.size
    if np.ptp(draws) == 0:
        return float(size)
    spectrum = np.fft.rfft(draws - draws.mean(0), 2 * length, 0)
    autocovariance = np.fft.irfft(np.abs(spectrum) ** 2, 2 * length, 0)[:length].mean(1) / length
    within = autocovariance[0] * length / (length - 1)
    rho = 1 - (within - autocovariance) / (autocovariance[0] + draws.mean(0).var(ddof=1))
    rho[0] = 1.0
    last = (length - 3) // 2
    if last < 1:
        tau = -1 + 2 * rho[:2].sum()
    else:
        pairs = rho[: 2 * last + 2].reshape(-1, 2).sum(1)
        negative = np.flatnonzero(pairs[1:] < 0)
        end = negative[0] + 1 if len(negative) else last
        tau = -1 + 2 * np.minimum.accumulate(pairs[:end]).sum()
        if rho[2 * end] > 0 or pairs[end] >= 0:
            tau += rho[2 * end]
    return float(size / max(tau, 1 / math.log10(size)))
