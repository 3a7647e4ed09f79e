"""Pictures of skeletons: anti-aliased stick figures, all seen from the same place and on the same scale."""

import math

import torch
from torch import Tensor

from pyro_hvae.data.files.asf_skeleton import Skeleton

__all__ = ["draw_figures", "fit_frame"]

AZIMUTH, ELEVATION = 50.0, 10.0  # degrees from straight ahead towards the figure's right, and up from the horizontal
# Okabe and Ito's blue and orange, which also colour-blind people tell apart, for the left and the right limbs.
LEFT, RIGHT, TRUNK = (0.0, 0.447, 0.698), (0.902, 0.624, 0.0), (0.25, 0.25, 0.25)
LINE, HEAD = 0.014, 0.05  # half the width of a line and the head's radius, as parts of the picture's size
TOGETHER = 64  # figures drawn at a time, so that a thousand of them need no gigabytes


def fit_frame(positions: Tensor) -> Tensor:
    """What `draw_figures` has to show of poses (n, bones, 3) as a square: its centre's two coordinates and half its side."""
    seen = _project(positions)[..., :2].flatten(0, 1)
    low, high = seen.min(0).values, seen.max(0).values
    return torch.cat([(low + high) / 2, (high - low).max(0, keepdim=True).values / 2])


def draw_figures(skeleton: Skeleton, positions: Tensor, frame: Tensor, size: int = 96) -> Tensor:
    """Colour pictures of poses: positions (n, bones, 3) from `Skeleton.positions` -> (n, 3, size, size) in [0, 1].

    White background, left limbs blue, right limbs orange, nearer bones over farther ones, the root always at the same place.
    The projection is parallel. All poses within the frame have one scale; one that goes beyond it is drawn smaller, so
    that the whole figure is always inside.

    Arguments:
        frame: from `fit_frame` of the poses that are to fill the picture. size: height and width in pixels.
    """
    return torch.cat([_draw_part(skeleton, part, frame.to(part), size) for part in positions.split(TOGETHER)])


def _draw_part(skeleton: Skeleton, positions: Tensor, frame: Tensor, size: int) -> Tensor:
    names = [bone.name for bone in skeleton.bones]
    seen = _project(positions)
    centred = seen[..., :2] - frame[:2]
    extent = centred.abs().amax((1, 2), keepdim=True).maximum(frame[2])
    ends = centred * ((size / 2 - 1 - HEAD * size) / extent)  # room for the head's ball and a soft edge
    parents = [names.index(bone.parent) for bone in skeleton.bones[1:]]
    start, end = ends[:, parents], ends[:, 1:]
    far_first = (seen[:, parents, 2] + seen[:, 1:, 2]).argsort(1)
    ball = torch.tensor([name == "head" for name in names[1:]], device=seen.device)
    # The head is no line but a ball in the middle of its bone.
    middle = (start + end) / 2
    start, end = (torch.where(ball[:, None], middle, point) for point in (start, end))
    radius = torch.where(ball, HEAD * size, LINE * size).to(seen)
    colour = seen.new_tensor([_choose_colour(name, names) for name in names[1:]])
    figures = torch.arange(len(seen), device=seen.device)
    picture = seen.new_ones(len(seen), 3, size, size)
    for bone in far_first.unbind(1):
        ink = _line_coverage(start[figures, bone], end[figures, bone], radius[bone], size)[:, None]
        picture += ink * (colour[bone][:, :, None, None] - picture)
    return picture


def _line_coverage(start: Tensor, end: Tensor, radius: Tensor, size: int) -> Tensor:
    """How much of each pixel lines with round ends cover, (n, size, size): 1/2 at their edge, from 0 to 1 within a pixel.

    Arguments:
        start, end: (n, 2), in pixels to the right of and above the picture's centre. radius: (n,), half the lines' width.
    """
    pixels = torch.arange(size).to(start) + 0.5 - size / 2
    (ax, ay), (bx, by) = ((end - start)[..., None, None].unbind(1), start[..., None, None].unbind(1))
    x, y = pixels - bx, -pixels[:, None] - by
    part = ((x * ax + y * ay) / (ax * ax + ay * ay + 1e-12)).clamp(0, 1)
    distance = torch.hypot(x - part * ax, y - part * ay)
    return (0.5 + radius[:, None, None] - distance).clamp(0, 1)


def _project(positions: Tensor) -> Tensor:
    """Positions from the root as the viewer has them: to the right, up, and towards the viewer."""
    a, e = math.radians(AZIMUTH), math.radians(ELEVATION)
    right = [math.cos(a), 0.0, math.sin(a)]
    up = [math.sin(a) * math.sin(e), math.cos(e), -math.cos(a) * math.sin(e)]
    viewer = [-math.sin(a) * math.cos(e), math.sin(e), math.cos(a) * math.cos(e)]
    return (positions - positions[:, :1]) @ positions.new_tensor([right, up, viewer]).T


def _choose_colour(name: str, names: list[str]) -> tuple[float, float, float]:
    """By side: limbs come in pairs such as lfemur and rfemur, and "lowerback" is no left one."""
    for side, other, colour in (("l", "r", LEFT), ("r", "l", RIGHT)):
        if name[0] == side and other + name[1:] in names:
            return colour
    return TRUNK
