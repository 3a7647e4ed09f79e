"""The network `conv-4x4`: down to 4 x 4 from any power of two, always of the same depth and widths."""

import re

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from pyro_hvae.errors import ConfigError
from pyro_hvae.networks.network_registry import network_pair

HIDDEN = (5, 6, 7, 9, 11)


def encoder(event, hidden=HIDDEN, activation="relu", outputs=4, name="conv-4x4", gain=1.0):
    return network_pair(name).encoder(event, outputs, hidden, activation, gain)


def decoder(event, hidden=HIDDEN, activation="relu", inputs=3, name="conv-4x4"):
    return network_pair(name).decoder(inputs, event, hidden, activation)


def weighted(network):
    """Every leaf that has weights, in its order."""
    return [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]


def layer_outputs(network, x):
    """Class and shape, for one datum, of what every leaf that has weights gives, in the order of the pass."""
    found = []

    def note(module, inputs, output):
        found.append((type(module).__name__, tuple(output.shape[1:])))

    hooks = [m.register_forward_hook(note) for m in weighted(network)]
    network(x)
    for hook in hooks:
        hook.remove()
    return found


def test_on_64_x_64_it_is_conv_dense():
    """Four convolutions of kernel 4: the same parameters in the same order, so the same function of the same draws."""
    for make, size in ((encoder, 2 * 64 * 64), (decoder, 3)):
        torch.manual_seed(5)
        four = make((2, 64, 64))
        torch.manual_seed(5)
        dense = make((2, 64, 64), name="conv-dense")
        assert [tuple(p.shape) for p in four.parameters()] == [tuple(p.shape) for p in dense.parameters()]
        x = torch.rand(2, size)
        assert_close(four(x), dense(x), atol=0, rtol=0)


def test_on_8_x_8_it_keeps_depth_and_widths():
    """Three convolutions of kernel 3 keep the side, the last of kernel 4 halves it; the decoder is the mirror image."""
    assert layer_outputs(encoder((2, 8, 8)), torch.rand(1, 128)) == [
        ("Conv2d", (5, 8, 8)),
        ("Conv2d", (6, 8, 8)),
        ("Conv2d", (7, 8, 8)),
        ("Conv2d", (9, 4, 4)),
        ("Linear", (11,)),
        ("Linear", (4,)),
    ]
    assert layer_outputs(decoder((2, 8, 8)), torch.rand(1, 3)) == [
        ("Linear", (11,)),
        ("Linear", (9 * 16,)),
        ("ConvTranspose2d", (7, 8, 8)),
        ("Conv2d", (6, 8, 8)),
        ("Conv2d", (5, 8, 8)),
        ("Conv2d", (2, 8, 8)),
    ]
    large, small = ([m for m in weighted(encoder((2, n, n))) if isinstance(m, nn.Conv2d)] for n in (64, 8))
    assert [(m.in_channels, m.out_channels) for m in large] == [(m.in_channels, m.out_channels) for m in small]
    assert [(m.kernel_size[0], m.stride[0], m.padding[0]) for m in small] == 3 * [(3, 1, 1)] + [(4, 2, 1)]


@pytest.mark.parametrize("side", [4, 8, 16, 32, 64])
def test_sides_that_are_powers_of_two(side):
    """The dense layers do not know the side, and as many convolutions halve it as lead to 4."""
    up, down = encoder((2, side, side)), decoder((2, side, side))
    halving = {4: 0, 8: 1, 16: 2, 32: 3, 64: 4}[side]
    for network in (up, down):
        layers = [m for m in weighted(network) if not isinstance(m, nn.Linear)]
        assert len(layers) == 4 and sum(m.stride[0] == 2 for m in layers) == halving
    assert [m.in_features for m in weighted(up) if isinstance(m, nn.Linear)] == [9 * 16, 11]
    assert [m.out_features for m in weighted(down) if isinstance(m, nn.Linear)] == [11, 9 * 16]
    for plates in ((), (2,), (3, 2)):
        x, z = torch.rand(*plates, 2 * side * side), torch.randn(*plates, 3)
        assert up(x).shape == (*plates, 4) and down(z).shape == (*plates, 2 * side * side)
        assert_close(up(x).reshape(-1, 4), up(x.reshape(-1, 2 * side * side)))
        assert_close(down(z).reshape(-1, 2 * side * side), down(z.reshape(-1, 3)))


@pytest.mark.parametrize("side", [4, 8, 16, 64])
def test_only_the_activation_lies_between_the_layers(side):
    act = nn.functional.elu
    up, down = encoder((2, side, side), activation="elu"), decoder((2, side, side), activation="elu")
    x, z = torch.randn(3, 2 * side * side), torch.randn(3, 3)
    *convolutions, dense, last = weighted(up)
    h = x.reshape(3, 2, side, side)
    for layer in convolutions:
        h = act(layer(h))
    assert_close(up(x), last(act(dense(h.flatten(1)))))
    dense, wide, *convolutions = weighted(down)
    h = act(wide(act(dense(z)))).reshape(3, 9, 4, 4)
    for layer in convolutions[:-1]:
        h = act(layer(h))
    assert_close(down(z), convolutions[-1](h).flatten(1))


def test_the_gain_scales_the_last_layer():
    for side in (8, 64):
        torch.manual_seed(0)
        small = encoder((2, side, side), gain=0.1)
        torch.manual_seed(0)
        large = encoder((2, side, side))
        x = torch.rand(2, 2 * side * side)
        assert_close(small(x), 0.1 * large(x))


@pytest.mark.parametrize("event", [(2, 6, 6), (2, 12, 12), (2, 2, 2), (2, 1, 1), (2, 8, 16), (64,), (8, 8)])
def test_other_shapes_are_refused_and_mlp_accepts_them(event):
    size = torch.Size(event).numel()
    for make, features in ((encoder, size), (decoder, 3)):
        with pytest.raises(ConfigError, match=re.escape(str(event)) + ".*Use -o network=mlp"):
            make(event)
        make(event, name="mlp")(torch.rand(2, features))


@pytest.mark.parametrize("side, hidden", [(64, (5, 6, 11)), (64, (5, 11)), (16, (5, 11)), (32, (5, 6, 11))])
def test_the_remedy_for_too_few_convolutions_works(side, hidden):
    for make, features in ((encoder, 2 * side * side), (decoder, 3)):
        with pytest.raises(ConfigError, match="more convolutions to take") as caught:
            make((2, side, side), hidden)
        missing = int(re.search(r"needs (\d+) more", str(caught.value))[1])
        widths = tuple(int(n) for n in re.search(r"-o hidden=([\d,]+)\.", str(caught.value))[1].split(","))
        assert len(widths) == len(hidden) + missing  # the least that reach down to 4
        make((2, side, side), widths)(torch.rand(1, features))


@pytest.mark.parametrize("make", [encoder, decoder])
def test_unusable_widths_and_activations_are_refused(make):
    with pytest.raises(ConfigError, match=r"at least two widths.* hidden=\(3,\)"):
        make((2, 4, 4), (3,))
    with pytest.raises(ConfigError, match="conv-4x4 does not go with activation=gated"):
        make((2, 8, 8), activation="gated")
