"""Encoder and decoder networks by name: what `-o network=` chooses between. A new one is two functions and a table entry."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from pyro_hvae.errors import ConfigError, unknown_name
from pyro_hvae.networks.fully_connected import Fold, image_shape, linear, mlp, unit

__all__ = ["NETWORKS", "Networks", "networks"]

# Both give features per plate: encoder (*plates, pixels) -> (*plates, outputs), decoder (*plates, inputs) -> (*plates, pixels).
Encoder = Callable[[Sequence[int], int, Sequence[int], str, float], nn.Module]
Decoder = Callable[[int, Sequence[int], Sequence[int], str], nn.Module]


class Networks(NamedTuple):
    """A pair of networks.

    Attributes:
        encoder: (event, outputs, hidden, activation, gain of the last layer) -> module.
        decoder: (inputs, event, hidden, activation) -> module.
    """

    encoder: Encoder
    decoder: Decoder


def _mlp_encoder(event: Sequence[int], outputs: int, hidden: Sequence[int], activation: str, gain: float) -> nn.Module:
    return mlp(math.prod(event), outputs, hidden, activation, gain)


def _mlp_decoder(inputs: int, event: Sequence[int], hidden: Sequence[int], activation: str) -> nn.Module:
    return mlp(inputs, math.prod(event), hidden, activation)


def _conv_encoder(event: Sequence[int], outputs: int, hidden: Sequence[int], activation: str, gain: float) -> nn.Module:
    """Convolutions of kernel 4 and stride 2, one a width (two in Zhao et al. 2017, B.1), then a linear map."""
    net, small = _halvings(event, hidden, activation, "conv")
    return nn.Sequential(net, linear(small, outputs, gain=gain))


def _conv_decoder(inputs: int, event: Sequence[int], hidden: Sequence[int], activation: str) -> nn.Module:
    """The encoder's mirror image."""
    return _doublings(inputs, event, hidden, activation, "conv")


def _conv_dense_encoder(event: Sequence[int], outputs: int, hidden: Sequence[int], activation: str, gain: float) -> nn.Module:
    """Convolutions as in `conv`, one a width but the last, then a dense layer of the last width and a linear map.

    With widths 32, 32, 32, 32, 256 this is the network of Burgess et al. 2018 for beta-VAEs on 64 x 64 images with
    one dense layer instead of two.
    """
    *channels, width = _several(hidden, "conv-dense")
    net, small = _halvings(event, channels, activation, "conv-dense")
    make, variance, _ = unit(activation)
    return nn.Sequential(net, linear(small, width, variance), make(), linear(width, outputs, gain=gain))


def _conv_dense_decoder(inputs: int, event: Sequence[int], hidden: Sequence[int], activation: str) -> nn.Module:
    """The encoder's mirror image."""
    *channels, width = _several(hidden, "conv-dense")
    make, variance, _ = unit(activation)
    dense = nn.Sequential(linear(inputs, width, variance), make())
    return nn.Sequential(dense, _doublings(width, event, channels, activation, "conv-dense"))


def _conv_four_encoder(event: Sequence[int], outputs: int, hidden: Sequence[int], activation: str, gain: float) -> nn.Module:
    """As many of the last convolutions of kernel 4 and stride 2 as leave a side of 4, before them of kernel 3 and stride 1.

    So maps of 64 x 64 and of 8 x 8 have networks of equal depth and width. Then the dense layer of `conv-dense`.
    """
    *channels, width = _several(hidden, "conv-4x4")
    same, halving = _to_four(event, channels)
    make, variance, _ = unit(activation)
    net, small = _halvings((channels[same - 1], *event[1:]) if same else event, halving, activation, "conv-4x4")
    steps = _levels([event[0], *channels[:same]], make)
    first = [Fold(nn.Sequential(*steps), event)] if same else []
    return nn.Sequential(*first, net, linear(small, width, variance), make(), linear(width, outputs, gain=gain))


def _conv_four_decoder(inputs: int, event: Sequence[int], hidden: Sequence[int], activation: str) -> nn.Module:
    """The encoder's mirror image."""
    *channels, width = _several(hidden, "conv-4x4")
    same, halving = _to_four(event, channels)
    make, variance, _ = unit(activation)
    dense = nn.Sequential(linear(inputs, width, variance), make())
    if not same:
        return nn.Sequential(dense, _doublings(width, event, channels, activation, "conv-4x4"))
    inner = (channels[same - 1], *event[1:])
    steps = _levels([event[0], *channels[:same]][::-1], make)
    return nn.Sequential(
        dense, _doublings(width, inner, halving, activation, "conv-4x4"), make(), Fold(nn.Sequential(*steps[:-1]), inner)
    )


def _gated_conv_encoder(event: Sequence[int], outputs: int, hidden: Sequence[int], activation: str, gain: float) -> nn.Module:
    """Five gated convolutions (Tomczak and Welling 2018, convHVAE), then a linear map; `activation` is not used."""
    c, h, w = _image(event, "gated-conv", 4)
    a, b = _widths(hidden, "gated-conv")
    net = [*_gated(c, a, 7), *_gated(a, a, 3, 2), *_gated(a, b, 5), *_gated(b, b, 3, 2), *_gated(b, 6, 3), nn.Flatten()]
    return nn.Sequential(Fold(nn.Sequential(*net), event), linear(6 * h // 4 * (w // 4), outputs, gain=gain))


def _gated_conv_decoder(inputs: int, event: Sequence[int], hidden: Sequence[int], activation: str) -> nn.Module:
    """A gated dense layer to the image's size, four gated convolutions and a 1 x 1 convolution."""
    c, h, w = _image(event, "gated-conv", 4)
    _, b = _widths(hidden, "gated-conv")
    net = [linear(inputs, 2 * c * h * w, 2.0), nn.GLU(), _Shape(c, h, w), *_gated(c, b, 3)]
    net += [*_gated(b, b, 3), *_gated(b, b, 3), *_gated(b, b, 3), nn.Conv2d(b, c, 1)]
    return Fold(nn.Sequential(*net), [inputs])


NETWORKS: dict[str, Networks] = {
    "mlp": Networks(_mlp_encoder, _mlp_decoder),
    "conv": Networks(_conv_encoder, _conv_decoder),
    "conv-dense": Networks(_conv_dense_encoder, _conv_dense_decoder),
    "conv-4x4": Networks(_conv_four_encoder, _conv_four_decoder),
    "gated-conv": Networks(_gated_conv_encoder, _gated_conv_decoder),
}


def networks(name: str) -> Networks:
    """The entry of `NETWORKS`; raises `ConfigError` for an unknown name.

    >>> import torch
    >>> networks("conv").encoder((1, 28, 28), 40, (8, 16), "relu", 1.0)(torch.zeros(5, 3, 784)).shape
    torch.Size([5, 3, 40])
    """
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    return NETWORKS[name]


class _Shape(nn.Module):
    def __init__(self, *event: int) -> None:
        super().__init__()
        self.event = event

    def forward(self, h: Tensor) -> Tensor:
        return h.reshape(-1, *self.event)


def _halvings(event: Sequence[int], widths: Sequence[int], activation: str, name: str) -> tuple[nn.Module, int]:
    """Convolutions of kernel 4 and stride 2, one a width, and activations: (*plates, pixels) -> (*plates, features)."""
    c, h, w = _image(event, name, 2 ** len(widths))
    make = _pointwise(activation, name)
    channels = [c, *widths]
    net = [layer for a, b in zip(channels, widths, strict=False) for layer in (nn.Conv2d(a, b, 4, 2, 1), make())]
    features = channels[-1] * (h >> len(widths)) * (w >> len(widths))
    return Fold(nn.Sequential(*net, nn.Flatten()), event), features


def _doublings(inputs: int, event: Sequence[int], widths: Sequence[int], activation: str, name: str) -> nn.Module:
    """A linear map, then the mirror image of `_halvings`: (*plates, inputs) -> (*plates, pixels)."""
    c, h, w = _image(event, name, 2 ** len(widths))
    make = _pointwise(activation, name)
    channels = [c, *widths][::-1]
    small = (channels[0], h >> len(widths), w >> len(widths))
    net: list[nn.Module] = [linear(inputs, math.prod(small)), _Shape(*small)]
    for a, b in zip(channels, channels[1:], strict=False):
        net += [make(), nn.ConvTranspose2d(a, b, 4, 2, 1)]
    return Fold(nn.Sequential(*net), [inputs])


def _to_four(event: Sequence[int], channels: Sequence[int]) -> tuple[int, Sequence[int]]:
    """How many convolutions keep the side, and the channels of those that halve it, down to 4."""
    side = event[-1]
    if len(event) != 3 or side != event[1] or side < 4 or side & (side - 1):
        raise ConfigError(
            f"network=conv-4x4 needs square images with a side of 4, 8, 16, 32, ..., but these data have shape {tuple(event)}. "
            "Use -o network=mlp, or other data options."
        )
    same = len(channels) - (side.bit_length() - 3)
    if same < 0:
        least = ",".join(["32"] * (side.bit_length() - 3) + ["256"])
        raise ConfigError(
            f"network=conv-4x4 needs {-same} more convolutions to take {side} down to 4. Example: -o hidden={least}."
        )
    return same, channels[same:]


def _levels(channels: Sequence[int], make: Callable[[], nn.Module]) -> list[nn.Module]:
    """Convolutions of kernel 3 that keep the side, each with an activation."""
    pairs = zip(channels, channels[1:], strict=False)
    return [layer for a, b in pairs for layer in (nn.Conv2d(a, b, 3, 1, 1), make())]


def _gated(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, 2 * outputs, kernel, stride, kernel // 2), nn.GLU(1)]


def _image(event: Sequence[int], name: str, divisor: int) -> tuple[int, int, int]:
    """The event, whose sides are halved until `divisor` is used up."""
    return image_shape(event, name, divisor, "fewer widths (-o hidden=32,64)", "-o network=mlp")


def _widths(hidden: Sequence[int], name: str) -> tuple[int, int]:
    if len(hidden) != 2:
        raise ConfigError(f"network={name} takes two channel widths, got hidden={tuple(hidden)}. Example: -o hidden=32,64.")
    return hidden[0], hidden[1]


def _several(hidden: Sequence[int], name: str) -> Sequence[int]:
    if len(hidden) < 2:
        raise ConfigError(
            f"network={name} takes at least two widths, of convolutions and last of a dense layer, got hidden={tuple(hidden)}. "
            "Example: -o hidden=32,32,256."
        )
    return hidden


def _pointwise(activation: str, name: str) -> Callable[[], nn.Module]:
    make, _, wide = unit(activation)
    if wide != 1:
        raise ConfigError(f"network={name} does not go with activation={activation}. Use -o network=gated-conv.")
    return make
