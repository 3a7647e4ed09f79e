"""A network over the joined parents of a conditional."""

import math
from collections.abc import Callable, Sequence
from typing import TypedDict

import torch
from torch import Tensor, nn

from pyro_hvae.errors import ConfigError
from pyro_hvae.networks.fully_connected import mlp

Shape = int | Sequence[int]
Net = nn.Module | Callable[[int, int], nn.Module]
Parents = Shape | list[Sequence[int]]


# Factor on the last layer's first weights: every conditional starts near its output bias, so that a stack of them starts near
# N(0, I) whatever its depth. With 1 each level's exp of a raw output feeds the next one, and a loss starts at 1e10 nats.
START_GAIN = 0.1


class NetworkOptions(TypedDict, total=False):
    """Keyword arguments of every `ParentNetwork`."""

    activation: str
    gain: float
    norm: bool
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
    flat = [p.flatten(-len(e)) if len(e) > 1 else p for p, e in zip(parents, events, strict=True)]
    if len(flat) == 1:
        return flat[0]
    plates = torch.broadcast_shapes(*(p.shape[:-1] for p in flat))
    return torch.cat([p.expand(*plates, p.shape[-1]) for p in flat], -1)


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
        input_mean: Tensor | None = None,
        output_mean: Tensor | None = None,
        net: Net | None = None,
    ) -> None:
        super().__init__()
        self.parents = [event_shape(p) for p in (parents if isinstance(parents, list) else [parents])]
        self.event = event_shape(event)
        self.features, self.squash = math.prod(self.event), squash
        inputs, outputs = sum(math.prod(e) for e in self.parents), self.features + extra
        if net is None:
            self.net: nn.Module = mlp(inputs, outputs, hidden, activation, gain, norm)
        else:
            self.net = net if isinstance(net, nn.Module) else net(inputs, outputs)
        self.register_buffer("input_mean", None if input_mean is None else input_mean.detach().flatten().clone())
        if output_mean is not None:
            self.start_at(output_mean.clamp(1e-3, 0.999).logit() if squash else output_mean)

    def outputs(self, parents: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The network's outputs: location before the sigmoid, (*plates, *event), and the extra numbers (*plates, extra)."""
        h = join_parents(parents, self.parents)
        if self.input_mean is not None:
            h = h - self.input_mean
        out = self.net(h)
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
