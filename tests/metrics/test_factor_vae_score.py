"""The FactorVAE metric on codes whose score is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_hvae.errors import ConfigError
from pyro_hvae.metrics import factor_score


def grid(*sizes):
    """Every combination of factor values: names and columns."""
    values = np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij")).reshape(len(sizes), -1)
    return dict(zip("abcdef", values, strict=False))


def code(factors, noise=0.01, seed=0):
    """The perfect code: a dimension for each factor, of unit scale, and a little noise."""
    clean = np.stack([(v - v.mean()) / v.std() for v in factors.values()], 1)
    return clean + noise * np.random.default_rng(seed).normal(size=clean.shape)


def standard_error(p, votes=5000):
    return np.sqrt(p * (1 - p) / votes)


FACTORS = grid(10, 10, 10)


def test_a_perfect_code_and_a_permuted_one():
    found = factor_score(code(FACTORS), FACTORS)
    assert (found.score, found.train_accuracy) == (1.0, 1.0)
    assert (found.factors, found.kept, found.pruned) == (("a", "b", "c"), (0, 1, 2), ())
    assert found.majority == {0: "a", 1: "b", 2: "c"}
    assert np.array_equal(found.votes, np.diag(np.diag(found.votes))) and found.votes.sum() == 10_000
    assert (abs(np.diag(found.votes) / 10_000 - 1 / 3) < 4 * standard_error(1 / 3, 10_000)).all()
    assert factor_score(code(FACTORS)[:, [2, 0, 1]], FACTORS).majority == {0: "c", 1: "a", 2: "b"}


def test_noise_is_never_voted_for_and_small_noise_is_pruned():
    rng = np.random.default_rng(1)
    loud, quiet = rng.normal(size=(1000, 2)), 0.01 * rng.normal(size=(1000, 1))
    found = factor_score(np.concatenate([quiet, loud, code(FACTORS)], 1), FACTORS)
    assert found.score == 1.0 and found.pruned == (0,) and found.kept == (1, 2, 3, 4, 5)
    assert not found.votes[:3].any() and found.majority == {3: "a", 4: "b", 5: "c"}


def test_pruning_compares_the_standard_deviation():
    z = code(FACTORS, noise=0.0)
    for scale, pruned in ((0.0499, (0,)), (0.0501, ())):
        assert factor_score(z * [scale, 1, 1], FACTORS, 100, 100).pruned == pruned
    assert factor_score(z * [0.0499, 1, 1], FACTORS, 100, 100, prune=0.04).pruned == ()


def test_two_factors_turned_by_45_degrees_are_guessed():
    """With the exchange of a and b the turned code keeps all but a sign: a vote knows nothing of which was held fixed."""
    first, second, third = code(FACTORS, 0.1).T
    a, b, c = (np.concatenate(both) for both in ((first, second), (second, first), (third, third)))
    names = (("a", "b"), ("b", "a"), ("c", "c"))
    factors = {name: np.concatenate([FACTORS[one], FACTORS[other]]) for name, (one, other) in zip("abc", names, strict=True)}
    found = factor_score(np.stack([a + b, a - b, c], 1), factors)
    assert abs(found.score - 2 / 3) < 4 * standard_error(2 / 3)
    a_little = factor_score(np.stack([a + 0.3 * b, b - 0.3 * a, c], 1), factors)
    assert a_little.score > 0.99  # the metric forgives a small turn


def test_a_factor_in_two_dimensions_costs_nothing_and_two_in_one_cost_one():
    a, b, c = code(FACTORS, noise=0.0).T
    twice = factor_score(np.stack([a, a, b, c], 1), FACTORS)
    assert twice.score == 1.0 and twice.majority == {0: "a", 2: "b", 3: "c"}
    merged = factor_score(np.stack([a + b, c], 1), FACTORS, per_vote=100)
    assert abs(merged.score - 2 / 3) < 4 * standard_error(2 / 3)
    assert merged.train_accuracy == (merged.votes[0].max() + merged.votes[1, 2]) / 10_000
    assert merged.votes[1, :2].sum() == 0 and merged.votes[0, 2] == 0


def test_nothing_active_scores_nothing():
    for z in (np.full((1000, 2), 0.1), 0.04 * code(FACTORS), np.zeros((1000, 0))):
        found = factor_score(z, FACTORS)
        assert (found.score, found.train_accuracy, found.kept, found.majority) == (0.0, 0.0, (), {})
        assert found.votes.shape == (z.shape[1], 3) and found.pruned == tuple(range(z.shape[1]))
    constant = np.full((1000, 1), 0.1)
    assert factor_score(np.concatenate([code(FACTORS), constant], 1), FACTORS, 100, 100, prune=0.0).pruned == (3,)


def test_votes_of_the_classifier_are_not_those_it_is_scored_on():
    found = factor_score(code(FACTORS), FACTORS, votes=1)
    assert found.train_accuracy == 1.0 and len(found.majority) == 1
    assert abs(found.score - 1 / 3) < 4 * standard_error(1 / 3)


def test_a_grid_that_is_present_in_part():
    kept = np.random.default_rng(2).permutation(1000)[:300]
    part = {name: values[kept] for name, values in FACTORS.items()}
    assert factor_score(code(FACTORS)[kept], part).score == 1.0


def test_a_value_of_one_datum_has_no_vote():
    """Held fixed, it would leave every dimension without variance, and the first would get b's votes."""
    b = np.concatenate([np.repeat(np.arange(4), 100), np.arange(4, 104)])
    factors = {"a": np.random.default_rng(3).integers(0, 5, 500), "b": b}
    assert factor_score(code(factors), factors).majority == {0: "a", 1: "b"}
    assert factor_score(code(factors), factors).score == 1.0


def test_a_value_of_few_data_votes_with_each_of_them_once():
    rng = np.random.default_rng(4)
    factors = {"a": rng.integers(0, 3, 30), "b": rng.integers(0, 3, 30)}
    z = rng.normal(size=(30, 4)) * [1, 2, 3, 4]
    expected = np.zeros((4, 2), dtype=bool)
    for k, values in enumerate(factors.values()):
        for value in range(3):
            expected[(z[values == value].var(0) / z.var(0)).argmin(), k] = True
    assert np.array_equal(factor_score(z, factors, per_vote=30).votes > 0, expected)


def test_data_are_drawn_without_replacement():
    """The two data of a value of a differ in b, whose dimension comes first; one of them twice would let it win."""
    factors = {"a": np.repeat(np.arange(50), 2), "b": np.tile([0, 1], 50)}
    z = np.stack([factors["a"] + 0.0, factors["b"] + 0.0], 1)
    assert factor_score(z[:, ::-1], factors, per_vote=2).votes[0, 0] == 0


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(5)), st.integers(0, 2**32 - 1))
def test_order_scale_sign_and_place_of_dimensions_do_not_matter(order, seed):
    rng = np.random.default_rng(seed)
    factors = grid(4, 5)
    z = np.concatenate([code(factors, 0.5, seed), rng.normal(size=(20, 3))], 1)
    scale = np.exp(rng.uniform(-3, 3, 5)) * rng.choice([-1, 1], 5)
    sizes = {"votes": 200, "test_votes": 200, "per_vote": 3, "prune": 0.0}
    plain = factor_score(z, factors, seed=seed, **sizes)
    moved = factor_score((z * scale + rng.normal(size=5))[:, order], factors, seed=seed, **sizes)
    assert np.array_equal(moved.votes, plain.votes[list(order)])
    assert (moved.score, moved.train_accuracy) == (plain.score, plain.train_accuracy)


def test_the_seed_decides_and_no_global_state():
    z = code(FACTORS, 2.0)
    state = np.random.get_state()[1].copy()
    first, again, other = (factor_score(z, FACTORS, 500, 500, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.votes, again.votes) and first.score == again.score
    assert not np.array_equal(first.votes, other.votes)
    assert np.array_equal(np.random.get_state()[1], state)


def test_bad_input():
    z = code(FACTORS)
    with pytest.raises(ConfigError, match=r"two factors to tell apart, got \['a'\]"):
        factor_score(z, {"a": FACTORS["a"]})
    with pytest.raises(ConfigError, match="finite means"):
        factor_score(np.where(z == z[0], np.nan, z), FACTORS)
    with pytest.raises(ConfigError, match="shape"):
        factor_score(z[:, 0], FACTORS)
    with pytest.raises(ConfigError, match="'b' needs 1000 integers"):
        factor_score(z, {"a": FACTORS["a"], "b": FACTORS["b"][:-1]})
    with pytest.raises(ConfigError, match="'b' needs 1000 integers.*float64"):
        factor_score(z, {"a": FACTORS["a"], "b": FACTORS["b"] / 2})
    with pytest.raises(ConfigError, match="'b' has only one value"):
        factor_score(z, {"a": FACTORS["a"], "b": np.zeros(1000, dtype=int)})
    with pytest.raises(ConfigError, match="no two data share a value of factor 'b'"):
        factor_score(z, {"a": FACTORS["a"], "b": np.arange(1000)})
    for wrong in ({"votes": 0}, {"test_votes": 0}, {"per_vote": 1}):
        with pytest.raises(ConfigError, match="at least 1, 1 and 2"):
            factor_score(z, FACTORS, **wrong)
