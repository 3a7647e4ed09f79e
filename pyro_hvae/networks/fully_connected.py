"""Fully connected networks, their activations and initial weights."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from pyro_hvae.errors import ConfigError, require_known


class Activation(NamedTuple):
    """An activation function and what it needs of the layer before it.

    Attributes:
        make: builds the module. variance: gain of its input, He's for ReLU-like functions, LeCun's for tanh.
        width: features it takes per feature it gives.
    """

    make: Callable[[], nn.Module]
    variance: float
    width: int = 1


ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(nn.ReLU, 2.0),
    "leaky-relu": Activation(lambda: nn.LeakyReLU(0.1), 2.0),
    "elu": Activation(nn.ELU, 2.0),
    "tanh": Activation(nn.Tanh, 1.0),
    # Half the features, each times the sigmoid of its partner: with the linear map before it, Tomczak's GatedDense.
    "gated": Activation(nn.GLU, 2.0, 2),
}


def find_activation(name: str) -> Activation:
    """The entry of `ACTIVATIONS`; raises `ConfigError` for an unknown name."""
    require_known("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]


class FlattenPlates(nn.Module):
    """Runs a network that takes exactly one batch dimension under any plates.

    Shapes: (*plates, features) -> (*plates, outputs); the network gets (rows, *event) and may return any event.

    >>> import torch
    >>> FlattenPlates(nn.Conv2d(1, 2, 3), (1, 5, 5))(torch.zeros(4, 3, 25)).shape
    torch.Size([4, 3, 18])
    """

    def __init__(self, net: nn.Module, event: Sequence[int]) -> None:
        super().__init__()
        self.net, self.event = net, tuple(event)

    def forward(self, h: Tensor) -> Tensor:
        return self.net(h.reshape(-1, *self.event)).reshape(*h.shape[:-1], -1)


def image_shape(
    event: Sequence[int],
    name: str,
    divisor: int,
    shallower: str = "fewer widths (-o hidden=32,64)",
    otherwise: str = "-o network=mlp",
) -> tuple[int, int, int]:
    """Channels, height and width of an event.

    Arguments:
        name: of the network that needs images. divisor: of the sides, 2 for every halving.
        shallower, otherwise: remedies, a network with two halvings (only named where the sides allow them; empty where there is
            none) and another one.

    Raises:
        ConfigError: for data that are no images, or whose sides cannot be divided.
    """
    if len(event) != 3 or event[1] % divisor or event[2] % divisor:
        helps = shallower and len(event) == 3 and divisor > 4 and not (event[1] % 4 or event[2] % 4)
        remedy = f"{shallower} or {otherwise}" if helps else otherwise
        raise ConfigError(
            f"network={name} needs images (channels, height, width) with sides divisible by {divisor}, but these data have "
            f"shape {tuple(event)}. Use {remedy}."
        )
    return event[0], event[1], event[2]


def init_weights(
    layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d, fan_in: int, variance: float = 1.0, gain: float = 1.0
) -> None:
    """Draws weights from U(-a, a), a = gain sqrt(3 variance / fan_in), and sets biases to zero."""
    bound = gain * math.sqrt(3 * variance / fan_in)
    nn.init.uniform_(layer.weight, -bound, bound)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def linear(inputs: int, outputs: int, variance: float = 1.0, gain: float = 1.0, bias: bool = True) -> nn.Linear:
    """A linear layer with the weights of `init_weights`."""
    layer = nn.Linear(inputs, outputs, bias)
    init_weights(layer, inputs, variance, gain)
    return layer


def mlp(
    inputs: int,
    outputs: int,
    hidden: Sequence[int] = (128, 128),
    activation: str = "relu",
    gain: float = 1.0,
    norm: bool = False,
    end: bool = True,
) -> nn.Sequential:
    """A fully connected network with weights U(-a, a), a = sqrt(3 g / fan_in), and zero biases.

    Arguments:
        inputs, outputs: number of features at both ends; shapes (*, inputs) -> (*, outputs).
        hidden: widths of the hidden layers, may be empty.
        activation: a key of `ACTIVATIONS`; it also sets the variance gain g of the layers it feeds.
        gain: factor on the last layer's weights. Below one, the network starts near its output bias, which
            keeps a freshly drawn encoder from folding a ring-shaped data manifold.
        norm: batch normalisation before every activation.
        end: finish with a linear layer (an output); else with an activation (features for something else).

    Raises:
        ConfigError: for an unknown activation.

    >>> mlp(4, 2, hidden=(8,))
    Sequential(
      (0): Linear(in_features=4, out_features=8, bias=True)
      (1): ReLU()
      (2): Linear(in_features=8, out_features=2, bias=True)
    )
    """
    make, variance, width = find_activation(activation)
    sizes = [inputs, *hidden] if end else [inputs, *hidden, outputs]
    layers: list[nn.Module] = []
    for before, after in zip(sizes, sizes[1:], strict=False):
        layers.append(linear(before, width * after, variance))
        layers += [FlattenPlates(nn.BatchNorm1d(width * after), [width * after])] if norm else []
        layers.append(make())
    if end:
        # The last layer feeds a distribution's parameters, no activation: unit variance gain.
        layers.append(linear(sizes[-1], outputs, gain=gain))
    return nn.Sequential(*layers)
