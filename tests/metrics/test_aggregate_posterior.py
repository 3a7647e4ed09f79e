"""The aggregate posterior against a double loop over data, and the invariances that its ratios must have."""

import math
import resource

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_hvae.errors import ConfigError
from pyro_hvae.metrics import AggregateDraws, Posteriors, draw_aggregate, log_ratios


def posteriors(data=12, size=1, dims=3, seed=0, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    means = spread * torch.randn(data, size, dims, generator=generator, dtype=torch.float64)
    return Posteriors(means, 0.2 + torch.rand(data, size, dims, generator=generator, dtype=torch.float64))


def density(q, n, z, dims):
    """q(z | x_n) over some dimensions, spelt out."""
    total = 0.0
    for m in range(q.means.shape[1]):
        term = 1.0
        for j in dims:
            mean, std = q.means[n, m, j].item(), q.stds[n, m, j].item()
            term *= math.exp(-(((z[j].item() - mean) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi))
        total += term / q.means.shape[1]
    return total


def by_loops(q, draws, groups, dims):
    """log q(z|x) - log q^(z), with the weights written down one by one."""
    ratios = []
    for z, own in zip(draws.values, draws.rows.tolist(), strict=True):
        group = [n for n in range(len(q)) if groups[n] == groups[own]]
        others = [n for n in draws.components.tolist() if n in group and n != own]
        mixed = density(q, own, z, dims) / len(group)
        for n in others:
            mixed += (len(group) - 1) / len(group) / len(others) * density(q, n, z, dims)
        ratios.append(math.log(density(q, own, z, dims) / mixed))
    return torch.tensor(ratios, dtype=torch.float64)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("components", [None, 7])
@pytest.mark.parametrize("grouped", [False, True])
def test_ratios_equal_a_double_loop(size, components, grouped):
    q = posteriors(size=size)
    draws = draw_aggregate(q, samples=9, seed=1, components=components)
    groups = torch.arange(12) % 2 if grouped else torch.zeros(12, dtype=torch.long)
    own_kept = torch.isin(draws.rows, draws.components)
    assert own_kept.all() if components is None else own_kept.any() and not own_kept.all()
    joint = log_ratios(q, draws, groups if grouped else None)
    assert torch.allclose(joint, by_loops(q, draws, groups, range(3)), rtol=0, atol=1e-12)
    each = log_ratios(q, draws, groups if grouped else None, jointly=False)
    assert each.shape == (9, 3)
    for j in range(3):
        assert torch.allclose(each[:, j], by_loops(q, draws, groups, [j]), rtol=0, atol=1e-12)


def test_blocks_change_nothing():
    """More data and draws than a block holds, against one matrix of everything."""
    q = posteriors(data=5000, size=2, dims=2)
    draws = draw_aggregate(q, samples=150)
    law = torch.distributions.Normal(q.means, q.stds)
    kernels = law.log_prob(draws.values[:, None, None, :]).sum(-1).logsumexp(2) - math.log(2)
    own = kernels[torch.arange(150), draws.rows]
    expected = own - (kernels.logsumexp(1) - math.log(5000))
    assert torch.allclose(log_ratios(q, draws), expected, rtol=0, atol=1e-11)


def test_stratified_density_is_unbiased():
    """Averaged over batches of components, q^(z) / q(z | x) is the exact one, whether or not the own datum is among them."""
    q = posteriors(data=10, dims=1)
    draws = draw_aggregate(q)
    exact = (-log_ratios(q, draws)).exp()
    runs = []
    for _ in range(2000):
        components = torch.randperm(10)[:3]
        runs.append((-log_ratios(q, AggregateDraws(draws.values, draws.rows, components, 10))).exp())
    runs = torch.stack(runs)
    assert ((runs.mean(0) - exact).abs() < 4 * runs.std(0) / 2000**0.5).all()


def test_memory_is_bounded():
    """2e8 pairs would be 1.6 GB at once."""
    q = posteriors(data=200_000, dims=1)
    draws = draw_aggregate(q, samples=1000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    log_ratios(q, draws)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_far_and_narrow_posteriors_are_told_apart():
    """Kernels that underflow by thousands of nats, in many dimensions too."""
    q = Posteriors(1e6 * torch.arange(7.0)[:, None].expand(7, 40), torch.full((7, 40), 1e-6))
    assert torch.allclose(log_ratios(q, draw_aggregate(q)), torch.tensor(7.0).double().log(), atol=1e-12)
    equal = Posteriors(torch.full((7, 40), 3.0), torch.full((7, 40), 1e-12))
    assert log_ratios(equal, draw_aggregate(equal)).abs().max() < 1e-2  # rounding of 3 + 1e-12 times noise
    wide = Posteriors(torch.zeros(2, 40), torch.tensor([[1e-3], [1e3]]).expand(2, 40))
    assert torch.allclose(log_ratios(wide, draw_aggregate(wide)), torch.tensor(2.0).double().log(), atol=1e-12)


seeds, sizes = st.integers(0, 1000), st.sampled_from([1, 2])


@settings(max_examples=40, deadline=None)
@given(seeds, sizes, st.floats(-3, 3).filter(lambda a: abs(a) > 0.1), st.floats(-5, 5), st.booleans())
def test_rescaling_and_moving_a_dimension_changes_nothing(seed, size, scale, shift, few):
    q = posteriors(seed=seed, size=size)
    factor, move = torch.tensor([1.0, scale, 1.0]).double(), torch.tensor([0.0, shift, 0.0]).double()
    moved = Posteriors(q.means * factor + move, q.stds * factor.abs())
    draws = draw_aggregate(q, seed=seed, components=5 if few else None)
    to = AggregateDraws(draws.values * factor + move, draws.rows, draws.components, draws.data)
    for jointly in (True, False):
        assert torch.allclose(log_ratios(q, draws, jointly=jointly), log_ratios(moved, to, jointly=jointly), atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(seeds, sizes)
def test_order_of_dimensions_and_of_data_and_names_of_groups_change_nothing(seed, size):
    q, groups = posteriors(seed=seed, size=size), torch.arange(12) % 3
    draws = draw_aggregate(q, seed=seed)
    dims, data = torch.randperm(3), torch.randperm(12)
    place = data.argsort()
    shuffled = q.rows(data).dims(dims)
    to = AggregateDraws(draws.values[:, dims], place[draws.rows], draws.components, 12)
    names = torch.tensor([40, -7, 3])
    assert torch.allclose(log_ratios(q, draws), log_ratios(shuffled, to), atol=1e-9)
    before = log_ratios(q, draws, groups, jointly=False)
    assert torch.allclose(before[:, dims], log_ratios(shuffled, to, names[groups][data], jointly=False), atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(seeds, sizes, st.floats(0, 20))
def test_no_ratio_exceeds_the_logarithm_of_the_data(seed, size, spread):
    q = posteriors(seed=seed, size=size, spread=spread)
    assert (log_ratios(q, draw_aggregate(q, seed=seed)) <= math.log(12) + 1e-12).all()
    assert (log_ratios(q, draw_aggregate(q, seed=seed, components=3)) <= math.log(12) + 1e-12).all()


def test_draws_follow_their_mixture():
    """Half of the draws from either component, each with its own width; the error of a deviation is 1 / sqrt(2 n) of it."""
    q = Posteriors(torch.tensor([[-10.0], [30.0]]).expand(40_000, 2, 1), torch.tensor([[0.5], [1.0]]).expand(40_000, 2, 1))
    z = q.draw(0)[:, 0]
    low, high = z[z < 10], z[z > 10]
    assert len(low) == pytest.approx(20_000, abs=4 * 100)
    for part, mean, std in [(low, -10, 0.5), (high, 30, 1.0)]:
        assert part.mean().item() == pytest.approx(mean, abs=4 * std / 20_000**0.5)
        assert part.std().item() == pytest.approx(std, rel=4 / 40_000**0.5)
    assert torch.equal(q.mean, torch.full((40_000, 1), 10.0, dtype=torch.float64))


def test_draws_are_of_different_data_and_of_the_seed_alone():
    q = posteriors(data=100)
    state = torch.get_rng_state()
    one, same, other = (draw_aggregate(q, 60, seed, 30) for seed in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(one.values, same.values) and torch.equal(one.components, same.components)
    assert not torch.equal(one.values, other.values)
    assert len(one.rows.unique()) == 60 and len(one.components.unique()) == 30 and not one.exact
    noise = (one.values - q.means[one.rows, 0]) / q.stds[one.rows, 0]
    assert noise.abs().max() < 5 and 0.8 < noise.std() < 1.2  # each draw is its own datum's


def test_fewer_draws_before_fewer_components(monkeypatch):
    """1e10 terms: a large data set keeps all its components as long as 1,000 draws can be had."""
    monkeypatch.setattr("pyro_hvae.metrics.aggregate_posterior.MAX_TERMS", 40_000_000)

    def protocol(data, size, dims=2, jointly=True):
        draws = draw_aggregate(Posteriors(torch.zeros(data, size, dims), torch.ones(data, size, dims)), jointly=jointly)
        return len(draws.rows), len(draws.components), draws.exact

    assert protocol(2_000, 1) == (2_000, 2_000, True)
    assert protocol(5_000, 1) == (4_000, 5_000, True)
    assert protocol(20_000, 1) == (1_000, 20_000, True)
    assert protocol(20_001, 1) == (1_000, 20_000, False)
    assert protocol(10_000, 2) == protocol(10_000, 1, 4) == (1_000, 10_000, True)
    assert protocol(20_001, 2) == protocol(20_001, 1, 4) == (1_000, 20_000, False)
    # Ratios of one dimension are linear in draws and data.
    assert protocol(30_000, 2, jointly=False) == protocol(30_000, 2, dims=1) == (10_000, 30_000, True)


@pytest.mark.parametrize("components", [None, 700])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("size", [1, 3])
def test_ratios_on_grids_equal_those_of_all_pairs(monkeypatch, size, grouped, components):
    """Deviations over seven octaves, data that stand alone, groups of one, and a dimension beyond double precision."""
    q = posteriors(data=900, size=size, spread=3.0)
    scale = torch.logspace(-2, 0, 900, dtype=torch.float64)[torch.randperm(900, generator=torch.Generator().manual_seed(1))]
    means = q.means.clone()
    means[0] = 1e4
    means[..., 2] += 1e15
    q = Posteriors(means, q.stds * scale[:, None, None])
    draws = draw_aggregate(q, seed=1, components=components)
    groups = (torch.arange(900) % 3).index_fill(0, torch.tensor([0]), 7) if grouped else None
    monkeypatch.setattr("pyro_hvae.metrics.aggregate_posterior.GRID_DRAWS", 900)
    pairs = log_ratios(q, draws, groups, jointly=False)
    monkeypatch.setattr("pyro_hvae.metrics.aggregate_posterior.GRID_DRAWS", 0)
    monkeypatch.setattr("pyro_hvae.metrics.aggregate_posterior.GRID_TERMS", 0)
    grids = log_ratios(q, draws, groups, jointly=False)
    assert torch.allclose(grids, pairs, rtol=0, atol=1e-8) and not torch.equal(grids[:, :2], pairs[:, :2])
    assert torch.equal(grids[:, 2], pairs[:, 2])


def test_layers_side_by_side():
    one, two = posteriors(dims=2), posteriors(size=4, dims=1, seed=1)
    both = Posteriors.concatenate([one, two])
    assert both.means.shape == (12, 4, 3) and both.size == 4 and len(both) == 12
    assert torch.equal(both.mean[:, :2], one.mean) and torch.allclose(both.mean[:, 2:], two.mean)
    draws = draw_aggregate(both)
    parts = [(one, draws.values[:, :2]), (two, draws.values[:, 2:])]
    alone = [log_ratios(q, AggregateDraws(z, draws.rows, draws.components, 12), jointly=False) for q, z in parts]
    assert torch.allclose(log_ratios(both, draws, jointly=False), torch.cat(alone, 1), atol=1e-12)
    thirds = Posteriors.concatenate([posteriors(size=2), posteriors(size=3)])
    assert thirds.size == 6
    assert torch.equal(both.dims([2]).means, two.means) and torch.equal(both.rows(torch.tensor([3])).means[0], both.means[3])


def test_float32_and_gradients_are_left_behind():
    q = Posteriors(torch.zeros(3, 2, requires_grad=True), torch.ones(3, 2))
    assert q.means.dtype == torch.float64 and not q.means.requires_grad and q.means.shape == (3, 1, 2)


@pytest.mark.parametrize(
    ("means", "stds", "message"),
    [
        (torch.zeros(3, 2), torch.ones(3, 1), "of one shape"),
        (torch.zeros(3), torch.ones(3), "of one shape"),
        (torch.zeros(0, 2), torch.ones(0, 2), "of one shape"),
        (torch.tensor([[0.0], [float("nan")]]), torch.ones(2, 1), "1 of 2 posterior parameters are not finite"),
        (torch.zeros(2, 1), torch.tensor([[1.0], [float("inf")]]), "not finite"),
        (torch.zeros(2, 1), torch.tensor([[1.0], [0.0]]), "stds above 0"),
        (torch.zeros(2, 1), torch.tensor([[1.0], [-2.0]]), "got -2"),
        (torch.zeros(2, 1), torch.full((2, 1), 1e-310, dtype=torch.float64), "got 1e-310"),
    ],
)
def test_bad_posteriors(means, stds, message):
    with pytest.raises(ConfigError, match=message):
        Posteriors(means, stds)


def test_bad_requests():
    q = posteriors()
    for arguments, message in [({"samples": 1}, "more samples, got 1"), ({"components": 0}, "more components, got 0")]:
        with pytest.raises(ConfigError, match=message):
            draw_aggregate(q, **arguments)
    with pytest.raises(ConfigError, match="more data, got 1"):
        draw_aggregate(posteriors(data=1))
    with pytest.raises(ConfigError, match="same data, got \\[3, 4\\] data"):
        Posteriors.concatenate([posteriors(data=3), posteriors(data=4)])
    with pytest.raises(ConfigError, match="got no data"):
        Posteriors.concatenate([])
    with pytest.raises(ConfigError, match="the 2 components contain too few of a group of 4 among 12 data"):
        log_ratios(q, draw_aggregate(q, components=2), torch.arange(12) // 4)
    alone = log_ratios(q, draw_aggregate(q), torch.arange(12))  # a group of one: its own density
    assert torch.equal(alone, torch.zeros(12, dtype=torch.float64))


def test_the_variance_of_means_of_two_draws_by_hand():
    """Means 1, 3, 5 have the variance 8/3; draws of variance 2, 0, 2 leave a noise of 4/3 over two draws in them."""
    means = torch.tensor([[0.0, 2.0], [3.0, 3.0], [6.0, 4.0]])[..., None]
    assert Posteriors(means, torch.ones_like(means)).variance_of_means.item() == pytest.approx(2.0)
    assert Posteriors(means[:, :1], torch.ones(3, 1, 1)).variance_of_means.item() == pytest.approx(6.0)
