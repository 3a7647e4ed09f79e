"""Building blocks of ladder networks: layers with activation and normalisation, from flat to flat features."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pyro_hvae.errors import ConfigError, require_known
from pyro_hvae.models.ladder import Rung
from pyro_hvae.networks import FlattenPlates, image_shape, init_weights, linear

Head = tuple[nn.Module, int]


class LadderNetworks(NamedTuple):
    """The networks of a ladder, all from flat features to flat features under any plates.

    Attributes:
        steps: site -> h_{l-1} to h_l, from the bottom up; a site without one reads what the site below reads.
        heads: site -> (network from h_l, the features it gives), from the bottom up.
        rungs: site -> rung, from the top down.
        output: from g_1 to the values of x. features: of g_1.
    """

    steps: dict[str, nn.Module]
    heads: dict[str, Head]
    rungs: dict[str, Rung]
    output: nn.Module
    features: int


class Affine(nn.Module):
    """A learnt scale and shift of every channel.

    It stands for batch normalisation in the pro-VLAE authors' code, which always runs with a mean of 0 and a variance of 1
    (their constant factor 1 / sqrt(1.001) is left to the scale).

    >>> Affine(3)(torch.zeros(2, 3, 4, 4)).shape
    torch.Size([2, 3, 4, 4])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, h: Tensor) -> Tensor:
        shape = (-1,) + (1,) * (h.dim() - 2)
        return h * self.scale.view(shape) + self.shift.view(shape)


# name -> (channels, dims of the image) -> module. The statistics forget faster than the VLAE authors' (0.99 instead of 0.999 a
# step): after a few thousand steps theirs would still be those of a younger network.
NORMS: dict[str, Callable[[int, int], nn.Module] | None] = {
    "batch": lambda channels, dims: (nn.BatchNorm2d if dims else nn.BatchNorm1d)(channels, eps=1e-3, momentum=0.01),
    "affine": lambda channels, dims: Affine(channels),
    "none": None,
}


@dataclass(frozen=True)
class Blocks:
    """Layers that end in an activation.

    Attributes:
        activation: makes one. norm: batch, affine or none.
        norm_last: whether the norm comes after the activation (pro-VLAE) instead of before (VLAE).
    """

    activation: Callable[[], nn.Module]
    norm: str
    norm_last: bool = False

    def __post_init__(self) -> None:
        require_known("norm", self.norm, NORMS)

    @property
    def _bias(self) -> bool:
        """Whether a layer has a bias: batch normalisation right after it would subtract it again."""
        return self.norm != "batch" or self.norm_last

    def _end(self, channels: int, dims: int) -> list[nn.Module]:
        norm, activation = NORMS[self.norm], self.activation()
        if norm is None:
            return [activation]
        return [activation, norm(channels, dims)] if self.norm_last else [norm(channels, dims), activation]

    def down(self, inputs: int, outputs: int, stride: int = 2) -> list[nn.Module]:
        """A convolution that halves the sides (kernel 4), or keeps them (kernel 3; the authors' 4 has no middle)."""
        conv = nn.Conv2d(inputs, outputs, 4 if stride == 2 else 3, stride, 1, bias=self._bias)
        init_weights(conv, conv.weight[0].numel(), 2.0)
        return [conv, *self._end(outputs, 2)]

    def up(self, inputs: int, outputs: int, stride: int = 2) -> list[nn.Module]:
        """A transposed convolution that doubles the sides, or a convolution that keeps them."""
        if stride == 1:
            return self.down(inputs, outputs, 1)
        return [doubling_conv(inputs, outputs, 2.0, self._bias), *self._end(outputs, 2)]

    def dense(self, *sizes: int) -> nn.Sequential:
        """Fully connected layers of these sizes, features (*plates, sizes[0]) -> (*plates, sizes[-1])."""
        layers: list[nn.Module] = []
        for a, b in zip(sizes, sizes[1:], strict=False):
            layers += [linear(a, b, 2.0, bias=self._bias), FlattenPlates(nn.Sequential(*self._end(b, 0)), [b])]
        return nn.Sequential(*layers)


def doubling_conv(inputs: int, outputs: int, variance: float = 1.0, bias: bool = True) -> nn.ConvTranspose2d:
    """A transposed convolution that doubles the sides; without activation, the end of a decoder.

    Arguments:
        variance: gain, as for `linear`. A value is the sum over a quarter of the kernel's 4 x 4 places.
    """
    conv = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=bias)
    init_weights(conv, inputs * 4, variance)
    return conv


def same_size_conv(inputs: int, outputs: int) -> nn.Conv2d:
    """A convolution that keeps the sides, without activation: the end of a decoder."""
    conv = nn.Conv2d(inputs, outputs, 3, 1, 1)
    init_weights(conv, inputs * 9)
    return conv


def image_net(event: Sequence[int], *layers: nn.Module) -> FlattenPlates:
    """Layers on images of a shape, from flat to flat features."""
    return FlattenPlates(nn.Sequential(*layers), event)


def ladder_image_shape(event: Sequence[int], name: str, divisor: int, any_depth: bool = False) -> tuple[int, int, int]:
    """Channels, height and width; raises `ConfigError` for data that are no images with sides divisible by `divisor`.

    Arguments:
        any_depth: whether fewer layers halve the sides less often.
    """
    return image_shape(event, name, divisor, "fewer layers (-o dims=2,2)" if any_depth else "", "-o network=dense")


def require_concat(join: str, name: str) -> None:
    """Raises `ConfigError` for any other join."""
    if join != "concat":
        raise ConfigError(f"network={name} joins by concatenation, got join={join}. Use -o join=concat.")


def require_four_layers(dims: Sequence[int], name: str, example: int) -> None:
    """Raises `ConfigError` for another number of layers."""
    if len(dims) != 4:
        each = ",".join([str(example)] * 4)
        raise ConfigError(f"network={name} has four layers, got {len(dims)}. Example: -o dims={each}.")
