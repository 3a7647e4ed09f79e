"""Discretised logistic likelihoods, for 8-bit images (Kingma et al. 2016)."""

import math
from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor, nn

from pyro_hvae.conditionals import grey_levels
from pyro_hvae.errors import ConfigError, require_known
from pyro_hvae.networks import NetworkOptions, ParentNetwork, Parents, Shape, event_shape, soft_clamp

# Of log s. Below, nearly all probability is on one level (s is a twelfth of one); above, an image is noise.
LOG_SCALE = (-8.0, 2.0)


def scale_from(raw: Tensor, start: float) -> Tensor:
    """s of a raw output, which is log s over its start."""
    return soft_clamp(raw + math.log(start), *LOG_SCALE).exp()


class DiscretisedLogistic(ParentNetwork):
    r"""Independent 8-bit grey levels v / 255, each a logistic variable rounded to a level (`grey_levels.DiscretisedLogistic`).

    Its log-density is the log-probability of bytes: -log p / (D log 2) are bits per dimension.

    Arguments:
        scale: where s starts, in units of x; it is learned.
        per: s is an output of the network, one for each `value`; or a parameter, one for each `entry` of the event or for
            each `channel`, its first dim.
        parents, event, hidden, activation, gain, norm, input_bound, input_mean, output_mean, net: as for `Gaussian`; `gain` is
            1, `output_mean` is where mu starts. mu is not bounded: beyond 0 or 1 it means a saturated pixel.

    Raises:
        ConfigError: as `Gaussian`.

    >>> p = DiscretisedLogistic(2, (1, 4, 4))(torch.zeros(3, 2))
    >>> p.log_prob(torch.full((3, 1, 4, 4), 128 / 255)).shape, bool((p.log_prob(p.sample()) < 0).all())
    (torch.Size([3]), True)
    """

    raw_scale: nn.Parameter | None

    def __init__(
        self,
        parents: Parents,
        event: Shape,
        hidden: Sequence[int] = (128, 128),
        *,
        scale: float = 0.1,
        per: str = "value",
        **network: Unpack[NetworkOptions],
    ) -> None:
        if not scale > 0 or math.isinf(scale):
            raise ConfigError(f"a discretised logistic's scale must be positive and finite, got {scale!r}.")
        require_known("per", per, ("value", "entry", "channel"))
        extra = math.prod(event_shape(event)) if per == "value" else 0
        super().__init__(parents, event, hidden, extra=extra, **{"gain": 1.0, **network})
        self.scale = scale
        shape = self.event if per == "entry" else (self.event[0], *[1] * (len(self.event) - 1))
        self.register_parameter("raw_scale", None if per == "value" else nn.Parameter(torch.zeros(shape)))

    def forward(self, *parents: Tensor) -> torch.distributions.Independent:
        location, raw = self.location(parents)
        scale = scale_from(raw.reshape(location.shape) if self.raw_scale is None else self.raw_scale, self.scale)
        return grey_levels.DiscretisedLogistic(location, scale).to_event(len(self.event))
