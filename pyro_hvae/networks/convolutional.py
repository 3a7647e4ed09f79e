"""Convolutional encoders and decoders of images.

An encoder (event, outputs, hidden, activation, gain of the last layer) maps (*plates, pixels) -> (*plates, outputs), a decoder
(inputs, event, hidden, activation) maps (*plates, inputs) -> (*plates, pixels). Every decoder mirrors its encoder.
"""

import math
from collections.abc import Callable, Sequence

from torch import nn

from pyro_hvae.errors import ConfigError
from pyro_hvae.networks.fully_connected import FlattenPlates, find_activation, image_shape, linear

_DENSE_NAMES = {False: "conv-dense", True: "conv-4x4"}


def conv_encoder(event: Sequence[int], outputs: int, hidden: Sequence[int], activation: str, gain: float) -> nn.Module:
    """Convolutions of kernel 4 and stride 2, one per width (two in Zhao et al. 2017, B.1), then a linear map."""
    net, features = _halving_convs(event, hidden, activation, "conv")
    return nn.Sequential(net, linear(features, outputs, gain=gain))


def conv_decoder(inputs: int, event: Sequence[int], hidden: Sequence[int], activation: str) -> nn.Module:
    return _doubling_convs(inputs, event, hidden, activation, "conv")


def conv_dense_encoder(
    event: Sequence[int], outputs: int, hidden: Sequence[int], activation: str, gain: float, *, to_4x4: bool = False
) -> nn.Module:
    """Convolutions as in `conv_encoder`, one per width but the last, then a dense layer of the last width and a linear map.

    With widths 32, 32, 32, 32, 256 this is the network of Burgess et al. 2018 for beta-VAEs on 64 x 64 images with
    one dense layer instead of two. With `to_4x4` (the network conv-4x4) only the last convolutions halve the side, down to 4;
    those before them have kernel 3 and stride 1. So maps of 64 x 64 and of 8 x 8 have networks of equal depth and width.
    """
    same, channels, width = _split_widths(event, hidden, to_4x4)
    net, features = _halving_convs((same[-1], *event[1:]), channels, activation, _DENSE_NAMES[to_4x4])
    make, variance, _ = find_activation(activation)
    first = [FlattenPlates(nn.Sequential(*_same_size_convs(same, make)), event)] if same[1:] else []
    return nn.Sequential(*first, net, linear(features, width, variance), make(), linear(width, outputs, gain=gain))


def conv_dense_decoder(
    inputs: int, event: Sequence[int], hidden: Sequence[int], activation: str, *, to_4x4: bool = False
) -> nn.Module:
    same, channels, width = _split_widths(event, hidden, to_4x4)
    make, variance, _ = find_activation(activation)
    dense = nn.Sequential(linear(inputs, width, variance), make())
    inner = (same[-1], *event[1:])
    last = _same_size_convs(same[::-1], make)[:-1]
    net = _doubling_convs(width, inner, channels, activation, _DENSE_NAMES[to_4x4])
    return nn.Sequential(dense, net, *([make(), FlattenPlates(nn.Sequential(*last), inner)] if last else []))


def gated_conv_encoder(event: Sequence[int], outputs: int, hidden: Sequence[int], activation: str, gain: float) -> nn.Module:
    """Five gated convolutions (Tomczak and Welling 2018, convHVAE), then a linear map; `activation` is not used."""
    c, h, w, a, b = _gated_conv_sizes(event, hidden)
    net = [*_gated(c, a, 7), *_gated(a, a, 3, 2), *_gated(a, b, 5), *_gated(b, b, 3, 2), *_gated(b, 6, 3), nn.Flatten()]
    return nn.Sequential(FlattenPlates(nn.Sequential(*net), event), linear(6 * h // 4 * (w // 4), outputs, gain=gain))


def gated_conv_decoder(inputs: int, event: Sequence[int], hidden: Sequence[int], activation: str) -> nn.Module:
    """A gated dense layer to the image's size, four gated convolutions and a 1 x 1 convolution."""
    c, h, w, _, b = _gated_conv_sizes(event, hidden)
    net = [linear(inputs, 2 * c * h * w, 2.0), nn.GLU(), nn.Unflatten(1, (c, h, w)), *_gated(c, b, 3)]
    net += [*_gated(b, b, 3), *_gated(b, b, 3), *_gated(b, b, 3), nn.Conv2d(b, c, 1)]
    return FlattenPlates(nn.Sequential(*net), [inputs])


def _gated_conv_sizes(event: Sequence[int], hidden: Sequence[int]) -> tuple[int, ...]:
    """Channels, height and width of the images, and both channel widths."""
    shape = image_shape(event, "gated-conv", 4)
    if len(hidden) != 2:
        raise ConfigError(f"network=gated-conv takes two channel widths, got hidden={tuple(hidden)}. Example: -o hidden=32,64.")
    return *shape, *hidden


def _gated(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, 2 * outputs, kernel, stride, kernel // 2), nn.GLU(1)]


def _halving_convs(event: Sequence[int], widths: Sequence[int], activation: str, name: str) -> tuple[nn.Module, int]:
    """Convolutions of kernel 4 and stride 2 with activations, one per width, and the number of features they give."""
    c, h, w = image_shape(event, name, 2 ** len(widths))
    make = _pointwise_activation(activation, name)
    channels = [c, *widths]
    net = [layer for a, b in zip(channels, widths, strict=False) for layer in (nn.Conv2d(a, b, 4, 2, 1), make())]
    features = channels[-1] * (h >> len(widths)) * (w >> len(widths))
    return FlattenPlates(nn.Sequential(*net, nn.Flatten()), event), features


def _doubling_convs(inputs: int, event: Sequence[int], widths: Sequence[int], activation: str, name: str) -> nn.Module:
    """A linear map, then the mirror image of `_halving_convs`."""
    c, h, w = image_shape(event, name, 2 ** len(widths))
    make = _pointwise_activation(activation, name)
    channels = [c, *widths][::-1]
    small = (channels[0], h >> len(widths), w >> len(widths))
    net: list[nn.Module] = [linear(inputs, math.prod(small)), nn.Unflatten(1, small)]
    for a, b in zip(channels, channels[1:], strict=False):
        net += [make(), nn.ConvTranspose2d(a, b, 4, 2, 1)]
    return FlattenPlates(nn.Sequential(*net), [inputs])


def _same_size_convs(channels: Sequence[int], make: Callable[[], nn.Module]) -> list[nn.Module]:
    """Convolutions of kernel 3 that keep the side, each with an activation."""
    pairs = zip(channels, channels[1:], strict=False)
    return [layer for a, b in pairs for layer in (nn.Conv2d(a, b, 3, 1, 1), make())]


def _split_widths(event: Sequence[int], hidden: Sequence[int], to_4x4: bool) -> tuple[list[int], list[int], int]:
    """Channels of the image and of the convolutions that keep its side, those of the others, and width of the dense layer."""
    if len(hidden) < 2:
        raise ConfigError(
            f"network={_DENSE_NAMES[to_4x4]} takes at least two widths, of convolutions and last of a dense layer, got "
            f"hidden={tuple(hidden)}. Example: -o hidden=32,32,256."
        )
    *channels, width = hidden
    if not to_4x4:
        return [*event[:1]], channels, width
    side = event[-1]
    if len(event) != 3 or side != event[1] or side < 4 or side & (side - 1):
        raise ConfigError(
            f"network=conv-4x4 needs square images with a side of 4, 8, 16, 32, ..., but these data have shape {tuple(event)}. "
            "Use -o network=mlp, or other data options."
        )
    halvings = side.bit_length() - 3
    if len(channels) < halvings:
        raise ConfigError(
            f"network=conv-4x4 needs {halvings - len(channels)} more convolutions to take {side} down to 4. "
            f"Example: -o hidden={','.join(['32'] * halvings + ['256'])}."
        )
    same = len(channels) - halvings
    return [event[0], *channels[:same]], channels[same:], width


def _pointwise_activation(activation: str, name: str) -> Callable[[], nn.Module]:
    make, _, width = find_activation(activation)
    if width != 1:
        raise ConfigError(f"network={name} does not go with activation={activation}. Use -o network=gated-conv.")
    return make
