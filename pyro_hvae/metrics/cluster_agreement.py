"""Agreement of clusters with classes: accuracy under the best matching, purity, NMI, ARI."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from pyro_hvae.errors import ConfigError


@dataclass(frozen=True)
class ClusterScores:
    """How well clusters agree with classes.

    Attributes:
        accuracy: share of data whose cluster is matched with their class, under the best one-to-one matching.
        purity: share of data in the commonest class of their cluster. It grows with the number of clusters.
        nmi: normalised mutual information. ari: Rand index, adjusted for chance. used: number of clusters that have data.
    """

    accuracy: float
    purity: float
    nmi: float
    ari: float
    used: int


def cluster_scores(clusters: np.ndarray, classes: np.ndarray) -> ClusterScores:
    r"""Scores of a clustering against classes; the numbers of clusters and classes are only names.

    With n_{kc} of the n data in cluster k and class c: accuracy is $\max_\pi \frac1n \sum_k n_{k \pi(k)}$ over the one-to-one
    matchings $\pi$, found by the Hungarian method, purity is $\frac1n \sum_k \max_c n_{kc}$, and NMI is
    $2 I(k; c) / (H(k) + H(c))$. Where there are more clusters than classes some are matched with none, and accuracy falls
    below purity.

    Arguments:
        clusters, classes: integers, (n,).

    Raises:
        ConfigError: for no data, or lengths that differ.

    Source: Yang et al. 2010 (accuracy), Manning et al. 2008, section 16.3 (purity, NMI), Hubert and Arabie 1985 (ARI).

    >>> scores = cluster_scores(np.array([7, 7, 7, 7, 3, 5]), np.array([0, 0, 0, 1, 1, 1]))
    >>> round(scores.accuracy, 2), round(scores.purity, 2), scores.used
    (0.67, 0.83, 3)
    """
    clusters, classes = np.asarray(clusters), np.asarray(classes)
    if clusters.shape != classes.shape or clusters.ndim != 1 or not len(clusters):
        raise ConfigError(f"each datum has a cluster and a class, but their shapes are {clusters.shape} and {classes.shape}.")
    counts = np.asarray(contingency_matrix(classes, clusters)).T
    rows, columns = linear_sum_assignment(counts, maximize=True)
    return ClusterScores(
        accuracy=float(counts[rows, columns].sum() / len(classes)),
        purity=float(counts.max(1).sum() / len(classes)),
        nmi=float(normalized_mutual_info_score(classes, clusters)),
        ari=float(adjusted_rand_score(classes, clusters)),
        used=len(counts),
    )
