"""MIG and MIG-sup on codes whose scores can be worked out by hand, and against other ways to compute them."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from pyro_hvae.errors import ConfigError
from pyro_hvae.metrics import InformationGaps, Posteriors, draw_aggregate, histogram_gaps, information_gaps

EXACT = 1e-12  # kernels a hundred widths apart are zero, and a balanced grid leaves no sampling error


def grid(*sizes):
    return torch.cartesian_prod(*(torch.arange(size) for size in sizes)).unbind(1)


A, B, C = grid(3, 4, 5)
FACTORS = {"a": A, "b": B, "c": C}
CONSTANT = torch.zeros(60)


def scores(*columns, factors=FACTORS, **options):
    """Of a code whose dimensions are functions of the factors, with narrow posteriors."""
    codes = torch.stack([c.double() for c in columns], 1)
    return information_gaps(Posteriors(codes, torch.full_like(codes, 0.01)), factors, **options)


def both(gaps):
    return pytest.approx((gaps.mig, gaps.mig_sup), abs=EXACT)


def test_a_perfect_code():
    found = scores(A, B, C)
    assert both(found) == (1, 1)
    assert np.array(found.normalised) == pytest.approx(np.eye(3), abs=EXACT)
    assert found.entropies == pytest.approx({"a": math.log(3), "b": math.log(4), "c": math.log(5)})
    assert found.factor_gaps == pytest.approx({"a": 1, "b": 1, "c": 1}) and found.latent_gaps == pytest.approx([1, 1, 1])
    assert [found.leaders[name][0] for name in "abc"] == [0, 1, 2]
    assert found.meaningful == [True] * 3 and found.excluded == []
    assert (found.samples, found.components, found.exact) == (60, 60, True)


def test_permuted_flipped_and_scaled():
    found = scores(-7.0 * C + 3, A, 0.5 * B)
    assert both(found) == (1, 1) and [found.leaders[name][0] for name in "abc"] == [1, 2, 0]


def test_rotated_by_45_degrees():
    """Of two bits, their sum and their difference each know half of either."""
    a, b = grid(2, 2)
    found = scores(a + b, a - b, factors={"a": a, "b": b})
    assert np.array(found.normalised) == pytest.approx(np.full((2, 2), 0.5), abs=EXACT) and both(found) == (0, 0)


def test_a_factor_in_two_dimensions():
    assert both(scores(A, A, B, C)) == (1 - 1 / 3, 1)
    found = scores(A, A, A, B, C)
    assert both(found) == (1 - 1 / 3, 1) and found.leaders["a"] == [0, 1]


def test_two_factors_in_one_dimension():
    assert both(scores(4 * A + B, C)) == (1, 1 / 2)
    assert both(scores(4 * A + B, C, CONSTANT)) == (1, 1 / 2)


def test_noise_and_constants():
    """Collapsed dimensions do not count; what varies with something else does, as one with no gap."""
    known = {"a": A, "b": B}
    assert both(scores(A, B, CONSTANT, factors=known)) == (1, 1)
    found = scores(A, B, C, factors=known)
    assert both(found) == (1, 2 / 3) and found.latent_gaps[2] == pytest.approx(0, abs=EXACT)
    means = torch.stack([A.double(), B.double(), 0.09 * A.sign()], 1)
    wide = information_gaps(Posteriors(means, torch.tensor([0.01, 0.01, 1.0]).expand(60, 3)), known)
    assert wide.meaningful == [True, True, False] and wide.mig > 0.98


def test_nothing_learnt():
    found = scores(CONSTANT, CONSTANT + 2)
    assert (found.mig, found.mig_sup) == pytest.approx((0, 0), abs=EXACT) and found.meaningful == [False, False]
    found = histogram_gaps(torch.zeros(60, 2), FACTORS)
    assert (found.mig, found.mig_sup) == pytest.approx((0, 0), abs=EXACT)
    assert np.isfinite(found.normalised).all()


FLOOR, WALL, OBJECT, SCALE, SHAPE, TURN = grid(6, 6, 6, 3, 2, 2)
ROOM = {"floor": FLOOR, "wall": WALL, "object": OBJECT, "scale": SCALE, "shape": SHAPE, "orientation": TURN}


def test_figure_8_colours_in_two_dimensions_each():
    """MIG punishes it, MIG-sup does not: every dimension holds one factor."""
    colours = (FLOOR, WALL, OBJECT)
    twice = [c for colour in colours for c in (colour, -colour)]
    assert both(scores(*twice, SCALE, SHAPE, TURN, factors=ROOM, samples=1000)) == (1 / 2, 1)
    # As two digits, neither dimension knows all: log 2 and log 3 of log 6.
    low, high = math.log(2) / math.log(6), math.log(3) / math.log(6)
    digits = [c for colour in colours for c in (colour // 3, colour % 3)]
    found = scores(*digits, SCALE, SHAPE, TURN, factors=ROOM, samples=2592)
    assert both(found) == ((3 * (high - low) + 3) / 6, (3 * low + 3 * high + 3) / 9)
    assert found.leaders["wall"] == [3, 2]


def test_figure_9_scale_and_shape_in_one_dimension():
    """The same MIG for both codes, a lower MIG-sup for the merged one, lower still if the sixth varies for nothing."""
    colours = (FLOOR, WALL, OBJECT)
    assert both(scores(*colours, SCALE, SHAPE, TURN, factors=ROOM)) == (1, 1)
    assert both(scores(*colours, 2 * SCALE + SHAPE, TURN, 0 * TURN, factors=ROOM)) == (1, 4 / 5)
    known = {name: values for name, values in ROOM.items() if name != "orientation"}
    assert both(scores(*colours, 2 * SCALE + SHAPE, TURN, factors=known)) == (1, 3 / 5)


def test_factors_are_ranked_after_normalising():
    """One dimension knows 2 of the 4 bits of a and the one bit of b: more nats of a, but all of b."""
    a, b = grid(16, 2)
    found = scores(2 * (a // 4) + b, CONSTANT[:32], factors={"a": a, "b": b})
    assert found.latent_gaps[0] == pytest.approx(1 / 2, abs=EXACT) and both(found) == (3 / 4, 1 / 2)


def test_unbalanced_factors():
    """Values count by frequency, entropies are empirical: a code of one's own for each value knows all of it."""
    a, b = torch.tensor([0, 0, 0, 1]).repeat(4), torch.arange(16) // 4
    found = scores(a, b, factors={"a": a, "b": b})
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert found.entropies["a"] == pytest.approx(entropy) and both(found) == (1, 1)
    merged = scores((a + b).clamp(max=1), b, factors={"a": a, "b": b})
    # The code is a where b is 0, with three zeros there, and one elsewhere.
    code = -3 / 16 * math.log(3 / 16) - 13 / 16 * math.log(13 / 16)
    expected = (code - entropy / 4) / math.log(4)  # H(code) - H(code | b)
    assert merged.normalised[0][1] == pytest.approx(expected, abs=EXACT)


def test_a_lone_dimension():
    found = scores(4 * A + B)
    assert found.leaders["a"] == [0]
    assert found.factor_gaps == pytest.approx({"a": 1, "b": 1, "c": 0}, abs=EXACT) and found.mig_sup == pytest.approx(
        0, abs=EXACT
    )


def mixture(means, stds, z):
    return np.mean(np.exp(-(((z[:, None] - means) / stds) ** 2) / 2) / (stds * np.sqrt(2 * np.pi)), axis=1)


def test_overlapping_posteriors_against_quadrature():
    """I(z_j; v_k) integrated numerically; 5,000 draws are the grid's data repeated, which leaves the law as it is."""
    a, b = (values.numpy() for values in grid(3, 4))
    rng = np.random.default_rng(0)
    means = np.stack([a + 0.3 * b, 0.5 * b - a, rng.normal(size=12)], 1)
    stds = rng.uniform(0.3, 1.0, size=(12, 3))
    z, step = np.linspace(-12, 12, 6001, retstep=True)
    expected = np.zeros((3, 2))
    for j in range(3):
        whole = mixture(means[:, j], stds[:, j], z)
        for k, (values, kinds) in enumerate([(a, 3), (b, 4)]):
            for value in range(kinds):
                part = mixture(means[values == value, j], stds[values == value, j], z)
                expected[j, k] += (part * np.log(part / whole)).sum() * step / kinds / np.log(kinds)
    repeat = 500
    q = Posteriors(torch.tensor(means).repeat(repeat, 1), torch.tensor(stds).repeat(repeat, 1))
    factors = {"a": torch.tensor(a).repeat(repeat), "b": torch.tensor(b).repeat(repeat)}
    runs = np.array([information_gaps(q, factors, samples=5000, seed=seed).normalised for seed in range(6)])
    error = runs.std(0, ddof=1) / 6**0.5
    assert error.max() < 0.01 and (np.abs(runs.mean(0) - expected) < 4 * error).all()  # t with 5 degrees of freedom: 1 %


def test_layers_of_a_chain():
    """Two words per datum, which the value of a owns: all is known about a, nothing about b."""
    a, b = grid(3, 4)
    words = torch.stack([100 * a, 100 * a + 50], 1)[..., None].double()
    above = Posteriors(words, torch.ones_like(words))
    below = Posteriors(100 * b[:, None], torch.ones(12, 1))
    found = information_gaps(Posteriors.concatenate([below, above]), {"a": a, "b": b})
    assert both(found) == (1, 1) and [found.leaders["a"][0], found.leaders["b"][0]] == [1, 0]


def test_few_components():
    """A perfect code compared with 15 of 60 data: what they say of each value's share can be counted."""
    q = Posteriors(torch.stack([A, B], 1), torch.full((60, 2), 0.01))
    draws = draw_aggregate(q, samples=60, seed=3, components=15)
    found = scores(A, B, seed=3, components=15)
    assert (found.samples, found.components, found.exact) == (60, 15, False)
    for j, (values, kinds) in enumerate([(A, 3), (B, 4)]):
        known = 0.0
        for own in draws.rows.tolist():
            others = [n for n in draws.components.tolist() if n != own]
            share = sum(values[n] == values[own] for n in others).item() / len(others)
            known -= math.log(1 / 60 + 59 / 60 * share) / 60
        assert found.normalised[j][j] == pytest.approx(known / math.log(kinds), abs=EXACT)
    with pytest.raises(ConfigError, match="2 components contain too few"):
        scores(A, B, components=2)


def test_the_seed_decides_and_the_global_state_is_left_alone():
    q = Posteriors(torch.randn(300, 2), torch.rand(300, 2))
    factors = {"a": torch.arange(300) % 3, "b": torch.arange(300) % 4}
    state = torch.get_rng_state()
    one, same, other = (information_gaps(q, factors, samples=50, seed=seed) for seed in (0, 0, 1))
    assert one == same and one.mig != other.mig and one.exact and one.samples == 50
    h = [histogram_gaps(q.mean, factors, points=50, seed=seed) for seed in (0, 0, 1)]
    assert h[0] == h[1] and h[0].mig != h[2].mig and (h[0].samples, h[0].components, h[0].exact) == (50, 50, False)
    assert torch.equal(state, torch.get_rng_state())


def by_loops(means, factors, bins=20):
    """disentanglement_lib's way: np.histogram and np.digitize per dimension, scikit-learn's score for each pair."""
    codes = [np.digitize(column, np.histogram(column, bins)[1][:-1]) for column in means.numpy().T]
    known = np.array([[mutual_info_score(v.numpy(), c) for v in factors.values()] for c in codes])
    entropies = np.array([mutual_info_score(v.numpy(), v.numpy()) for v in factors.values()])
    ranked = np.sort(known, axis=0)[::-1]
    return np.mean((ranked[0] - ranked[1]) / entropies), known / entropies


@pytest.mark.parametrize("seed", range(4))
def test_histograms_equal_a_double_loop(seed):
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(700, 5, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 3.0, 0.1, 1.0, 0.0])
    factors = {
        "a": torch.randint(4, (700,), generator=generator) * 5 - 3,
        "b": (means[:, 0] > 0.3).long(),
        "c": torch.bucketize(means[:, 1] + means[:, 3], torch.linspace(-4, 4, 9)),
    }
    means[:, 3] = means[:, 3].round()  # values on the edges of bins
    mig, normalised = by_loops(means, factors)
    found = histogram_gaps(means, factors)
    assert found.mig == pytest.approx(mig, abs=EXACT) and np.array(found.normalised) == pytest.approx(normalised, abs=EXACT)
    assert found.normalised[4] == pytest.approx([0, 0, 0], abs=EXACT)


def test_histograms_of_ideal_codes():
    def of(*columns):
        found = histogram_gaps(torch.stack([c.double() for c in columns], 1), FACTORS)
        return pytest.approx((found.mig, found.mig_sup), abs=EXACT)

    assert of(A, B, C) == (1, 1) and of(C, A, B) == (1, 1)
    assert of(A, A, B, C) == (1 - 1 / 3, 1)
    assert of(4 * A + B, C, CONSTANT) == (1, 1 / 2)


def test_a_dimension_constant_but_for_rounding():
    """np.histogram refuses it; collapsed latents look like this in float64."""
    means = torch.stack([A.double(), B.double(), 1 + 2.0**-52 * (A % 2)], 1)
    found = histogram_gaps(means, FACTORS)
    assert np.isfinite(found.normalised).all() and not found.meaningful[2]


def test_a_factor_of_one_value_is_left_out_and_named():
    found = scores(A, B, factors={"a": A, "shape": 0 * A + 7, "b": B})
    assert (
        found.excluded == ["shape"] and list(found.factor_gaps) == list(found.entropies) == ["a", "b"] and both(found) == (1, 1)
    )
    unread = torch.randperm(60, generator=torch.Generator().manual_seed(0))[30:]
    rare = (torch.arange(60) == unread[0]).long()
    found = histogram_gaps(torch.stack([A, B], 1), {"a": A, "b": B, "rare": rare}, points=30)
    assert found.excluded == ["rare"]


def test_results_are_json():
    found = json.loads(json.dumps(dataclasses.asdict(scores(A, B, C))))
    assert InformationGaps(**found) == scores(A, B, C)


seeds = st.integers(0, 1000)


@settings(max_examples=30, deadline=None)
@given(seeds, st.floats(0.01, 3))
def test_scores_stay_within_bounds(seed, width):
    """With a draw for each datum no information exceeds the factor's entropy."""
    generator = torch.Generator().manual_seed(seed)
    q = Posteriors(torch.randn(24, 3, generator=generator), width * (torch.rand(24, 3, generator=generator) + 0.1))
    factors = {"a": torch.arange(24) % 2, "b": torch.randint(3, (24,), generator=generator)}
    for found in (information_gaps(q, factors, seed=seed), histogram_gaps(q.mean, factors)):
        assert 0 <= np.min(found.normalised) and np.max(found.normalised) <= 1 + EXACT
        assert 0 <= found.mig <= 1 and 0 <= found.mig_sup <= 1


@settings(max_examples=30, deadline=None)
@given(seeds, st.sampled_from([-2, 1, 3]), st.floats(-5, 5))
def test_names_of_values_and_units_of_latents_change_nothing(seed, power, shift):
    generator = torch.Generator().manual_seed(seed)
    means, stds = torch.randn(40, 2, generator=generator).double(), torch.rand(40, 2, generator=generator).double() + 0.05
    a, b = torch.arange(40) % 4, torch.randint(3, (40,), generator=generator)
    before = information_gaps(Posteriors(means, stds), {"a": a, "b": b}, seed=seed)
    scale = torch.tensor([2.0**power, 1.0])
    renamed = {"a": torch.tensor([9, -5, 0, 1000])[a], "b": (b + 1) % 3}
    after = information_gaps(Posteriors(means * scale + shift, stds * scale), renamed, seed=seed)
    assert np.array(after.normalised) == pytest.approx(np.array(before.normalised), abs=1e-9)
    assert after.mig == pytest.approx(before.mig, abs=1e-9)
    plain, scaled = histogram_gaps(means, {"a": a, "b": b}), histogram_gaps(means * scale, renamed)
    assert np.array(scaled.normalised) == pytest.approx(np.array(plain.normalised), abs=EXACT)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_orders_change_nothing(seed):
    """Separated codes, so that other draws are as good; and histograms, which draw nothing."""
    generator = torch.Generator().manual_seed(seed)
    dims, data = torch.randperm(3, generator=generator), torch.randperm(60, generator=generator)
    codes = torch.stack([4 * A + B, B + C, A * C], 1).double()
    before = scores(*codes.T)
    factors = {name: values[data] for name, values in reversed(FACTORS.items())}
    after = scores(*codes[data][:, dims].T, factors=factors)
    assert both(after) == (before.mig, before.mig_sup)
    expected = np.array(before.normalised)[dims.numpy()][:, ::-1]
    assert np.array(after.normalised) == pytest.approx(expected, abs=EXACT)
    histogram = histogram_gaps(codes[data][:, dims], factors)
    assert both(histogram) == (histogram_gaps(codes, FACTORS).mig, histogram_gaps(codes, FACTORS).mig_sup)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({}, "two or more factors that vary, got none"),
        ({"a": A}, "got a\\."),
        ({"a": A, "b": 0 * A, "c": 0 * A}, "got a \\(b, c with one value only\\)"),
        ({"a": A, "b": B.float()}, "factor 'b' holds torch.float32 values"),
        ({"a": A, "b": B[:7]}, "factor 'b' has shape \\(7,\\), but there are 60 data"),
        ({"a": A, "b": torch.stack([B, C], 1)}, "factor 'b' has shape \\(60, 2\\)"),
    ],
)
def test_bad_factors(factors, message):
    with pytest.raises(ConfigError, match=message):
        scores(A, B, factors=factors)
    with pytest.raises(ConfigError, match=message):
        histogram_gaps(torch.randn(60, 2), factors)


def test_bad_histograms():
    with pytest.raises(ConfigError, match="1 of 120 latent means are not finite"):
        histogram_gaps(torch.cat([torch.full((1, 1), float("nan")), torch.zeros(119, 1)]).reshape(60, 2), FACTORS)
    with pytest.raises(ConfigError, match="shape \\(data, latents\\), got \\(60, 1, 2\\)"):
        histogram_gaps(torch.zeros(60, 1, 2), FACTORS)
    for options in ({"bins": 1}, {"points": 1}):
        with pytest.raises(ConfigError, match="two bins and two points"):
            histogram_gaps(torch.zeros(60, 2), FACTORS, **options)
