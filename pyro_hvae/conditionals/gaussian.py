"""Diagonal Gaussians whose parameters come from a network, and the standard normal prior."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Unpack

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_hvae.errors import ConfigError, require_known
from pyro_hvae.networks import NetworkOptions, ParentNetwork, Parents, Shape, event_shape, soft_clamp


class StandardNormal(nn.Module):
    """The parentless prior N(0, I) over an event of the given shape.

    >>> StandardNormal(3)().event_shape
    torch.Size([3])
    """

    zero: Tensor

    def __init__(self, event: Shape) -> None:
        super().__init__()
        self.event = event_shape(event)
        self.register_buffer("zero", torch.zeros(self.event), persistent=False)

    def forward(self) -> dist.Independent:
        return dist.Normal(self.zero, torch.ones_like(self.zero)).to_event(len(self.event))


class Std(NamedTuple):
    """How a network's output gives sigma.

    Attributes:
        sigma: (raw output, (low, high) of log sigma) -> sigma. raw: sigma -> the raw output that gives it.
    """

    sigma: Callable[[Tensor, tuple[float, float]], Tensor]
    raw: Callable[[float], float]


STDS: dict[str, Std] = {
    "exp": Std(lambda raw, log_scale: soft_clamp(raw, *log_scale).exp(), math.log),
    # Zhao et al. 2017, B.1: the sigmoid is the standard deviation, its square the variance.
    "sigmoid": Std(lambda raw, log_scale: raw.sigmoid() + 1e-3, lambda s: math.log((s - 1e-3) / (1.001 - s))),
    # Soenderby et al. 2016: the softplus is the variance.
    "softplus": Std(
        lambda raw, log_scale: (nn.functional.softplus(raw) + 1e-5).sqrt(), lambda s: math.log(math.expm1(s * s - 1e-5))
    ),
}


class Gaussian(ParentNetwork):
    r"""A diagonal Gaussian, $N(\mu(\text{parents}), \mathrm{diag}\,\sigma^2)$, with $\sigma$ from the network or fixed.

    Arguments:
        parents: features of the parents: an int (the total over all parents of shape (n,)), one event shape, or a list
            of event shapes, one per parent.
        event: the event's shape; all its dims are event dims, the batch shape is the plates'.
        hidden, activation, norm: of the network (see `mlp`).
        gain: factor on the weights of the network's last layer, 0.1: a conditional starts near its bias, a stack near N(0, I).
        input_bound: parents beyond +-10 enter the network by the logarithm of their excess, so that data in any unit start as
            near; None takes them as they are. It does not hold for a linear conditional (`hidden=()`) or your own `net`.
        scale: a number fixes sigma; None (default) lets the network give it.
        learn_scale: train the number `scale`, one sigma whatever the parents.
        std: how the network's output becomes sigma: `exp` (of log sigma), `sigmoid` (the sigmoid is sigma) or `softplus` (it is
            sigma squared).
        isotropic: one sigma for the whole event instead of one per dim. An axis-aligned posterior prefers some
            rotations of a latent manifold to others (it makes rings square); an isotropic one does not.
        log_scale: range of log sigma (std `exp`, and a learned scale, which it contains at first); beyond it sigma grows or
            shrinks with the excess only.
        init_log_scale: where log sigma starts; None leaves it to the network (raw output 0).
        squash: the mean is a sigmoid of the network's output, for data in [0, 1].
        input_mean: subtracted from the joined parents (kept in the checkpoint); shape of the joined parents.
        output_mean: where the mean starts; shape of the event.
        net: your own module (*, parents) -> (*, features + number of sigmas), or a function of both numbers that builds it.

    Raises:
        ConfigError: for a shape that is not made of positive numbers, a scale that is not positive, or an unknown std.

    >>> q = Gaussian((1, 16, 16), 2)
    >>> q(torch.zeros(7, 5, 1, 16, 16)).batch_shape
    torch.Size([7, 5])
    """

    log_sigma: nn.Parameter | None

    def __init__(
        self,
        parents: Parents,
        event: Shape,
        hidden: Sequence[int] = (128, 128),
        *,
        scale: float | None = None,
        learn_scale: bool = False,
        std: str = "exp",
        isotropic: bool = False,
        log_scale: tuple[float, float] = (-8.0, 2.0),
        init_log_scale: float | None = None,
        squash: bool = False,
        **network: Unpack[NetworkOptions],
    ) -> None:
        if scale is not None and not scale > 0:
            raise ConfigError(f"a Gaussian's scale must be positive, got {scale!r}.")
        require_known("std", std, STDS)
        sigmas = 0 if scale is not None else 1 if isotropic else math.prod(event_shape(event))
        super().__init__(parents, event, hidden, extra=sigmas, squash=squash, **network)
        if scale is not None:  # a learned sigma starts inside its range, so that it can move both ways
            start, (low, high) = math.log(scale), log_scale
            log_scale = low if low < start else start - 1, high if start < high else start + 1
        self.scale, self.log_scale, self.std = scale, log_scale, std
        learned = nn.Parameter(torch.tensor(math.log(scale))) if scale is not None and learn_scale else None
        self.register_parameter("log_sigma", learned)
        if sigmas and init_log_scale is not None:
            self.start_at(torch.full((sigmas,), STDS[std].raw(math.exp(init_log_scale))), self.features)

    def forward(self, *parents: Tensor) -> dist.Independent:
        location, raw = self.location(parents)
        if self.log_sigma is not None:
            scale = STDS["exp"].sigma(self.log_sigma, self.log_scale).expand_as(location)
        elif self.scale is not None:
            scale = torch.full_like(location, self.scale)
        else:
            scale = STDS[self.std].sigma(raw, self.log_scale)
            # One sigma broadcasts over the event; one per dim takes its shape.
            shape = (*raw.shape[:-1], *(self.event if raw.shape[-1] == self.features else [1] * len(self.event)))
            scale = scale.reshape(shape).expand_as(location)
        return dist.Normal(location, scale).to_event(len(self.event))


class MeanScaleNetwork(ParentNetwork):
    """A network over the joined parents that gives a mean and a sigma of events (D,), and `more` (a function of D) numbers.

    Arguments as for `Gaussian`.
    """

    def __init__(
        self,
        parents: Parents,
        event: Shape,
        hidden: Sequence[int],
        *,
        more: Callable[[int], int],
        std: str,
        log_scale: tuple[float, float],
        init_log_scale: float | None,
        **network: Unpack[NetworkOptions],
    ) -> None:
        require_known("std", std, STDS)
        if len(shape := event_shape(event)) != 1:
            raise ConfigError(f"a {type(self).__name__} is of events (D,), got {shape}. Use event={math.prod(shape)}.")
        super().__init__(parents, event, hidden, extra=shape[0] + more(shape[0]), **network)
        self.log_scale, self.std = log_scale, std
        if init_log_scale is not None:
            self.start_at(torch.full(shape, STDS[std].raw(math.exp(init_log_scale))), self.features)

    def widths(self, parents: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and sigma, each (*plates, D), and the further numbers."""
        location, extra = self.location(parents)
        raw, more = extra[..., : self.features], extra[..., self.features :]
        return location, STDS[self.std].sigma(raw, self.log_scale), more
