"""A pair of default conditionals starts near the entropy of its data, whatever its depth and its widths."""

import math

import pyro
import pytest
import torch

from pyro_hvae import ELBO, Bernoulli, BottomUp, Chain, Gaussian, StandardNormal

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
