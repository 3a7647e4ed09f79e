"""Mixtures of discretised logistics, for 8-bit images (Salimans et al. 2017)."""

import math
from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from pyro_hvae.conditionals import grey_levels
from pyro_hvae.conditionals.discretised_logistic import scale_from
from pyro_hvae.errors import ConfigError
from pyro_hvae.networks import NetworkOptions, ParentNetwork, Parents, Shape, event_shape


class LogisticMixture(ParentNetwork):
    r"""Independent 8-bit grey levels v / 255, each from a mixture of K logistics rounded to levels.

    The network gives 3K numbers for each entry: a location that all components share, K - 1 logits beside a 0, K offsets from
    the location and K scales. The offsets start half the range apart on either side, so that components differ.

    The channels of a pixel are independent given the parents; in Salimans et al. 2017 a channel's means depend on the
    channels before it, and these share the component.

    Arguments:
        components: K. scale: where all s start, in units of x.
        parents, event, hidden, activation, gain, norm, input_bound, input_mean, output_mean, net: as for
            `DiscretisedLogistic`; a `net` gives 3K numbers for each entry.

    Raises:
        ConfigError: as `Gaussian`, and for no components.

    >>> LogisticMixture(2, (1, 4, 4), components=3)(torch.zeros(7, 2)).log_prob(torch.zeros(7, 1, 4, 4)).shape
    torch.Size([7])
    """

    def __init__(
        self,
        parents: Parents,
        event: Shape,
        hidden: Sequence[int] = (128, 128),
        *,
        components: int = 5,
        scale: float = 0.1,
        **network: Unpack[NetworkOptions],
    ) -> None:
        if not scale > 0 or math.isinf(scale):
            raise ConfigError(f"a logistic mixture's scale must be positive and finite, got {scale!r}.")
        if components < 1:
            raise ConfigError(f"a mixture needs at least one component, got components={components}.")
        extra = (3 * components - 1) * math.prod(event_shape(event))
        super().__init__(parents, event, hidden, extra=extra, **{"gain": 1.0, **network})
        self.scale, self.components = scale, components

    def forward(self, *parents: Tensor) -> torch.distributions.Independent:
        location, extra = self.location(parents)
        k, plates = self.components, extra.shape[:-1]
        extra = extra.reshape(*plates, 3 * k - 1, *self.event).movedim(len(plates), -1)
        logits, offsets, raw = extra.split([k - 1, k, k], -1)
        logits = torch.cat([torch.zeros_like(location).unsqueeze(-1), logits], -1)
        starts = torch.linspace(-0.5, 0.5, k, dtype=location.dtype, device=location.device) if k > 1 else 0.0
        loc = location.unsqueeze(-1) + offsets + starts
        return grey_levels.LogisticMixture(logits, loc, scale_from(raw, self.scale)).to_event(len(self.event))
