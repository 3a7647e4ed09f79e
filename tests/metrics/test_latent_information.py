"""Mutual information against its closed forms: channels, separated codes, copies and independent layers."""

import math

import pytest
import torch

from pyro_hvae.errors import ConfigError
from pyro_hvae.metrics import Posteriors, layer_information, log_ratios, mutual_information
from pyro_hvae.metrics.aggregate_posterior import draw_aggregate


def channel(sigma, data=10_000, dims=1, seed=0):
    """Means from N(0, 1) and noise of `sigma`: information dims / 2 log(1 + 1 / sigma^2) for ever more data."""
    means = torch.randn(data, dims, generator=torch.Generator().manual_seed(seed))
    return Posteriors(means, torch.full((data, dims), sigma))


def capacity(variance):
    return 0.5 * math.log1p(1 / variance)


@pytest.mark.parametrize(("sigma", "dims"), [(0.3, 1), (1.0, 1), (0.5, 3)])
def test_gaussian_channel(sigma, dims):
    found = mutual_information(channel(sigma, dims=dims), samples=4000)
    assert found.stderr < 0.03 and abs(found.value - dims * capacity(sigma**2)) < 3 * found.stderr
    assert (found.samples, found.components, found.exact) == (4000, 10_000, True)


def test_standard_error_over_repetitions():
    runs = [mutual_information(channel(0.5, data=300, seed=seed), seed=seed) for seed in range(200)]
    values = torch.tensor([run.value for run in runs])
    typical = torch.tensor([run.stderr for run in runs]).mean()
    assert (typical / values.std()).item() == pytest.approx(1, abs=0.2)  # 4 errors of a deviation from 200 runs


def test_few_components_bias_upwards_by_known_amounts():
    """Single runs of another implementation on 3,000 data, two dimensions, noise 0.3; the channel's capacity is 2.494."""
    found = {"all": [], 100: [], "100 without own": [], 500: [], "500 without own": []}
    for seed in range(16):
        q = channel(0.3, 3000, 2, seed)
        found["all"].append(mutual_information(q, seed=seed).value)
        for components in (100, 500):
            ratios = log_ratios(q, draw_aggregate(q, 3000, seed, components))
            found[components].append(ratios.mean().item())
            others = ((-ratios).exp() - 1 / 3000) * 3000 / 2999
            found[f"{components} without own"].append(-others.log().mean().item())
    runs = {name: torch.tensor(values) for name, values in found.items()}
    for name, single in {"all": 2.491, 100: 2.602, "100 without own": 2.665, 500: 2.525, "500 without own": 2.546}.items():
        mean, std = runs[name].mean().item(), runs[name].std().item()
        assert std < 0.07 and abs(mean - single) < 3 * std * (1 + 1 / 16) ** 0.5, name
    order = list(runs)
    order = [order[i] for i in (0, 3, 4, 1, 2)]
    for less, more in zip(order, order[1:], strict=False):
        apart = runs[more] - runs[less]
        assert apart.mean() > 3 * apart.std() / 16**0.5, (less, more)


def test_separated_posteriors_are_told_apart():
    found = mutual_information(Posteriors(100 * torch.arange(50)[:, None], torch.ones(50, 1)))
    assert found.value == pytest.approx(math.log(50), abs=1e-12) and found.limit == math.log(50)
    few = mutual_information(Posteriors(100 * torch.arange(50)[:, None], torch.ones(50, 1)), components=10)
    assert few.value == pytest.approx(math.log(50), abs=1e-12)  # the own datum weighs 1/50, not 1/10
    assert (few.samples, few.components, few.exact) == (50, 10, False)


def test_posteriors_that_ignore_the_data_know_nothing():
    found = mutual_information(Posteriors(torch.full((50, 3), 2.0), torch.full((50, 3), 0.7)))
    assert found.value == pytest.approx(0, abs=1e-12) and found.stderr == pytest.approx(0, abs=1e-12)


def test_pairs_of_equal_data():
    """Every datum twice: half of them are told apart from the others, but not from their twins."""
    found = mutual_information(Posteriors(100 * (torch.arange(50) // 2)[:, None], torch.ones(50, 1)))
    assert found.value == pytest.approx(math.log(25), abs=1e-12)


def test_mixtures():
    """Equal components are one; apart, they are one code with several words per datum."""
    q = channel(0.5, data=400)
    means, stds = q.means.expand(400, 5, 1), q.stds.expand(400, 5, 1)
    several = Posteriors(means, stds)
    draws = draw_aggregate(q)
    assert torch.allclose(log_ratios(several, draws), log_ratios(q, draws), atol=1e-10)
    words = Posteriors(100 * torch.arange(30).reshape(10, 3, 1), torch.ones(10, 3, 1))
    assert mutual_information(words).value == pytest.approx(math.log(10), abs=1e-12)
    shared = Posteriors(
        torch.tensor([[0, 100], [100, 200], [200, 0]])[..., None].expand(3, 2, 1).repeat(200, 1, 1), torch.ones(600, 2, 1)
    )
    # Each word is used by two of the three kinds: log 3 - log 2.
    assert mutual_information(shared).value == pytest.approx(math.log(1.5), abs=1e-12)


def test_chain_of_two_gaussians():
    """z_2 | z_1 ~ N(z_1, 0.6^2) over z_1 | x ~ N(mu, 0.8^2): a channel of variance 1, not of 0.36."""
    mu = torch.randn(1000, 1)
    below = mu[:, None] + 0.8 * torch.randn(1000, 64, 1)
    found = mutual_information(Posteriors(below, torch.full((1000, 64, 1), 0.6)))
    # 64 draws of the layer below know their datum a little: E (q_64 - q)^2 / 2q integrated is 0.01 here.
    assert abs(found.value - capacity(1.0)) < 3 * found.stderr + 0.01 and found.stderr < 0.03


def grid(*sizes):
    return torch.cartesian_prod(*(torch.arange(size) for size in sizes)).double()


def test_layers_independent_over_the_grid_share_nothing():
    """The posteriors overlap, but the aggregate posterior is the product of the layers': zero at every draw."""
    codes = grid(10, 12)
    layers = {"z1": Posteriors(codes[:, :1], torch.ones(120, 1)), "z2": Posteriors(codes[:, 1:], torch.ones(120, 1))}
    found = layer_information(layers, population=True)
    assert found.over.value == pytest.approx(0, abs=1e-12) and found.over.stderr < 1e-12
    assert found.total.value == pytest.approx(found.layers["z1"].value + found.layers["z2"].value, abs=1e-12)
    assert 0.5 < found.layers["z1"].value < math.log(10) and list(found.layers) == ["z1", "z2"]


def independent(n, seed=0, **layers):
    """Independent layers over x ~ N(0, I), each a channel of an information in nats and a number of dimensions."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: Posteriors(
            torch.randn(n, dims, generator=generator, dtype=torch.float64),
            torch.full((n, dims), math.expm1(2 * nats / dims) ** -0.5, dtype=torch.float64),
        )
        for name, (nats, dims) in layers.items()
    }


def exact_ratios(q, draws):
    """log q(z | x) / q(z) for q(z) = N(0, 1 + sigma^2), of all data instead of N."""
    (sigma,) = q.stds.unique()
    own = torch.distributions.Normal(q.means[draws.rows, 0], sigma).log_prob(draws.values)
    return (own - torch.distributions.Normal(0, (1 + sigma**2).sqrt()).log_prob(draws.values)).sum(1)


@pytest.mark.parametrize(
    ("nats", "dims", "missing"), [(5, 1, 0.034), (7, 1, 0.172), (5, 9, 0.138), (7, 9, 0.523), (5, 30, 0.18), (7, 30, 0.668)]
)
def test_the_bias_beside_a_value_is_what_it_lacks(nats, dims, missing):
    """For N = 5,000: `missing` is the mean of exact minus estimated ratios of the same draws."""
    lacking, known, formula, seeds = 0.0, 0.0, 0.0, 4
    for seed in range(seeds):
        q = independent(5000, seed, z=(nats, dims))["z"]
        found, draws = mutual_information(q, 1000, seed), draw_aggregate(q, 1000, seed)
        exact = exact_ratios(q, draws)
        lacking += (exact.mean().item() - found.value) / seeds
        known += found.bias / seeds
        formula += (exact.exp() / 5000).log1p().mean().item() / seeds
    assert lacking == pytest.approx(missing, abs=0.05)
    assert 0.8 * lacking < known < 2 * lacking
    assert known == pytest.approx(formula, rel=0.35)  # E log(1 + e^i / N) over exact ratios, which no run knows


def test_independent_layers_near_log_n_share_nothing_that_5000_data_can_tell():
    found = layer_information(independent(5000, z3=(6.2, 3), z2=(4.3, 3), z1=(1.35, 3)), samples=1000)
    assert found.total.value < 8.5 < found.total.value + found.total.bias and found.over is None  # 11.85 in truth
    for name, nats in (("z3", 6.2), ("z2", 4.3), ("z1", 1.35)):
        layer = found.layers[name]
        assert layer.value + layer.bias == pytest.approx(nats, abs=3 * layer.stderr + 0.05), name


def test_independent_layers_far_below_log_n_share_nothing():
    found = layer_information(independent(5000, z2=(2.0, 2), z1=(2.5, 2)), samples=4000)
    assert found.total.value < math.log(5000) - 2
    assert found.over.bias == pytest.approx(sum(found.layers[z].bias for z in ("z1", "z2")) - found.total.bias, abs=1e-12)
    assert found.over.bias < -0.05 and found.over.value + found.over.bias == pytest.approx(0, abs=0.03)


def test_a_population_has_no_bias():
    words = Posteriors(100 * torch.arange(50)[:, None], torch.ones(50, 1))
    assert mutual_information(words, population=True).bias == 0
    assert mutual_information(words).bias == pytest.approx(math.log(6))  # nothing beside the own datum, which counts a fifth


def test_separated_layers_of_a_grid():
    codes = 100 * grid(3, 4, 5)
    layers = {name: Posteriors(codes[:, dims], torch.ones(60, len(dims))) for name, dims in [("a", [0, 1]), ("b", [1, 2])]}
    found = layer_information(layers, population=True)
    values = [found.layers["a"].value, found.layers["b"].value, found.total.value, found.over.value]
    assert values == pytest.approx([math.log(12), math.log(20), math.log(60), math.log(4)], abs=1e-12)


def test_copies():
    """What a separated layer knows is shared wholly; two overlapping draws are one of half the variance."""
    layer = Posteriors(100 * torch.arange(40)[:, None], torch.ones(40, 1))
    found = layer_information({"a": layer, "b": layer, "c": layer}, population=True)
    assert found.over.value == pytest.approx(2 * math.log(40), abs=1e-12) and found.over.limit == 2 * math.log(40)
    layer = channel(0.7)
    found = layer_information({"a": layer, "b": layer}, samples=4000)
    expected = 2 * capacity(0.49) - capacity(0.49 / 2)
    assert abs(found.over.value - expected) < 3 * found.over.stderr
    separate = sum(part.stderr**2 for part in (*found.layers.values(), found.total)) ** 0.5
    assert found.over.stderr < 0.5 * separate  # the same draws


def test_layers_of_a_chain_have_no_total():
    above = Posteriors(torch.randn(30, 16, 2), torch.ones(30, 16, 2))
    below = Posteriors(torch.randn(30, 1), torch.ones(30, 1))
    found = layer_information({"z1": below, "z2": above})
    assert found.total is None and found.over is None and set(found.layers) == {"z1", "z2"}
    alone = layer_information({"z1": below})
    assert alone.total == alone.layers["z1"] and alone.over.value == 0


def test_each_layer_is_as_alone():
    """AggregateDraws differ, the information does not."""
    a, b = channel(0.5, 2000), Posteriors(torch.randn(2000, 4, 1), torch.rand(2000, 4, 1) + 0.1)
    found = layer_information({"a": a, "b": b})
    for name, q in [("a", a), ("b", b)]:
        alone, here = mutual_information(q, seed=5), found.layers[name]
        assert abs(alone.value - here.value) < 4 * math.hypot(alone.stderr, here.stderr)


def test_bad_layers():
    with pytest.raises(ConfigError, match="same data"):
        layer_information({"a": channel(1.0, 5), "b": channel(1.0, 6)})
    with pytest.raises(ConfigError, match="got no data"):
        layer_information({})
    with pytest.raises(ConfigError, match="two or more samples"):
        mutual_information(channel(1.0, 5), samples=1)
