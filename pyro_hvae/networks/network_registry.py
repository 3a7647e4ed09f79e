"""Encoder and decoder networks by name, the values of `-o network=`. A new one is two functions and an entry of the table."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from torch import nn

from pyro_hvae.errors import require_known
from pyro_hvae.networks.convolutional import (
    conv_decoder,
    conv_dense_decoder,
    conv_dense_encoder,
    conv_encoder,
    gated_conv_decoder,
    gated_conv_encoder,
)
from pyro_hvae.networks.fully_connected import mlp


class NetworkPair(NamedTuple):
    """An encoder and a decoder of one kind.

    Attributes:
        encoder: (event, outputs, hidden, activation, gain of the last layer) -> module (*plates, pixels) -> (*plates, outputs).
        decoder: (inputs, event, hidden, activation) -> module (*plates, inputs) -> (*plates, pixels).
    """

    encoder: Callable[[Sequence[int], int, Sequence[int], str, float], nn.Module]
    decoder: Callable[[int, Sequence[int], Sequence[int], str], nn.Module]


NETWORKS: dict[str, NetworkPair] = {
    "mlp": NetworkPair(
        lambda event, outputs, *options: mlp(math.prod(event), outputs, *options),
        lambda inputs, event, *options: mlp(inputs, math.prod(event), *options),
    ),
    "conv": NetworkPair(conv_encoder, conv_decoder),
    "conv-dense": NetworkPair(conv_dense_encoder, conv_dense_decoder),
    "conv-4x4": NetworkPair(partial(conv_dense_encoder, to_4x4=True), partial(conv_dense_decoder, to_4x4=True)),
    "gated-conv": NetworkPair(gated_conv_encoder, gated_conv_decoder),
}


def network_pair(name: str) -> NetworkPair:
    """The entry of `NETWORKS`; raises `ConfigError` for an unknown name.

    >>> import torch
    >>> network_pair("conv").encoder((1, 28, 28), 40, (8, 16), "relu", 1.0)(torch.zeros(5, 3, 784)).shape
    torch.Size([5, 3, 40])
    """
    require_known("network", name, NETWORKS)
    return NETWORKS[name]
