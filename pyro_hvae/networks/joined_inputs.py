"""What a program is given beside x, by name, and how it enters a network that reads x: y, and the mask of observed entries."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pyro_hvae.errors import ContractError


def take_given(names: Sequence[str], given: Mapping[str, Tensor]) -> list[Tensor]:
    """The given inputs of a program in the order of its names.

    Raises:
        ContractError: for an input that is missing, or that the program does not take.

    >>> take_given(["y"], {"y": torch.ones(3, 1)})[0].shape
    torch.Size([3, 1])
    """
    taken = f"takes {', '.join(names)} beside x" if names else "takes no input beside x"
    if missing := [name for name in names if name not in given]:
        y = missing[0]
        raise ContractError(
            f"a program {taken}, but it was not given '{y}'. Give it: loss(x, {y}={y}) in a pass of an objective, "
            f"given={{'{y}': {y}}} in a question such as latents or generate."
        )
    if unknown := [name for name in given if name not in names]:
        raise ContractError(
            f"a program {taken}, but it was given '{unknown[0]}'. Leave it out, or build the program with "
            f"given={(*names, *unknown)}."
        )
    return [given[name] for name in names]


def mask_input(x: Tensor, observed: Tensor | None, wanted: bool) -> list[Tensor]:
    """The mask as floats of the shape of x, ones where `observed` is None; nothing unless it is wanted."""
    if not wanted:
        return []
    return [torch.ones_like(x) if observed is None else observed.to(x.dtype)]


def join_inputs(inputs: Sequence[Tensor]) -> Tensor:
    """x itself where it is alone, else x and what stands beside it, flattened and side by side.

    Shapes: x (B, *event), the others (B, ...) or (1, ...) -> (B, features).

    >>> join_inputs([torch.zeros(5, 1, 4, 4), torch.ones(5, 1, 4, 4), torch.zeros(1, 3)]).shape
    torch.Size([5, 35])
    """
    if len(inputs) == 1:
        return inputs[0]
    return torch.cat([value.flatten(1).expand(inputs[0].shape[0], -1) for value in inputs], 1)


class InputLayer(nn.Module):
    """Prepares x and what stands beside it for a network: fills missing entries in, and makes maps of given numbers.

    Arguments:
        event: shape of x. mask: whether the mask of observed entries follows x.
        fill: value of the missing entries, of the shape of x; default 0.
        maps: the network reads images, so that every given number becomes a channel of equal values.

    Shapes: (*plates, x [, mask] [, given]) -> (*plates, features), with `maps` those of (channels + given numbers) images.

    >>> InputLayer((1, 2, 2), mask=False, maps=True)(torch.tensor([[1.0, 2.0, 3.0, 4.0, 9.0]]))
    tensor([[1., 2., 3., 4., 9., 9., 9., 9.]])
    """

    fill: Tensor | None

    def __init__(self, event: Sequence[int], mask: bool, maps: bool = False, fill: Tensor | None = None) -> None:
        super().__init__()
        self.event, self.mask, self.maps = torch.Size(event), mask, maps
        self.register_buffer("fill", None if fill is None else fill.detach().flatten().clone())

    def forward(self, h: Tensor) -> Tensor:
        entries = self.event.numel()
        x, mask, given = h.tensor_split([entries, entries * (1 + self.mask)], -1)
        if self.mask:
            x = x.where(mask > 0, 0 if self.fill is None else self.fill)
        if self.maps:
            given = given[..., None].expand(*given.shape, self.event[1:].numel()).flatten(-2)
        return torch.cat([x, mask, given], -1)
