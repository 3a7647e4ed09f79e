"""The FactorVAE metric: which dimension varies least while one factor is held fixed (Kim and Mnih 2018, section 4)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pyro_hvae.errors import ConfigError

__all__ = ["FactorScore", "factor_score"]


@dataclass(frozen=True)
class FactorScore:
    """Result of `factor_score`.

    Attributes:
        score: accuracy of the majority-vote classifier on fresh votes, in [0, 1]; chance is one over the number of factors.
        train_accuracy: the same on the votes that the classifier was made of.
        factors: names of the factors, in the order of the table's columns.
        kept, pruned: dimensions that could be voted for, and those of too small a standard deviation.
        votes: training votes, dimensions x factors, shape (D, K); rows of pruned dimensions are 0.
        majority: the factor that each dimension with a vote stands for.
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

    A vote draws a factor k, one of its values v, and `per_vote` data with $v_k = v$, and goes from dimension
    $d = \arg\min_j \mathrm{Var}_{v_k = v}(m_j) / \mathrm{Var}(m_j)$ to k. The classifier maps d to the factor with most of its
    training votes (the first of equals); the score is its accuracy on fresh votes, where a dimension without training votes
    counts as wrong. No dimension left after pruning: 0.

    Constants are those of disentanglement_lib (Locatello et al. 2019): 64 data, 10,000 and 5,000 votes, and dimensions whose
    *standard deviation* is below 0.05 pruned, as in its study (the library's own default prunes none). Other code takes 100
    data and 800 votes, and scores the classifier on the votes it is made of. Deviations:

    - Data come from those at hand, not from a generator, so that factors may cover their grid in part. They are drawn without
      replacement: a value with fewer than `per_vote` data votes with all of them, and one with fewer than two has no vote.
    - The value is uniform among those that can vote, whatever their share of the data.
    - The global variance is that of all the data given, not of a sample.

    Arguments:
        means: posterior means, not samples, shape (N, D), over a large sample of the data.
        factors: for each name the factor's values, integers of shape (N,).
        prune: smallest standard deviation of a dimension that takes part.

    Raises:
        ConfigError: for fewer than two factors, a factor of one value or without two data that share one, means that are not
            finite, wrong lengths, or fewer than one vote or two data a vote.

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
    groups = [_groups(name, np.asarray(values), len(means)) for name, values in factors.items()]

    spread = means.std(0)
    # Rounding may give a constant column a tiny spread, which prune=0 would let through.
    active = (spread >= prune) & (np.ptp(means, axis=0) > 0)
    kept = np.flatnonzero(active)
    table, scaled = np.zeros((means.shape[1], len(groups)), dtype=int), means[:, kept] / spread[kept]
    rng = np.random.default_rng(seed)

    def vote() -> tuple[int, int]:
        factor = int(rng.integers(len(groups)))
        members = groups[factor][rng.integers(len(groups[factor]))]
        drawn = rng.choice(members, min(per_vote, len(members)), replace=False, shuffle=False)
        return int(kept[scaled[drawn].var(0).argmin()]), factor

    right = 0
    if len(kept):
        for _ in range(votes):
            table[vote()] += 1
        best = np.where(table.any(1), table.argmax(1), -1)
        right = sum(int(best[dimension] == factor) for dimension, factor in (vote() for _ in range(test_votes)))
    names = tuple(factors)
    return FactorScore(
        score=right / test_votes,
        train_accuracy=int(table.max(1, initial=0).sum()) / votes,
        factors=names,
        kept=tuple(kept.tolist()),
        pruned=tuple(np.flatnonzero(~active).tolist()),
        votes=table,
        majority={int(d): names[table[d].argmax()] for d in np.flatnonzero(table.any(1))},
    )


def _groups(name: str, values: np.ndarray, count: int) -> list[np.ndarray]:
    """The data of every value that at least two share, as indices."""
    if values.shape != (count,) or values.dtype.kind not in "iub":
        raise ConfigError(f"factor '{name}' needs {count} integers, one per mean; got shape {values.shape} of {values.dtype}.")
    order = np.argsort(values, kind="stable")
    split = np.split(order, np.flatnonzero(np.diff(values[order])) + 1)
    if len(split) < 2:
        raise ConfigError(f"factor '{name}' has only one value, so that fixing it changes nothing: leave it out.")
    able = [members for members in split if len(members) > 1]
    if not able:
        raise ConfigError(f"no two data share a value of factor '{name}', so that it cannot be held fixed: leave it out.")
    return able
