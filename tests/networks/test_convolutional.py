"""Encoders and decoders by name: shapes, plates, published sizes, errors."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from pyro_hvae.errors import ConfigError
from pyro_hvae.networks.network_registry import NETWORKS, network_pair


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("plates", [(), (5,), (3, 5), (2, 3, 5)])
def test_networks_under_any_plates(name, plates):
    """A particle plate is so many data side by side."""
    event = (2, 8, 8) if name == "conv-4x4" else (2, 8, 12)  # that one is for squares
    encoder = network_pair(name).encoder(event, 6, (3, 4), "relu", 1.0)
    decoder = network_pair(name).decoder(5, event, (3, 4), "relu")
    pixels = math.prod(event)
    x, z = torch.rand(*plates, pixels), torch.randn(*plates, 5)
    assert encoder(x).shape == (*plates, 6) and decoder(z).shape == (*plates, pixels)
    assert_close(encoder(x).reshape(-1, 6), encoder(x.reshape(-1, pixels)))
    assert_close(decoder(z).reshape(-1, pixels), decoder(z.reshape(-1, 5)))


def test_sizes_of_the_published_networks():
    """The gated convolutions of the VHP and convHVAE: 28 x 28 images to 294 features; the HVAE's to 7 x 7 x 128."""
    gated = network_pair("gated-conv").encoder((1, 28, 28), 64, (32, 64), "gated", 1.0)
    assert gated[-1].in_features == 294
    convolutions = [m for m in gated.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.out_channels // 2, m.kernel_size[0], m.stride[0]) for m in convolutions] == [
        (32, 7, 1),
        (32, 3, 2),
        (64, 5, 1),
        (64, 3, 2),
        (6, 3, 1),
    ]
    assert network_pair("conv").encoder((1, 28, 28), 40, (64, 128), "relu", 1.0)[-1].in_features == 7 * 7 * 128


def layers(network, x):
    """Every leaf that has weights: its class's name, shape of what it gives for one datum, and number of parameters."""
    found = []

    def note(module, inputs, output):
        found.append((type(module).__name__, tuple(output.shape[1:]), sum(p.numel() for p in module.parameters())))

    hooks = [
        m.register_forward_hook(note) for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
    ]
    network(x)
    for hook in hooks:
        hook.remove()
    return found


def test_conv_dense_of_a_beta_vae():
    """64 x 64 in colour: four convolutions to 4 x 4, a dense layer of 256, and the mirror image; weights plus biases."""
    hidden = (32, 32, 32, 32, 256)
    assert layers(network_pair("conv-dense").encoder((3, 64, 64), 18, hidden, "elu", 1.0), torch.rand(2, 12288)) == [
        ("Conv2d", (32, 32, 32), 3 * 32 * 16 + 32),
        ("Conv2d", (32, 16, 16), 32 * 32 * 16 + 32),
        ("Conv2d", (32, 8, 8), 16416),
        ("Conv2d", (32, 4, 4), 16416),
        ("Linear", (256,), 512 * 256 + 256),
        ("Linear", (18,), 256 * 18 + 18),
    ]
    assert layers(network_pair("conv-dense").decoder(9, (3, 64, 64), hidden, "elu"), torch.randn(2, 9)) == [
        ("Linear", (256,), 9 * 256 + 256),
        ("Linear", (512,), 256 * 512 + 512),
        ("ConvTranspose2d", (32, 8, 8), 16416),
        ("ConvTranspose2d", (32, 16, 16), 16416),
        ("ConvTranspose2d", (32, 32, 32), 16416),
        ("ConvTranspose2d", (3, 64, 64), 32 * 3 * 16 + 3),
    ]


def test_conv_dense_of_grey_images():
    """32 x 32, other widths, and nothing but the activation in between."""
    encoder = network_pair("conv-dense").encoder((1, 32, 32), 4, (8, 16, 12, 24), "elu", 1.0)
    decoder = network_pair("conv-dense").decoder(2, (1, 32, 32), (8, 16, 12, 24), "elu")
    x, z = torch.rand(5, 1024), torch.randn(5, 2)
    sizes = [((8, 16, 16), 136), ((16, 8, 8), 2064), ((12, 4, 4), 3084), ((24,), 4632), ((4,), 100)]
    assert [layer[1:] for layer in layers(encoder, x)] == sizes
    sizes = [((24,), 72), ((192,), 4800), ((16, 8, 8), 3088), ((8, 16, 16), 2056), ((1, 32, 32), 129)]
    assert [layer[1:] for layer in layers(decoder, z)] == sizes
    assert sum(p.numel() for p in encoder.parameters()) == 10016 and sum(p.numel() for p in decoder.parameters()) == 10145
    one, two, three, dense, last = (m for m in encoder.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    assert (one.kernel_size, one.stride, one.padding) == ((4, 4), (2, 2), (1, 1))
    act = nn.functional.elu
    h = act(three(act(two(act(one(x.reshape(5, 1, 32, 32))))))).flatten(1)
    assert_close(encoder(x), last(act(dense(h))))
    dense, wide, three, two, one = (m for m in decoder.modules() if isinstance(m, nn.ConvTranspose2d | nn.Linear))
    h = act(wide(act(dense(z)))).reshape(5, 12, 4, 4)
    assert_close(decoder(z), one(act(two(act(three(h))))).flatten(1))
    # The gain is the last layer's alone.
    assert network_pair("conv-dense").encoder((1, 32, 32), 4, (8, 24), "elu", 1e-6)(x).abs().max() < 1e-4


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: network_pair("convv"), "Did you mean 'conv'"),
        (lambda: network_pair("conv").encoder((50,), 4, (3, 4), "relu", 1.0), r"images .* have shape \(50,\).*network=mlp"),
        (lambda: network_pair("gated-conv").decoder(4, (1, 10, 12), (3, 4), "relu"), "sides divisible by 4"),
        (lambda: network_pair("gated-conv").decoder(4, (1, 8, 8), (3,), "relu"), "two channel widths"),
        (lambda: network_pair("conv").encoder((1, 28, 28), 4, (3, 4, 5), "relu", 1.0), "sides divisible by 8"),
        (lambda: network_pair("conv-dense").encoder((1, 12, 8), 4, (3, 3, 3, 9), "elu", 1.0), "conv-dense .* divisible by 8"),
        (lambda: network_pair("conv-dense").decoder(4, (1, 8, 12), (3, 3, 3, 9), "elu"), r"conv-dense .* shape \(1, 8, 12\)"),
        (lambda: network_pair("conv-dense").encoder((1, 8, 8), 4, (3,), "elu", 1.0), r"at least two widths.* hidden=\(3,\)"),
        (lambda: network_pair("conv-dense").decoder(4, (1, 8, 8), (), "elu"), r"at least two widths.* hidden=\(\)"),
        (lambda: network_pair("conv-dense").decoder(4, (1, 8, 8), (3, 9), "gated"), "conv-dense does not .*activation=gated"),
        (lambda: network_pair("conv").decoder(4, (1, 8, 8), (3, 4), "gated"), "Use -o network=gated-conv"),
        (lambda: network_pair("conv").encoder((1, 8, 8), 4, (3, 4), "rellu", 1.0), "Did you mean 'relu'"),
    ],
)
def test_unusable_networks_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
