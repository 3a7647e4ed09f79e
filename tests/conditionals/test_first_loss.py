"""A pair of default conditionals starts near the entropy of its data, whatever its depth and its widths."""

import math

import pyro
import pytest
import torch

from pyro_hvae import (
    ELBO,
    Autoregressive,
    Bernoulli,
    BottomUp,
    Chain,
    Gaussian,
    StandardNormal,
    TopDown,
    TrainConfig,
    data,
    fit,
    log_likelihood,
)

SEEDS = range(12)


def build(depth, std, width=16, event=(64,), hidden=(128, 128)):
    """A Markov chain of `depth` layers with its bottom-up guide; every option but std is the default."""
    levels = [Gaussian(width, width, hidden, std=std) for _ in range(depth - 1)]
    up = [Gaussian(width, width, hidden, std=std) for _ in range(depth - 1)]
    model = Chain(StandardNormal(width), levels, Bernoulli(width, event, hidden))
    return model, BottomUp([Gaussian(event, width, hidden, std=std), *up])


def first_loss(seed, *args, x, **options):
    pyro.set_rng_seed(seed)
    return ELBO()(*build(*args, **options)).double()(x.double()).item()


@pytest.mark.parametrize("std", ["exp", "sigmoid", "softplus"])
def test_binary_data_start_near_fair_bits_at_every_depth(std):
    x = (torch.rand(50, 64, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    for depth in (1, 2, 3, 8):
        for seed in SEEDS:
            loss = first_loss(seed, depth, std, x=x)
            # Sigmas that are a sigmoid or the root of a softplus start at 0.5 and 0.83 instead of 1: some nats a layer.
            assert 64 * math.log(2) - 1 < loss < 64 * math.log(2) + 10 * depth, f"depth {depth}, seed {seed}"


@pytest.mark.parametrize("hidden, width", [((8,), 2), ((512, 512, 512), 128), ((), 16)])
def test_the_widths_do_not_matter(hidden, width):
    x = (torch.rand(50, 64, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    for seed in SEEDS:
        losses = [first_loss(seed, depth, "exp", x=x, hidden=hidden, width=width) for depth in (1, 8)]
        assert losses[1] < 3 * losses[0] and losses[0] < 3 * 64 * math.log(2)


@pytest.mark.parametrize("std", ["exp", "sigmoid", "softplus"])
@pytest.mark.parametrize("units", [10.0, 100.0, 1e4, 1e6])
def test_the_units_of_the_data_do_not_matter(std, units):
    # Columns in units of hundreds or more; the likelihood is of bits, so that only the guide's levels see the units.
    x = (torch.rand(50, 64, generator=torch.Generator().manual_seed(0)) < 0.3).double()
    for seed in SEEDS:
        losses = []
        for depth in (1, 8):
            pyro.set_rng_seed(seed)
            model, guide = (program.double() for program in build(depth, std))
            losses.append(ELBO().estimate(model, lambda x, guide=guide: guide(units * x), x).loss().item())
        assert losses[1] < 3 * losses[0] and losses[0] < 10 * 64 * math.log(2), f"seed {seed}: {losses}"


def test_inputs_within_the_bounds_enter_the_network_unchanged_and_others_by_a_logarithm():
    torch.manual_seed(0)
    p = Gaussian(3, 2, (8,))
    z = torch.tensor([[-10.0, 0.3, 10.0], [-10.0 - math.e + 1, 1e6, 3.0]])
    bounded = torch.tensor([[-10.0, 0.3, 10.0], [-11.0, 10 + math.log(1e6 - 9), 3.0]])
    torch.testing.assert_close(p(z).mean, p.net(bounded)[:, :2])
    assert torch.equal(p(z[:1]).mean, p.net(z[:1])[:, :2])
    for row in (torch.tensor([[-1e6, 0.0, 0.0]]), torch.tensor([[1e6, 0.0, 0.0]])):  # one bound alone
        torch.testing.assert_close(p(row).mean, p.net(row.sign() * (10 + math.log(1e6 - 9)))[:, :2])
    torch.testing.assert_close(torch.vmap(lambda z: p(z).mean)(z), p(z).mean)
    assert p(torch.zeros(0, 3)).mean.shape == (0, 2)


def test_networks_of_ones_own_and_linear_conditionals_get_their_inputs_as_they_are():
    z = torch.tensor([[1e4, 0.0, -20.0]])
    for p in (Gaussian(3, 2, net=torch.nn.Linear(3, 4)), Gaussian(3, 2, ()), Gaussian(3, 2, (8,), input_bound=None)):
        assert torch.equal(p(z).mean, p.net(z)[:, :2])


@pytest.mark.parametrize("units", [1.0, 1e4])
def test_guides_that_go_down_start_as_near(units):
    x = (torch.rand(50, 64, generator=torch.Generator().manual_seed(0)) < 0.3).double()
    for seed in SEEDS:
        pyro.set_rng_seed(seed)
        model = Chain(StandardNormal(4), [Gaussian(4, 4) for _ in range(7)], Bernoulli(4, 64)).double()
        down = {f"z{i}": Gaussian(64 + 4 * (8 - i), 4) for i in range(8, 0, -1)}
        steps = [torch.nn.Linear(64, 8), *(torch.nn.Linear(8, 8) for _ in range(7))]
        fused = TopDown(steps, [Gaussian(8, 4) for _ in steps], list(model.levels))
        for guide in (Autoregressive(down), fused):
            guide = guide.double()
            loss = ELBO().estimate(model, lambda x, guide=guide: guide(units * x), x).loss().item()
            assert loss < 10 * 64 * math.log(2), f"{type(guide).__name__}, seed {seed}: {loss}"


def test_a_vhp_of_default_linear_gaussians_reaches_the_optimum_of_probabilistic_pca():
    pyro.set_rng_seed(0)
    x = torch.randn(400, 2) @ torch.randn(2, 6) + 0.5 * torch.randn(400, 6)
    x = x - x.mean(0)
    variances = torch.linalg.eigvalsh(x.T @ x / len(x)).flip(0)
    noise = variances[2:].mean()
    optimum = -0.5 * (6 * math.log(2 * math.pi) + variances[:2].log().sum() + 4 * noise.log() + 6).item()
    model = Chain(StandardNormal(2), [Gaussian(2, 2, ())], Gaussian(2, 6, (), scale=1.0, learn_scale=True))
    guide = BottomUp([Gaussian(6, 2, ()), Gaussian(2, 2, ())])
    config = TrainConfig(steps=1200, batch_size=100, lr=1e-2, lr_decay=0.5)
    fit(ELBO(particles=8, shared={"z1"})(model, guide), x, config, progress=False)
    found = log_likelihood(model, guide, x, particles=200).mean().item()
    # Its sigmas depend on z2, so it may end a little above; the importance weights of 200 draws are a little below.
    assert optimum - 0.05 < found < optimum + 0.05


def test_the_last_layer_of_a_likelihood_of_bits_starts_whole_and_that_of_a_gaussian_small():
    def last(build, **options):
        torch.manual_seed(0)
        return build(4, 3, **options).net[-1].weight

    assert torch.equal(last(Bernoulli), last(Bernoulli, gain=1.0)) and torch.equal(last(Gaussian), last(Gaussian, gain=0.1))
    assert not torch.equal(last(Bernoulli, gain=0.1), last(Bernoulli))


def test_a_pair_as_the_readme_writes_it_trains_as_well_as_a_recipe():
    """Binarised digits, 64-16-4, half of the README's steps and two of its seeds, a share of the test data."""
    digits = data.digits()
    train, test = ((split.x[:] > 0.5).float() for split in (digits.train, digits.test))
    for seed in (0, 1):
        pyro.set_rng_seed(seed)
        model = Chain(StandardNormal(4), [Gaussian(4, 16)], Bernoulli(16 + 4, (1, 8, 8)), skip=True)
        objective = ELBO()(model, BottomUp([Gaussian((1, 8, 8), 16), Gaussian(16, 4)]))
        fit(objective, train, TrainConfig(steps=750, batch_size=128, seed=seed), progress=False)
        assert log_likelihood(model, objective.guide, test, particles=200).mean() > -18.4
