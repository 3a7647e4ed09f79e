"""Pictures of skeletons: anti-aliased stick figures from one viewpoint and at one scale."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pyro_hvae.data.files.asf_skeleton import Skeleton
from pyro_hvae.data.files.bvh_motion import JointTree

Figure = Skeleton | JointTree

AZIMUTH, ELEVATION = 50.0, 10.0  # of the viewer, in degrees: from the front to the figure's right, and above the horizontal
# Left limbs have Okabe and Ito's blue, right limbs their orange, which colour-blind people can distinguish.
LEFT, RIGHT, TRUNK = (0.0, 0.447, 0.698), (0.902, 0.624, 0.0), (0.25, 0.25, 0.25)
LINE, HEAD = 0.014, 0.05  # half the width of a line and the head's radius, as parts of the picture's size
TOGETHER = 64  # figures drawn at a time, to bound the memory


def make_picture(
    skeleton: Figure, features: Sequence[str], inverse: Callable[[Tensor], Tensor], training: Tensor
) -> Callable[[Tensor], Tensor]:
    """Features (n, d) -> pictures (n, 3, 96, 96), on the scale at which the training poses fill a picture.

    Arguments:
        features: the skeleton's channels that they are; the others are 0.
        inverse: features -> values of these channels.
        training: features (n, d).
    """
    index = [skeleton.channels.index(channel) for channel in features]

    def positions(features: Tensor) -> Tensor:
        channels = features.new_zeros(len(features), len(skeleton.channels))
        channels[:, index] = inverse(features)
        return skeleton.positions(channels)

    frame = fit_frame(positions(training))
    return lambda features: draw_figures(skeleton, positions(features), frame)


def fit_frame(positions: Tensor) -> Tensor:
    """The square around poses (n, bones, 3) as `draw_figures` shows them: two coordinates of its centre, half its side."""
    projected = _project(positions)[..., :2].flatten(0, 1)
    low, high = projected.min(0).values, projected.max(0).values
    return torch.cat([(low + high) / 2, (high - low).max(0, keepdim=True).values / 2])


def draw_figures(skeleton: Figure, positions: Tensor, frame: Tensor, size: int = 96) -> Tensor:
    """Colour pictures of poses: positions (n, bones, 3) from `Skeleton.positions` -> (n, 3, size, size) in [0, 1].

    Left limbs are blue and right limbs orange on white. Nearer bones cover farther ones. The root is always at the same place.
    The projection is parallel. All poses within the frame have one scale; a pose that leaves the frame is drawn smaller, so
    that the whole figure is visible.

    Arguments:
        frame: `fit_frame` of the poses that fill the picture.
        size: height and width in pixels.
    """
    return torch.cat([_draw_part(skeleton, part, frame.to(part), size) for part in positions.split(TOGETHER)])


def _draw_part(skeleton: Figure, positions: Tensor, frame: Tensor, size: int) -> Tensor:
    names = [bone.name for bone in skeleton.bones]
    projected = _project(positions)
    centred = projected[..., :2] - frame[:2]
    extent = centred.abs().amax((1, 2), keepdim=True).maximum(frame[2])
    ends = centred * ((size / 2 - 1 - HEAD * size) / extent)  # room for the head's ball and a soft edge
    parents = [names.index(bone.parent) for bone in skeleton.bones[1:]]
    start, end = ends[:, parents], ends[:, 1:]
    far_first = (projected[:, parents, 2] + projected[:, 1:, 2]).argsort(1)
    low = [name.lower() for name in names]
    head = "head end" if "head end" in low else "head"
    ball = torch.tensor([name == head for name in low[1:]], device=projected.device)
    # The head is a ball in the middle of its bone.
    middle = (start + end) / 2
    start, end = (torch.where(ball[:, None], middle, point) for point in (start, end))
    radius = torch.where(ball, HEAD * size, LINE * size).to(projected)
    colour = projected.new_tensor([_choose_colour(name, low) for name in names[1:]])
    figures = torch.arange(len(projected), device=projected.device)
    picture = projected.new_ones(len(projected), 3, size, size)
    for bone in far_first.unbind(1):
        ink = _line_coverage(start[figures, bone], end[figures, bone], radius[bone], size)[:, None]
        picture += ink * (colour[bone][:, :, None, None] - picture)
    return picture


def _line_coverage(start: Tensor, end: Tensor, radius: Tensor, size: int) -> Tensor:
    """Share of each pixel that lines with round ends cover, (n, size, size): 1/2 at their edge, from 0 to 1 within a pixel.

    Arguments:
        start, end: (n, 2), in pixels to the right of and above the picture's centre.
        radius: (n,), half the width of the lines.
    """
    pixels = torch.arange(size).to(start) + 0.5 - size / 2
    (ax, ay), (bx, by) = ((end - start)[..., None, None].unbind(1), start[..., None, None].unbind(1))
    x, y = pixels - bx, -pixels[:, None] - by
    part = ((x * ax + y * ay) / (ax * ax + ay * ay + 1e-12)).clamp(0, 1)
    distance = torch.hypot(x - part * ax, y - part * ay)
    return (0.5 + radius[:, None, None] - distance).clamp(0, 1)


def _project(positions: Tensor) -> Tensor:
    """Positions relative to the root, in the viewer's coordinates: to the right, up, and towards the viewer."""
    a, e = math.radians(AZIMUTH), math.radians(ELEVATION)
    right = [math.cos(a), 0.0, math.sin(a)]
    up = [math.sin(a) * math.sin(e), math.cos(e), -math.cos(a) * math.sin(e)]
    viewer = [-math.sin(a) * math.cos(e), math.sin(e), math.cos(a) * math.cos(e)]
    return (positions - positions[:, :1]) @ positions.new_tensor([right, up, viewer]).T


def _choose_colour(name: str, names: list[str]) -> tuple[float, float, float]:
    """The colour of a bone's side. Limbs come in pairs such as lfemur and rfemur, or LeftArm and RightArm."""
    low = name.lower()
    for side, other, colour in (("left", "right", LEFT), ("right", "left", RIGHT), ("l", "r", LEFT), ("r", "l", RIGHT)):
        if low.startswith(side) and other + low.removeprefix(side) in names:
            return colour
    return TRUNK
