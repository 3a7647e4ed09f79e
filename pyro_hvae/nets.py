"""Plain networks: what maps features to features, with no probability in it."""

import math
from collections.abc import Sequence

from torch import nn

from pyro_hvae.errors import unknown_name

__all__ = ["ACTIVATIONS", "mlp"]

# name -> (module, variance gain of its input): He for ReLU-like units, LeCun for tanh.
ACTIVATIONS: dict[str, tuple[type[nn.Module], float]] = {
    "relu": (nn.ReLU, 2.0),
    "elu": (nn.ELU, 2.0),
    "tanh": (nn.Tanh, 1.0),
}


def mlp(
    inputs: int,
    outputs: int,
    hidden: Sequence[int] = (128, 128),
    activation: str = "relu",
    gain: float = 1.0,
) -> nn.Sequential:
    """A fully connected network with weights U(-a, a), a = sqrt(3 g / fan_in), and zero biases.

    Arguments:
        inputs, outputs: number of features at both ends; shapes (*, inputs) -> (*, outputs).
        hidden: widths of the hidden layers, may be empty.
        activation: a key of `ACTIVATIONS`; it also sets the variance gain g of the layers it feeds.
        gain: factor on the last layer's weights. Below one, the network starts near its output bias, which
            keeps a freshly drawn encoder from folding a ring-shaped data manifold.

    Raises:
        ConfigError: for an unknown activation.

    >>> mlp(4, 2, hidden=(8,))
    Sequential(
      (0): Linear(in_features=4, out_features=8, bias=True)
      (1): ReLU()
      (2): Linear(in_features=8, out_features=2, bias=True)
    )
    """
    if activation not in ACTIVATIONS:
        raise unknown_name("activation", activation, ACTIVATIONS)
    unit, variance = ACTIVATIONS[activation]
    sizes = [inputs, *hidden, outputs]
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        linear = nn.Linear(fan_in, fan_out)
        last = i == len(sizes) - 2
        # The last layer feeds a distribution's parameters, no activation: unit variance gain.
        bound = gain * math.sqrt(3 / fan_in) if last else math.sqrt(3 * variance / fan_in)
        nn.init.uniform_(linear.weight, -bound, bound)
        nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, unit()]
    return nn.Sequential(*layers)
