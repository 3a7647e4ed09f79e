"""Networks of ladders: sizes of the papers' networks, norms, order of layers, errors."""

import math

import pytest
import torch
from torch import nn

from pyro_hvae import recipes
from pyro_hvae.errors import ConfigError
from pyro_hvae.models.ladder_blocks import Affine
from pyro_hvae.models.ladder_registry import LADDERS, ladder_networks

MNIST, SVHN, SHAPES, SPRITES = (1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 64, 64)


# network, event, dims, width -> features of h_l that lead on, of the heads, of g_L .. g_1
SIZES = {
    "vlae-mnist": (MNIST, (2, 2, 2), 64, [784, 1024, 1024], [6272, 1024, 1024], [1024, 1024, 6272]),
    "vlae-svhn": (
        SVHN,
        (5, 5, 5, 10),
        64,
        [3072, 64 * 16 * 16, 128 * 8 * 8, 4096],
        [64 * 16 * 16, 128 * 8 * 8, 4096, 1024],
        [1024, 128 * 8 * 8, 64 * 16 * 16, 64 * 32 * 32],
    ),
    "vlae-celeba": (
        SHAPES,
        (10, 10, 10, 10),
        64,
        [3 * 64 * 64, 64 * 32 * 32, 256 * 8 * 8, 512 * 4 * 4],
        [64 * 32 * 32, 256 * 8 * 8, 512 * 4 * 4, 1024],
        [512 * 4 * 4, 256 * 8 * 8, 64 * 32 * 32, 64 * 64 * 64],
    ),
    "pro-shapes": (
        SHAPES,
        (3, 3, 3),
        32,
        [32 * 32 * 32, 32 * 16 * 16, 32 * 8 * 8],
        [256, 256, 256],
        [32 * 8 * 8, 32 * 16 * 16, 32 * 32 * 32],
    ),
    "pro-celeba": (
        SHAPES,
        (7, 7, 7, 7),
        64,
        [64 * 32 * 32, 128 * 16 * 16, 256 * 8 * 8, 512 * 4 * 4],
        [64 * 16 * 16, 256 * 4 * 4, 512 * 2 * 2, 1024],
        [512 * 4 * 4, 256 * 8 * 8, 64 * 16 * 16, 64 * 32 * 32],
    ),
    "dense": (SPRITES, (4, 3), 20, [20, 20], [20, 20], [20, 20]),
}


LATENTS = {"vlae-mnist": 6, "vlae-svhn": 25, "vlae-celeba": 40, "pro-shapes": 9, "pro-celeba": 28, "dense": 7}


@pytest.fixture
def meta_device():
    """Shapes without numbers."""
    with torch.device("meta"):
        yield


@pytest.mark.parametrize("name", LADDERS)
@torch.no_grad()
def test_sizes_of_all_feature_maps(meta_device, name):
    event, dims, width, features, read, given = SIZES[name]
    nets = ladder_networks(name)(event, dims, width, "concat", None)
    sites = [f"z{level}" for level in range(1, len(dims) + 1)]
    h = torch.rand(2, math.prod(event))
    for site, number, (net, into) in zip(sites, features, nets.heads.values(), strict=True):
        h = nets.steps[site](h) if site in nets.steps else h
        assert h.shape == (2, number)
        assert net(h).shape == (2, into)
    assert [into for _, into in nets.heads.values()] == read and list(nets.heads) == sites
    g, seen = None, []
    for site, rung in nets.rungs.items():
        g = rung(torch.randn(2, dims[int(site[1:]) - 1]), g)
        seen.append(g.shape[1])
    assert list(nets.rungs) == sites[::-1] and seen == given and nets.features == given[-1]
    assert nets.output(g).shape == (2, math.prod(event))
    assert sum(dims) == LATENTS[name]


def parameters(name, event, dims, width=32):
    nets = ladder_networks(name)(event, dims, width, "concat", None)
    modules = [*nets.steps.values(), *(net for net, _ in nets.heads.values()), *nets.rungs.values(), nets.output]
    return [p for module in modules for p in module.parameters()]


def test_dsprites_and_padded_mnist():
    assert sum(p.numel() for p in parameters("pro-shapes", SPRITES, (2, 2, 2))) == pytest.approx(5.71e6, rel=0.01)
    nets = ladder_networks("pro-shapes")(MNIST, (3, 3, 3), 32, "concat", None)
    # 28 x 28 in a margin of two: maps of 16, 8 and 4, branches of 8, 4 and 2.
    assert [rung.width for rung in nets.rungs.values()] == [2 * 2 * 32, 4 * 4 * 32, 8 * 8 * 32]
    x = torch.zeros(1, 28, 28)
    x[0, 0, 0] = x[0, 27, 27] = 1.0
    padded = nets.steps["z1"].net[0](x[None])
    assert padded.shape == (1, 1, 32, 32) and padded[0, 0, 2, 2] == padded[0, 0, 29, 29] == 1.0 and padded.sum() == 2


@pytest.mark.parametrize("norm", ["batch", "affine", "none"])
def test_norms(norm):
    x = torch.rand(30, 1, 8, 8)
    objective = recipes.build("vlae", x, {"network": "pro-shapes", "dims": (2, 2), "width": 4, "norm": norm})[0].objective
    kinds = {type(module).__name__ for module in objective.modules()}
    assert ("BatchNorm2d" in kinds) == (norm == "batch") and ("Affine" in kinds) == (norm == "affine")
    # Only batch normalisation lets a datum see its neighbours.
    h = objective.guide.steps["z1"]
    alone, together = h(x[:1].flatten(1)), h(x.flatten(1))[:1]
    assert torch.allclose(alone, together, atol=1e-5) == (norm != "batch")


@pytest.mark.parametrize(
    "name, kinds, slope",
    [
        ("vlae-mnist", ["Conv2d", "BatchNorm2d", "LeakyReLU"], 0.1),
        ("vlae-svhn", ["Conv2d", "BatchNorm2d", "LeakyReLU"], 0.1),
        ("pro-shapes", ["Conv2d", "ELU", "Affine"], None),
        ("pro-celeba", ["Conv2d", "LeakyReLU", "Affine"], 0.2),
    ],
)
def test_order_of_activation_and_normalisation(name, kinds, slope):
    event, dims, width, *_ = SIZES[name]
    nets = ladder_networks(name)(event, dims, max(1, width // 16), "concat", None)
    layers = [module for module in next(iter(nets.steps.values())).modules() if not list(module.children())]
    layers = [layer for layer in layers if type(layer).__name__ != "ZeroPad2d"]
    assert [type(layer).__name__ for layer in layers[:3]] == kinds
    found = [layer.negative_slope for layer in layers if isinstance(layer, nn.LeakyReLU)]
    assert all(value == slope for value in found)
    # A norm that would take a bias away again has none before it.
    assert (layers[0].bias is None) == ("BatchNorm2d" in kinds)


def test_affine_is_a_scale_and_shift_of_every_channel():
    layer = Affine(2)
    with torch.no_grad():
        layer.scale.copy_(torch.tensor([2.0, 3.0]))
        layer.shift.copy_(torch.tensor([1.0, -1.0]))
    h = torch.ones(4, 2, 3, 3)
    assert layer(h)[:, 0].eq(3).all() and layer(h)[:, 1].eq(2).all()
    assert layer(torch.ones(4, 2)).tolist() == [[3.0, 2.0]] * 4


def test_unusable_options_are_refused():
    x = torch.rand(10, 1, 30, 30)

    def build(**options):
        return recipes.build("vlae", x, options)

    with pytest.raises(ConfigError, match="no network of a ladder called 'vlae-mnst'. Did you mean 'vlae-mnist'"):
        build(network="vlae-mnst")
    with pytest.raises(ConfigError, match=r"network=vlae-mnist needs images.*divisible by 4.*\(1, 30, 30\)"):
        build(network="vlae-mnist")
    with pytest.raises(ConfigError, match="no join called 'concatenate'. Did you mean 'concat'"):
        build(join="concatenate")
    with pytest.raises(ConfigError, match="no norm called 'bach'. Did you mean 'batch'"):
        build(norm="bach")
    with pytest.raises(ConfigError, match="dims are the widths"):
        build(dims=())
    with pytest.raises(ConfigError, match="width is that of the ladder's networks, at least 1, got 0"):
        build(width=0)
    big = torch.rand(2, 3, 64, 64)
    for network in ("vlae-celeba", "pro-celeba"):
        with pytest.raises(ConfigError, match=f"{network} has four layers, got 2"):
            recipes.build("vlae", big, {"network": network, "dims": (2, 2)})
        with pytest.raises(ConfigError, match=f"{network} joins by concatenation, got join=gated"):
            recipes.build("vlae", big, {"network": network, "dims": (2,) * 4, "join": "gated"})
    with pytest.raises(ConfigError, match="halves the sides 11 times for 10 layers, too often for images of 30 x 30"):
        build(network="pro-shapes", dims=(2,) * 10)
    with pytest.raises(ConfigError, match="needs images"):
        recipes.build("vlae", torch.rand(5, 7), {"network": "pro-shapes"})
