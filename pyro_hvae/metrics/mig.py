"""MIG and MIG-sup: is each factor in one latent dimension, and does each dimension hold one factor?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import entr
from torch import Tensor

from pyro_hvae.errors import ConfigError
from pyro_hvae.metrics.aggregate_posterior import Posteriors, draw_aggregate, log_ratios, require_same_data

__all__ = ["MEANINGFUL_VARIANCE", "InformationGaps", "histogram_gaps", "information_gaps"]

MEANINGFUL_VARIANCE = 1e-2  # variance of a latent's means over the data, above which MIG-sup counts it


@dataclass(frozen=True)
class InformationGaps:
    """InformationGaps of normalised mutual information; lists run over latent dimensions, dictionaries over factors.

    Attributes:
        mig, mig_sup: the two scores, 1 at best.
        factor_gaps: the terms of MIG, of which it is the mean.
        leaders: the two dimensions (one, where there is no other) that know most about the factor.
        latent_gaps: each dimension's term of MIG-sup, which is the mean over meaningful ones.
        meaningful: whether the variance of the dimension's means is above 0.01.
        normalised: I(z_j; v_k) / H(v_k), at least 0; one row per dimension, one column per factor.
        entropies: H(v_k) in nats.
        excluded: factors of one value only, left out everywhere.
        samples: draws, or points.
        components: how many data stood for the aggregate posterior, or are in the histogram.
        exact: whether those were all data.
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

    def of(self, dims: Sequence[int]) -> tuple[float, float]:
        """MIG and MIG-sup of some dimensions alone, such as those of one layer."""
        meaningful = np.array(self.meaningful)[list(dims)]
        return _scores(np.array(self.normalised)[list(dims)], meaningful)[:2]


def information_gaps(
    q: Posteriors | Sequence[Posteriors],
    factors: Mapping[str, Tensor],
    samples: int = 10_000,
    seed: int = 0,
    components: int | None = None,
) -> InformationGaps:
    r"""MIG (Chen et al. 2018) and MIG-sup (pro-VLAE, eq. 12) from the aggregate posterior.

    $I_{jk} = I(z_j; v_k) / H(v_k)$, at least 0;
    $\mathrm{MIG} = \frac1K \sum_k (I_{j_1 k} - I_{j_2 k})$ with $j_1, j_2$ the two dimensions that know most about factor k;
    $\mathrm{MIG\text{-}sup} = \frac1J \sum_j (I_{j k_1} - I_{j k_2})$ over the J meaningful dimensions, with $k_1, k_2$ the two
    factors that dimension j knows most about, ranked after normalisation. J = 0 gives 0.

    $I(z_j; v_k) = \frac1S \sum_s \log q(z_{sj} \mid v_k(s)) - \log q(z_{sj})$, where $q(z_j \mid v)$ is the aggregate
    posterior of the data with that value. That is Chen et al.'s $H(z_j) - H(z_j \mid v_k)$ with the same draws in both
    entropies instead of separate ones: the same mean, much less variance. Values count by their frequency, which on a balanced
    grid is their plain average. The data are taken for the population: with few per value narrow posteriors look informative.

    A lone dimension has a runner-up of 0, as though a constant one stood beside it.

    Arguments:
        q: or several layers of the same data, whose dimensions stand side by side.
        factors: by name, integers (N,) that name the values; any integers do.
        samples, seed, components: as for `draw_aggregate`.

    Raises:
        ConfigError: for fewer than two factors of two values, factors that are not N integers, and as `draw_aggregate`.

    >>> grid = torch.cartesian_prod(torch.arange(4), torch.arange(5))
    >>> gaps = information_gaps(Posteriors(grid, torch.full((20, 2), 0.01)), {"shape": grid[:, 0], "size": grid[:, 1]})
    >>> round(gaps.mig, 3), round(gaps.mig_sup, 3), gaps.leaders["size"][0]
    (1.0, 1.0, 1)
    """
    layers = require_same_data([q] if isinstance(q, Posteriors) else q)
    labels, excluded = _labels(factors, torch.arange(len(layers[0])))
    known, all_draws = [], []
    for layer in layers:
        draws = draw_aggregate(layer, samples, seed, components)
        of_all = log_ratios(layer, draws, jointly=False)
        shares = [(of_all - log_ratios(layer, draws, values, jointly=False)).mean(0) for values in labels.values()]
        known.append(torch.stack(shares, 1))
        all_draws.append(draws)
    variances = torch.cat([layer.variance_of_means for layer in layers])
    counted = min(len(draws.rows) for draws in all_draws), min(len(draws.components) for draws in all_draws)
    return _gaps(torch.cat(known).numpy(), labels, excluded, variances, *counted, all(draws.exact for draws in all_draws))


def histogram_gaps(
    means: Tensor, factors: Mapping[str, Tensor], bins: int = 20, points: int = 10_000, seed: int = 0
) -> InformationGaps:
    r"""MIG and MIG-sup by the plug-in information of histograms, another estimator with other values than `information_gaps`.

    As disentanglement_lib's MIG (Locatello et al. 2019): the posterior means of 10,000 points, 20 equal bins between each
    dimension's extremes, discrete mutual information. It does not know of the posteriors' widths, is biased upwards by about
    (bins - 1)(values - 1) / (2 points) nats, and depends on the spacing of the means. The points are different data here.

    Arguments:
        means: (N, D). factors: as for `information_gaps`.
        points: how many data to use, drawn with `seed` where there are more.

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
    some = torch.randperm(len(means), generator=generator)[:points]
    labels, excluded = _labels(factors, some, len(means))
    values = np.stack([column.numpy() for column in labels.values()])
    starts = np.cumsum([0, *values.max(1) + 1])
    known = [_discrete_information(column, values + starts[:-1, None], starts, bins) for column in means[some].numpy().T]
    return _gaps(np.stack(known), labels, excluded, means.var(0, correction=0), len(some), len(some), len(some) == len(means))


def _discrete_information(column: np.ndarray, cells: np.ndarray, starts: np.ndarray, bins: int) -> np.ndarray:
    """Information of one dimension's bins about every factor, (K,).

    Arguments:
        column: (P,). cells: (K, P), the value of each factor among the values of all; those of factor k begin at starts[k].
    """
    # The edges of np.histogram, which refuses a dimension that is constant but for rounding.
    edges = np.linspace(column.min(), column.max(), bins + 1)[:-1]
    codes = np.digitize(column, edges) - 1
    joint = np.bincount((codes * starts[-1] + cells).ravel(), minlength=bins * starts[-1]).reshape(bins, -1) / len(column)
    bin_entropy = entr(np.bincount(codes, minlength=bins) / len(column)).sum()
    value_entropies, joint_entropies = (
        np.add.reduceat(terms, starts[:-1]) for terms in (entr(joint.sum(0)), entr(joint).sum(0))
    )
    return bin_entropy + value_entropies - joint_entropies


def _labels(factors: Mapping[str, Tensor], rows: Tensor, data: int | None = None) -> tuple[dict[str, Tensor], list[str]]:
    """Each factor's values among some of the data as 0, 1, ..., and the names of those with one value only."""
    data = len(rows) if data is None else data
    labels, excluded = {}, []
    for name, values in factors.items():
        values = torch.as_tensor(values).detach().cpu()
        if values.is_floating_point() or values.is_complex():
            raise ConfigError(
                f"factor '{name}' holds {values.dtype} values; give an integer for each value, such as its index."
            )
        if values.shape != (data,):
            raise ConfigError(f"factor '{name}' has shape {tuple(values.shape)}, but there are {data} data.")
        kinds, labels[name] = values[rows].unique(return_inverse=True)
        if len(kinds) == 1:
            excluded.append(name)
            del labels[name]
    if len(labels) < 2:
        left_out = f" ({', '.join(excluded)} with one value only)" if excluded else ""
        raise ConfigError(f"gaps need two or more factors that vary, got {', '.join(labels) or 'none'}{left_out}.")
    return labels, excluded


def _gaps(
    known: np.ndarray,
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
    normalised = np.maximum(known / entropies, 0)  # before any ranking: factors with many values are no better known
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
    """MIG, MIG-sup, and the gaps that they are the means of."""
    by_latent = np.sort(np.vstack([normalised, np.zeros(normalised.shape[1])]), axis=0)  # a lone dimension's runner-up is 0
    factor_gaps = by_latent[-1] - by_latent[-2]
    by_factor = np.sort(normalised, axis=1)
    latent_gaps = by_factor[:, -1] - by_factor[:, -2]
    mig_sup = float(latent_gaps[meaningful].mean()) if meaningful.any() else 0.0
    return float(factor_gaps.mean()), mig_sup, factor_gaps, latent_gaps
