"""What a program is given beside x, by name, and how it enters a network that reads x: y, and the mask of observed entries."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pyro_hvae.errors import ContractError

SIZE_FACTOR = "size_factor"  # the given input that multiplies the means of counts, and no more


def require_size_factor(size: Tensor, plates: int = 0) -> None:
    """Raises `ContractError` where a size factor is not of shape (*plates, 1), one number a datum, with so many plates."""
    if size.dim() <= plates or size.shape[-1] != 1:
        raise ContractError(
            f"a {SIZE_FACTOR} has the shape (*plates, 1), one number a datum, but it was given {tuple(size.shape)}. Give "
            "numbers of shape (n,) as values[:, None]."
        )


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


def take_parents(names: Sequence[str], given: Mapping[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The given inputs of a program as parents: those of its conditionals, and the size factor, if any, of x alone.

    Raises:
        ContractError: as `take_given`.

    >>> y, size = take_parents(["size_factor", "y"], {"y": torch.ones(3, 2), "size_factor": torch.ones(3, 1)})
    >>> len(y), len(size)
    (1, 1)
    """
    values = dict(zip(names, take_given(names, given), strict=True))
    size = values.pop(SIZE_FACTOR, None)
    return list(values.values()), [] if size is None else [size]


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


def log_counts(x: Tensor) -> Tensor:
    """log(1 + x) of counts, of any size as small numbers; x itself below 0, where only a VampPrior's pseudo-inputs go."""
    return x.clamp(min=0).log1p() + x.clamp(max=0)


class InputLayer(nn.Module):
    """Prepares x and what stands beside it for a network: logarithms of counts, missing entries, maps of given numbers.

    Arguments:
        event: shape of x. mask: whether the mask of observed entries follows x.
        fill: value of the missing entries, of the shape of x; default 0.
        maps: the network reads images, so that every given number becomes a channel of equal values.
        log_mean: x are counts, which are read as log(1 + x) less this mean, of the shape of x; a missing entry is then 0.
        size: the last given number is a size factor, which is read as its logarithm.

    Shapes: (*plates, x [, mask] [, given]) -> (*plates, features), with `maps` those of (channels + given numbers) images.

    >>> InputLayer((1, 2, 2), mask=False, maps=True)(torch.tensor([[1.0, 2.0, 3.0, 4.0, 9.0]]))
    tensor([[1., 2., 3., 4., 9., 9., 9., 9.]])
    """

    fill: Tensor | None
    log_mean: Tensor | None

    def __init__(
        self,
        event: Sequence[int],
        mask: bool,
        maps: bool = False,
        fill: Tensor | None = None,
        log_mean: Tensor | None = None,
        size: bool = False,
    ) -> None:
        super().__init__()
        self.event, self.mask, self.maps, self.size = torch.Size(event), mask, maps, size
        for name, value in {"fill": fill, "log_mean": log_mean}.items():
            self.register_buffer(name, None if value is None else value.detach().flatten().clone())

    def forward(self, h: Tensor) -> Tensor:
        entries = self.event.numel()
        x, mask, given = h.tensor_split([entries, entries * (1 + self.mask)], -1)
        if self.log_mean is not None:
            x = log_counts(x) - self.log_mean
        if self.mask:
            x = x.where(mask > 0, 0 if self.fill is None else self.fill)
        if self.size:
            size = given[..., -1:].clamp(min=torch.finfo(given.dtype).tiny)  # that of a pseudo-input moves freely
            given = torch.cat([given[..., :-1], size.log()], -1)
        if self.maps:
            given = given[..., None].expand(*given.shape, self.event[1:].numel()).flatten(-2)
        return torch.cat([x, mask, given], -1)
