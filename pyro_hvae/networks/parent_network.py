"""A network over the joined parents of a conditional."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypedDict

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from pyro_hvae.errors import ConfigError, ContractError
from pyro_hvae.networks.fully_connected import mlp

Shape = int | Sequence[int]
Net = nn.Module | Callable[[int, int], nn.Module]
Parents = Shape | list[Sequence[int]]


# Factor on the last layer's first weights: every conditional starts near its output bias, so that a stack of them starts near
# N(0, I) whatever its depth. With 1 each level's exp of a raw output feeds the next one, and a loss starts at 1e10 nats.
START_GAIN = 0.1

# Parents beyond +-10 enter a network by the logarithm of their excess. Data in units of hundreds would otherwise make the first
# level's outputs as large, and its exp of them the next one's. Standardised data never come near.
INPUT_BOUND = 10.0


class NetworkOptions(TypedDict, total=False):
    """Keyword arguments of every `ParentNetwork`."""

    activation: str
    gain: float
    norm: bool
    input_bound: float | None
    input_mean: Tensor | None
    output_mean: Tensor | None
    net: Net | None


def event_shape(shape: Shape) -> tuple[int, ...]:
    """A shape as a tuple; raises `ConfigError` for one that is not made of positive whole numbers.

    >>> event_shape(3)
    (3,)
    """
    event = (shape,) if isinstance(shape, int) else tuple(shape)
    if not event or any(not isinstance(n, int) or n < 1 for n in event):
        raise ConfigError(f"a shape needs positive whole numbers, got {shape!r}. Example: 2 or (1, 16, 16).")
    return event


def join_parents(parents: Sequence[Tensor], events: Sequence[tuple[int, ...]]) -> Tensor:
    """Flattens every parent's event dims, broadcasts the plates against each other and concatenates.

    Shapes: parent i is (*plates_i, *events[i]); the result is (*plates, sum of the features). A single entry of `events`
    holds for all parents: features of shape (n,) whose numbers only have to add up.

    >>> join_parents([torch.zeros(5, 3, 1, 4), torch.zeros(3, 2)], [(1, 4), (2,)]).shape
    torch.Size([5, 3, 6])
    """
    if len(events) == 1 and len(parents) > 1:
        events = list(events) * len(parents)
    if len(parents) != len(events):
        raise ContractError(f"a conditional of {len(events)} parents was given {len(parents)}.")
    if wrong := [p for p, e in zip(parents, events, strict=True) if len(e) > 1 and tuple(p.shape[-len(e) :]) != e]:
        raise ContractError(
            f"a conditional of parents of shape {_join(events)} was given {tuple(wrong[0].shape)}, with the plates."
        )
    flat = [p.flatten(-len(e)) if len(e) > 1 else p for p, e in zip(parents, events, strict=True)]
    if len(flat) == 1:
        return flat[0]
    plates = torch.broadcast_shapes(*(p.shape[:-1] for p in flat))
    return torch.cat([p.expand(*plates, p.shape[-1]) for p in flat], -1)


def _join(events: Sequence[tuple[int, ...]]) -> str:
    return " and ".join(map(str, events))


def soft_clamp(raw: Tensor, low: float, high: float) -> Tensor:
    """Keeps values in [low, high], and moves those beyond to the bound plus the logarithm of 1 + their excess.

    A plain clamp has no gradient beyond the bounds: large networks, which overshoot in their first steps, would never return.

    >>> soft_clamp(torch.tensor([-1.0, 0.5, 1.0 + math.e - 1.0]), 0.0, 1.0)
    tensor([-0.6931,  0.5000,  2.0000])
    """
    inside = raw.clamp(low, high)
    excess = raw - inside
    return inside + excess.sign() * excess.abs().log1p()


def _bound_inputs(h: Tensor, bound: float) -> Tensor:
    """h within +-bound, softly; on the CPU a look at the range of h costs less than the clamp."""
    recorded = get_proxy_mode() is not None or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    if h.device.type == "cpu" and h.numel() and not recorded:
        least, largest = h.detach().aminmax()
        with suppress(RuntimeError):  # under vmap there are no values to look at
            if least >= -bound and largest <= bound:
                return h
    return soft_clamp(h, -bound, bound)


class ParentNetwork(nn.Module):
    """A network over the joined parents that gives the location of an event and `extra` more numbers.

    Arguments as for `Gaussian`; with `squash` the mean is the sigmoid of the network's output.
    """

    input_mean: Tensor | None

    def __init__(
        self,
        parents: Parents,
        event: Shape,
        hidden: Sequence[int],
        *,
        extra: int = 0,
        squash: bool = False,
        activation: str = "relu",
        gain: float = START_GAIN,
        norm: bool = False,
        input_bound: float | None = INPUT_BOUND,
        input_mean: Tensor | None = None,
        output_mean: Tensor | None = None,
        net: Net | None = None,
    ) -> None:
        super().__init__()
        self.parents = [event_shape(p) for p in (parents if isinstance(parents, list) else [parents])]
        self.event = event_shape(event)
        self.features, self.squash = math.prod(self.event), squash
        self.inputs, outputs = sum(math.prod(e) for e in self.parents), self.features + extra
        self.input_bound = input_bound if net is None and hidden else None  # a linear conditional stays linear
        if net is None:
            self.net: nn.Module = mlp(self.inputs, outputs, hidden, activation, gain, norm)
        else:
            self.net = net if isinstance(net, nn.Module) else net(self.inputs, outputs)
        self.register_buffer("input_mean", None if input_mean is None else input_mean.detach().flatten().clone())
        if output_mean is not None:
            self.start_at(output_mean.clamp(1e-3, 0.999).logit() if squash else output_mean)

    def outputs(self, parents: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The network's outputs: location before the sigmoid, (*plates, *event), and the extra numbers (*plates, extra)."""
        h = join_parents(parents, self.parents)
        if h.shape[-1] != self.inputs:
            raise ContractError(f"a conditional of {self.inputs} features of its parents was given {h.shape[-1]}.")
        if self.input_mean is not None:
            h = h - self.input_mean
        out = self.net(h if self.input_bound is None else _bound_inputs(h, self.input_bound))
        location, extra = out[..., : self.features], out[..., self.features :]
        return location.reshape(*out.shape[:-1], *self.event), extra

    def location(self, parents: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The mean (*plates, *event) and the extra numbers (*plates, extra)."""
        location, extra = self.outputs(parents)
        return location.sigmoid() if self.squash else location, extra

    @torch.no_grad()
    def start_at(self, values: Tensor, first: int = 0) -> None:
        """Sets the last bias, from output number `first` on, so that these outputs start around `values`."""
        last = self.net[-1] if isinstance(self.net, nn.Sequential) else None
        if not isinstance(last, nn.Linear):
            raise ConfigError("initial outputs can only be set when the network ends in nn.Linear; initialise your own `net`.")
        last.bias[first : first + values.numel()] = values.flatten()
