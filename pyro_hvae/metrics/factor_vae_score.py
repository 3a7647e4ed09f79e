"""FactorVAE metric: votes for the dimension that varies least while one factor is fixed (Kim and Mnih 2018, section 4)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pyro_hvae.errors import ConfigError


@dataclass(frozen=True)
class FactorScore:
    """Result of `factor_score`.

    Attributes:
        score: accuracy of the majority-vote classifier on fresh votes, in [0, 1]; chance is one over the number of factors.
        train_accuracy: its accuracy on the training votes.
        factors: names of the factors, in the order of the columns of `votes`.
        kept, pruned: dimensions that take part, and dimensions whose standard deviation is too small.
        votes: training votes, dimensions x factors, shape (D, K); rows of pruned dimensions are 0.
        majority: the factor that most votes of a dimension name, for every dimension with a vote.
    """

    score: float
    train_accuracy: float
    factors: tuple[str, ...]
    kept: tuple[int, ...]
    pruned: tuple[int, ...]
    votes: np.ndarray
    majority: dict[int, str]


def factor_score(
    means: np.ndarray,
    factors: Mapping[str, np.ndarray],
    votes: int = 10_000,
    test_votes: int = 5_000,
    per_vote: int = 64,
    prune: float = 0.05,
    seed: int = 0,
) -> FactorScore:
    r"""The disentanglement score of Kim and Mnih (2018).

    A vote draws a factor k, one of its values v, and `per_vote` data with $v_k = v$. It is the pair (d, k) with
    $d = \arg\min_j \mathrm{Var}_{v_k = v}(m_j) / \mathrm{Var}(m_j)$. The classifier maps d to the factor with most training
    votes for d (the first of equals). The score is its accuracy on fresh votes; a dimension without training votes counts as
    wrong. Without any dimension after pruning the score is 0.

    Constants are those of disentanglement_lib (Locatello et al. 2019): 64 data, 10,000 and 5,000 votes, and dimensions with a
    *standard deviation* below 0.05 pruned, as in its study (the library's default prunes none). Other code uses 100 data and
    800 votes, and scores the classifier on its training votes. Deviations:

    - The data are those given, not drawn from a generator, so factors may cover their grid in part. A vote draws them without
      replacement: a value with fewer than `per_vote` data votes with all of them; a value of one datum has no vote.
    - The value is uniform among those that can vote, for any share of the data.
    - The global variance is over all data given, not over a sample.

    Arguments:
        means: posterior means (not samples) of a large sample of the data, shape (N, D).
        factors: name -> values of the factor, integers of shape (N,).
        prune: smallest standard deviation of a dimension that takes part.

    Raises:
        ConfigError: for fewer than two factors, a factor with one value or without two data of one value, means that are not
            finite, wrong lengths, fewer than one vote, or fewer than two data a vote.

    >>> grid = np.stack(np.meshgrid(range(5), range(5), indexing="ij")).reshape(2, -1)
    >>> factor_score(grid.T, {"x": grid[0], "y": grid[1]}, votes=100, test_votes=100).majority
    {0: 'x', 1: 'y'}
    """
    means = np.asarray(means, dtype=np.float64)
    if means.ndim != 2 or not len(means):
        raise ConfigError(f"the factor score needs means of shape (N, D), got shape {means.shape}.")
    if not np.isfinite(means).all():
        raise ConfigError("the factor score needs finite means, got NaN or infinite values: look at the encoder first.")
    if votes < 1 or test_votes < 1 or per_vote < 2:
        raise ConfigError(f"votes={votes}, test_votes={test_votes}, per_vote={per_vote}: at least 1, 1 and 2 are needed.")
    if len(factors) < 2:
        raise ConfigError(f"the factor score needs two factors to tell apart, got {list(factors)}: use a set with more.")
    groups = [_group_by_value(name, np.asarray(values), len(means)) for name, values in factors.items()]

    std = means.std(0)
    active = (std >= prune) & (np.ptp(means, axis=0) > 0)  # rounding can give a constant column a tiny std
    kept = np.flatnonzero(active)
    table, scaled = np.zeros((means.shape[1], len(groups)), dtype=int), means[:, kept] / std[kept]
    rng = np.random.default_rng(seed)

    def vote() -> tuple[int, int]:
        factor = int(rng.integers(len(groups)))
        members = groups[factor][rng.integers(len(groups[factor]))]
        drawn = rng.choice(members, min(per_vote, len(members)), replace=False, shuffle=False)
        return int(kept[scaled[drawn].var(0).argmin()]), factor

    correct = 0
    if len(kept):
        for _ in range(votes):
            table[vote()] += 1
        best = np.where(table.any(1), table.argmax(1), -1)
        correct = sum(int(best[dimension] == factor) for dimension, factor in (vote() for _ in range(test_votes)))
    names = tuple(factors)
    return FactorScore(
        score=correct / test_votes,
        train_accuracy=int(table.max(1, initial=0).sum()) / votes,
        factors=names,
        kept=tuple(kept.tolist()),
        pruned=tuple(np.flatnonzero(~active).tolist()),
        votes=table,
        majority={int(d): names[table[d].argmax()] for d in np.flatnonzero(table.any(1))},
    )


def _group_by_value(name: str, values: np.ndarray, count: int) -> list[np.ndarray]:
    """Indices of the data with one value, for every value of two data or more."""
    if values.shape != (count,) or values.dtype.kind not in "iub":
        raise ConfigError(f"factor '{name}' needs {count} integers, one per mean; got shape {values.shape} of {values.dtype}.")
    order = np.argsort(values, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(values[order])) + 1)
    if len(groups) < 2:
        raise ConfigError(f"factor '{name}' has only one value, so fixing it changes nothing: leave it out.")
    if not (groups := [members for members in groups if len(members) > 1]):
        raise ConfigError(f"no two data share a value of factor '{name}', so it cannot be held fixed: leave it out.")
    return groups
