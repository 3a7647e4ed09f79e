"""Plain networks: what maps features to features, with no probability in it."""

import math
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from pyro_hvae.errors import ConfigError, unknown_name

__all__ = ["ACTIVATIONS", "Fold", "image_shape", "linear", "mlp", "unit"]


# name -> (module, variance gain of its input, features it takes per feature it gives): He for ReLU-like units, LeCun for tanh.
ACTIVATIONS: dict[str, tuple[Callable[[], nn.Module], float, int]] = {
    "relu": (nn.ReLU, 2.0, 1),
    "leaky-relu": (lambda: nn.LeakyReLU(0.1), 2.0, 1),
    "elu": (nn.ELU, 2.0, 1),
    "tanh": (nn.Tanh, 1.0, 1),
    # Half the features, each times the sigmoid of its partner: with the linear map before it, Tomczak's GatedDense.
    "gated": (nn.GLU, 2.0, 2),
}


def unit(activation: str) -> tuple[Callable[[], nn.Module], float, int]:
    """The entry of `ACTIVATIONS`; raises `ConfigError` for an unknown name."""
    if activation not in ACTIVATIONS:
        raise unknown_name("activation", activation, ACTIVATIONS)
    return ACTIVATIONS[activation]


class Fold(nn.Module):
    """Runs a network that wants exactly one batch dimension under any plates.

    Shapes: (*plates, features) -> (*plates, outputs); the network sees (rows, *event) and may return any event.

    >>> import torch
    >>> Fold(nn.Conv2d(1, 2, 3), (1, 5, 5))(torch.zeros(4, 3, 25)).shape
    torch.Size([4, 3, 18])
    """

    def __init__(self, net: nn.Module, event: Sequence[int]) -> None:
        super().__init__()
        self.net, self.event = net, tuple(event)

    def forward(self, h: Tensor) -> Tensor:
        return self.net(h.reshape(-1, *self.event)).reshape(*h.shape[:-1], -1)


def image_shape(event: Sequence[int], name: str, divisor: int, shallower: str, otherwise: str) -> tuple[int, int, int]:
    """Channels, height and width of an event.

    Arguments:
        name: of the network that wants images. divisor: what its halvings divide the sides by.
        shallower, otherwise: remedies, a network with fewer halvings (told where it has many) and another one.

    Raises:
        ConfigError: for data that are no images, or whose sides cannot be divided.
    """
    if len(event) != 3 or event[1] % divisor or event[2] % divisor:
        remedy = f"{shallower} or {otherwise}" if divisor > 4 else otherwise
        raise ConfigError(
            f"network={name} needs images (channels, height, width) with sides divisible by {divisor}, but these data have "
            f"shape {tuple(event)}. Use {remedy}."
        )
    return event[0], event[1], event[2]


def linear(inputs: int, outputs: int, variance: float = 1.0, gain: float = 1.0, bias: bool = True) -> nn.Linear:
    """A linear layer with weights U(-a, a), a = gain sqrt(3 variance / inputs), and zero bias."""
    layer = nn.Linear(inputs, outputs, bias)
    bound = gain * math.sqrt(3 * variance / inputs)
    nn.init.uniform_(layer.weight, -bound, bound)
    if bias:
        nn.init.zeros_(layer.bias)
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
    make, variance, wide = unit(activation)
    sizes = [inputs, *hidden, outputs]
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        if end and i == len(sizes) - 2:
            # The last layer feeds a distribution's parameters, no activation: unit variance gain.
            layers.append(linear(fan_in, fan_out, gain=gain))
        else:
            layers.append(linear(fan_in, wide * fan_out, variance))
            layers += [Fold(nn.BatchNorm1d(wide * fan_out), [wide * fan_out])] if norm else []
            layers.append(make())
    return nn.Sequential(*layers)
