"""Patches of images: cutting an image into patches and joining them again."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import fold, unfold

from pyro_hvae.errors import ConfigError

JOINS = ("average", "centre")


@dataclass(frozen=True)
class Patches:
    """Square patches of images of one size: one around every pixel (stride 1, zeros beyond the border), or a tiling.

    Attributes:
        channels, height, width: of the images. side: of a patch, in pixels. stride: 1, or the side, with no overlap.
        join: how overlapping patches become an image: every pixel is the `average` of all patches over it, or the `centre` of
            the patch around it. A tiling takes `average`.

    Raises:
        ConfigError: for an even patch around every pixel (which has no centre), a tiling that does not fill the image,
            patches larger than the image, any other stride, or an unknown join.

    >>> images = torch.rand(2, 3, 8, 8)
    >>> patches = Patches(3, 8, 8, side=7)
    >>> patches.cut(images).shape, torch.allclose(patches.put(patches.cut(images)), images)
    (torch.Size([2, 8, 8, 3, 7, 7]), True)
    """

    channels: int
    height: int
    width: int
    side: int = 7
    stride: int = 1
    join: str = "average"

    def __post_init__(self) -> None:
        side, stride = self.side, self.stride
        least = min(self.height, self.width)
        fitting = [n for n in range(1, least + 1) if self.height % n == self.width % n == 0]
        if not 1 <= side <= least:
            largest = least - (least % 2 == 0) if stride == 1 else fitting[-1]
            raise ConfigError(
                f"a patch of {side} pixels does not fit into images of {self.height} x {self.width}. "
                f"Use -o patch={largest} or less."
            )
        if stride not in (1, side):
            raise ConfigError(
                f"patches lie around every pixel (stride 1) or side by side (stride {side}), got stride {stride}."
            )
        if stride == 1 and side % 2 == 0:
            tiled = ", or -o overlap=false" if side in fitting else ""
            raise ConfigError(f"a patch around a pixel has an odd side, got {side}. Use -o patch={side - 1}{tiled}.")
        if stride > 1 and side not in fitting:
            near = min(fitting, key=lambda n: abs(n - side))
            raise ConfigError(
                f"patches of {side} pixels side by side do not fill images of {self.height} x {self.width}. "
                f"Use -o patch={near}."
            )
        if self.join not in JOINS:
            raise ConfigError(f"patches are joined by {' or '.join(JOINS)}, got {self.join!r}. Example: -o join=average.")
        if stride > 1 and self.join == "centre":
            raise ConfigError("patches side by side do not overlap, so there are no centres to take. Use -o join=average.")

    @property
    def padding(self) -> int:
        """Pixels of zeros around the image."""
        return self.side // 2 if self.stride == 1 else 0

    @property
    def rows(self) -> int:
        return self.height // self.stride

    @property
    def columns(self) -> int:
        return self.width // self.stride

    @property
    def event(self) -> tuple[int, int, int]:
        """The shape of one patch."""
        return self.channels, self.side, self.side

    def cut(self, images: Tensor) -> Tensor:
        """Images (n, channels, height, width) -> patches (n, rows, columns, channels, side, side)."""
        columns = unfold(images, self.side, padding=self.padding, stride=self.stride)
        return columns.transpose(1, 2).reshape(-1, self.rows, self.columns, *self.event)

    def put(self, patches: Tensor) -> Tensor:
        """Joins patches to images, as `join` says; the inverse of `cut` for patches that agree where they overlap."""
        if self.join == "centre":
            return patches[..., self.side // 2, self.side // 2].permute(0, 3, 1, 2)
        flat = patches.flatten(3).flatten(1, 2).transpose(1, 2)
        total = fold(flat, (self.height, self.width), self.side, padding=self.padding, stride=self.stride)
        if self.stride > 1:
            return total
        down, across = (self._count_patches(n).to(total) for n in (self.height, self.width))
        return total / (down[:, None] * across)

    def _count_patches(self, pixels: int) -> Tensor:
        """The number of patches over each pixel of a line: fewer at its ends."""
        pixel = torch.arange(pixels)
        return (pixel + self.padding).clamp(max=pixels - 1) - (pixel - self.padding).clamp(min=0) + 1
