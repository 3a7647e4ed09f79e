"""MIG and MIG-sup: whether each factor is in one latent dimension, and each dimension holds one factor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import entr
from torch import Tensor

from pyro_hvae.errors import ConfigError
from pyro_hvae.metrics.aggregate_posterior import Posteriors, draw_aggregate, log_ratios, require_same_data

MEANINGFUL_VARIANCE = 1e-2  # MIG-sup counts dimensions whose posterior means have a larger variance over the data


@dataclass(frozen=True)
class InformationGaps:
    """Gaps of normalised mutual information; lists run over latent dimensions, dictionaries over factors.

    Attributes:
        mig, mig_sup: the two scores, at most 1. factor_gaps: the terms of MIG, which is their mean.
        leaders: the two dimensions (or the only one) with the most information about the factor.
        latent_gaps: the terms of MIG-sup, which is the mean over meaningful dimensions.
        meaningful: True where the variance of the dimension's means is above 0.01.
        normalised: I(z_j; v_k) / H(v_k), at least 0; one row per dimension, one column per factor.
        entropies: H(v_k) in nats. excluded: factors of one value only, left out everywhere.
        samples: number of draws, or of points of the histogram.
        components: number of data that represent the aggregate posterior or are in the histogram. exact: True where all are.
    """

    mig: float
    mig_sup: float
    factor_gaps: dict[str, float]
    leaders: dict[str, list[int]]
    latent_gaps: list[float]
    meaningful: list[bool]
    normalised: list[list[float]]
    entropies: dict[str, float]
    excluded: list[str]
    samples: int
    components: int
    exact: bool

    def scores(self, dims: Sequence[int]) -> tuple[float, float]:
        """MIG and MIG-sup of some dimensions alone, for example those of one layer."""
        return _scores(np.array(self.normalised)[list(dims)], np.array(self.meaningful)[list(dims)])[:2]


def information_gaps(
    q: Posteriors | Sequence[Posteriors],
    factors: Mapping[str, Tensor],
    samples: int = 10_000,
    seed: int = 0,
    components: int | None = None,
) -> InformationGaps:
    r"""MIG (Chen et al. 2018) and MIG-sup (pro-VLAE, eq. 12) from the aggregate posterior.

    $I_{jk} = I(z_j; v_k) / H(v_k)$, at least 0;
    $\mathrm{MIG} = \frac1K \sum_k (I_{j_1 k} - I_{j_2 k})$ with $j_1, j_2$ the dimensions that know most about factor k;
    $\mathrm{MIG\text{-}sup} = \frac1J \sum_j (I_{j k_1} - I_{j k_2})$ over the J meaningful dimensions, with $k_1, k_2$ the
    factors that dimension j knows most about, ranked after normalisation. J = 0 gives 0. With a single dimension, the second
    term of MIG is 0.

    $I(z_j; v_k) = \frac1S \sum_s \log q(z_{sj} \mid v_k(s)) - \log q(z_{sj})$, where $q(z_j \mid v)$ is the aggregate
    posterior of the data with that value. This is $H(z_j) - H(z_j \mid v_k)$ of Chen et al. with the same draws in both
    entropies: the same mean, much less variance. Values are weighted by their frequency. The data are taken as the population:
    with few data per value, narrow posteriors look informative.

    Arguments:
        q: posteriors, or several layers of the same data, whose dimensions are put side by side.
        factors: name -> integers (N,), one for each value.
        samples, seed, components: as for `draw_aggregate`.

    Raises:
        ConfigError: for fewer than two factors of two values, factors that are not N integers, and as `draw_aggregate`.

    >>> grid = torch.cartesian_prod(torch.arange(4), torch.arange(5))
    >>> gaps = information_gaps(Posteriors(grid, torch.full((20, 2), 0.01)), {"shape": grid[:, 0], "size": grid[:, 1]})
    >>> round(gaps.mig, 3), round(gaps.mig_sup, 3), gaps.leaders["size"][0]
    (1.0, 1.0, 1)
    """
    layers = require_same_data([q] if isinstance(q, Posteriors) else q)
    labels, excluded = _label_values(factors, torch.arange(len(layers[0])))
    information, all_draws = [], []
    for layer in layers:
        draws = draw_aggregate(layer, samples, seed, components, jointly=False)
        total = log_ratios(layer, draws, jointly=False)
        terms = [(total - log_ratios(layer, draws, values, jointly=False)).mean(0) for values in labels.values()]
        information.append(torch.stack(terms, 1))
        all_draws.append(draws)
    variances = torch.cat([layer.variance_of_means for layer in layers])
    counts = min(len(draws.rows) for draws in all_draws), min(len(draws.components) for draws in all_draws)
    exact = all(draws.exact for draws in all_draws)
    return _gaps(torch.cat(information).numpy(), labels, excluded, variances, *counts, exact)


def histogram_gaps(
    means: Tensor, factors: Mapping[str, Tensor], bins: int = 20, points: int = 10_000, seed: int = 0
) -> InformationGaps:
    r"""MIG and MIG-sup by the plug-in information of histograms; their values differ from those of `information_gaps`.

    As the MIG of disentanglement_lib (Locatello et al. 2019): posterior means of 10,000 points, 20 equal bins between the
    extremes of each dimension, discrete mutual information. It ignores the width of the posteriors, is biased upwards by about
    (bins - 1)(values - 1) / (2 points) nats, and depends on the spacing of the means. Here all points are different data.

    Arguments:
        means: (N, D). factors: as for `information_gaps`.
        points: number of data to use, chosen with `seed` where there are more.

    Raises:
        ConfigError: as `information_gaps`; for means that are not finite, and fewer than two bins or points.

    >>> grid = torch.cartesian_prod(torch.arange(4), torch.arange(5))
    >>> gaps = histogram_gaps(grid, {"shape": grid[:, 0], "size": grid[:, 1]})
    >>> round(gaps.mig, 6), round(gaps.mig_sup, 6)
    (1.0, 1.0)
    """
    means = means.detach().to("cpu", torch.float64)
    if means.ndim != 2 or 0 in means.shape:
        raise ConfigError(f"histograms need means of shape (data, latents), got {tuple(means.shape)}.")
    if wrong := int((~means.isfinite()).sum()):
        raise ConfigError(f"{wrong} of {means.numel()} latent means are not finite: has the training diverged?")
    if bins < 2 or points < 2:
        raise ConfigError(f"histograms need two bins and two points or more, got {bins} and {points}.")
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(means), generator=generator)[:points]
    labels, excluded = _label_values(factors, rows, len(means))
    values = np.stack([column.numpy() for column in labels.values()])
    starts = np.cumsum([0, *values.max(1) + 1])
    cells, variances = values + starts[:-1, None], means.var(0, correction=0)
    information = np.stack([_discrete_information(column, cells, starts, bins) for column in means[rows].numpy().T])
    return _gaps(information, labels, excluded, variances, len(rows), len(rows), len(rows) == len(means))


def _discrete_information(column: np.ndarray, cells: np.ndarray, starts: np.ndarray, bins: int) -> np.ndarray:
    """Information of the bins of one dimension about every factor, (K,).

    Arguments:
        column: (P,). cells: (K, P), indices of factor values; those of factor k begin at starts[k].
    """
    # These are the edges of np.histogram, which rejects a dimension that is constant up to rounding.
    edges = np.linspace(column.min(), column.max(), bins + 1)[:-1]
    codes = np.digitize(column, edges) - 1
    joint = np.bincount((codes * starts[-1] + cells).ravel(), minlength=bins * starts[-1]).reshape(bins, -1) / len(column)
    bin_entropy = entr(np.bincount(codes, minlength=bins) / len(column)).sum()
    value_entropies, joint_entropies = (
        np.add.reduceat(terms, starts[:-1]) for terms in (entr(joint.sum(0)), entr(joint).sum(0))
    )
    return bin_entropy + value_entropies - joint_entropies


def _label_values(factors: Mapping[str, Tensor], rows: Tensor, data: int | None = None) -> tuple[dict[str, Tensor], list[str]]:
    """The values of each factor in some rows as 0, 1, ..., and the names of factors with one value only."""
    data = len(rows) if data is None else data
    labels, excluded = {}, []
    for name, values in factors.items():
        values = torch.as_tensor(values).detach().cpu()
        if values.is_floating_point() or values.is_complex():
            raise ConfigError(f"factor '{name}' holds {values.dtype} values: give an integer for each value.")
        if values.shape != (data,):
            raise ConfigError(f"factor '{name}' has shape {tuple(values.shape)}, but there are {data} data.")
        different, indices = values[rows].unique(return_inverse=True)
        if len(different) == 1:
            excluded.append(name)
        else:
            labels[name] = indices
    if len(labels) < 2:
        left_out = f" ({', '.join(excluded)} with one value only)" if excluded else ""
        raise ConfigError(f"gaps need two or more factors that vary, got {', '.join(labels) or 'none'}{left_out}.")
    return labels, excluded


def _gaps(
    information: np.ndarray,
    labels: dict[str, Tensor],
    excluded: list[str],
    variances: Tensor,
    samples: int,
    components: int,
    exact: bool,
) -> InformationGaps:
    """The scores of an information matrix in nats, (D, K); `variances` are those of the posterior means."""
    names = list(labels)
    entropies = np.array([entr(values.bincount().numpy() / len(values)).sum() for values in labels.values()])
    normalised = np.maximum(information / entropies, 0)  # before any ranking: else factors with many values lead
    order = np.argsort(-normalised, axis=0, kind="stable")[:2]
    meaningful = variances.numpy() > MEANINGFUL_VARIANCE
    mig, mig_sup, factor_gaps, latent_gaps = _scores(normalised, meaningful)
    return InformationGaps(
        mig=mig,
        mig_sup=mig_sup,
        factor_gaps=dict(zip(names, factor_gaps.tolist(), strict=True)),
        leaders=dict(zip(names, order.T.tolist(), strict=True)),
        latent_gaps=latent_gaps.tolist(),
        meaningful=meaningful.tolist(),
        normalised=normalised.tolist(),
        entropies=dict(zip(names, entropies.tolist(), strict=True)),
        excluded=excluded,
        samples=samples,
        components=components,
        exact=exact,
    )


def _scores(normalised: np.ndarray, meaningful: np.ndarray) -> tuple[float, float, np.ndarray, np.ndarray]:
    """MIG, MIG-sup, and the gaps whose means they are."""
    by_latent = np.sort(np.vstack([normalised, np.zeros(normalised.shape[1])]), axis=0)  # a second dimension for one alone
    factor_gaps = by_latent[-1] - by_latent[-2]
    by_factor = np.sort(normalised, axis=1)
    latent_gaps = by_factor[:, -1] - by_factor[:, -2]
    mig_sup = float(latent_gaps[meaningful].mean()) if meaningful.any() else 0.0
    return float(factor_gaps.mean()), mig_sup, factor_gaps, latent_gaps
