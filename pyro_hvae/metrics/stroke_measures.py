"""Measures of a drawing of strokes: ink, slant, width, thickness."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from pyro_hvae.errors import ConfigError

PIXEL = 1 / 12  # variance of the points of a unit square along one side: a pixel is a square, not a dot
GAUSS = (0.5 - 0.5 / 3**0.5, 0.5 + 0.5 / 3**0.5)  # positions in a cell at which its gradient is evaluated
TINY = torch.finfo(torch.float64).tiny


def _drawing(x: Tensor) -> Tensor:
    """(n, 1, h, w) -> float64 (n, h, w) on the CPU."""
    if x.dim() != 4 or x.shape[1] != 1 or 0 in x.shape[2:]:
        raise ConfigError(f"strokes are measured on images of shape (n, 1, height, width), got {tuple(x.shape)}.")
    if not ((x >= 0) & (x <= 1)).all():
        raise ConfigError("strokes are measured on images with values in [0, 1], 1 for ink; these have others. Clamp them.")
    return x[:, 0].detach().to("cpu", torch.float64)


def _moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For every image, (n,) each: whether it has ink; variance along x, covariance, variance along y (upwards), in pixels."""
    drawing = _drawing(x)
    mass = drawing.sum((1, 2))
    share = drawing / mass.clamp_min(TINY)[:, None, None]
    height, breadth = drawing.shape[1:]
    right = torch.arange(breadth, dtype=torch.float64) - (breadth - 1) / 2
    up = (height - 1) / 2 - torch.arange(height, dtype=torch.float64)
    columns, rows = share.sum(1), share.sum(2)
    across, along = columns @ right, rows @ up
    covariance = torch.einsum("nij,i,j->n", share, up, right) - across * along
    return mass > 0, columns @ right**2 - across**2 + PIXEL, covariance, rows @ up**2 - along**2 + PIXEL


def ink(x: Tensor) -> Tensor:
    """The mean pixel; x of shape (n, 1, h, w) in [0, 1] -> float64 (n,).

    Raises:
        ConfigError: for another shape or other values.

    >>> ink(torch.tensor([[[[0.0, 1.0], [0.5, 0.5]]]])).tolist()
    [0.5]
    """
    return _drawing(x).mean((1, 2))


def slant(x: Tensor) -> Tensor:
    r"""Pixels to the right per pixel upwards, $\mu_{11} / \mu_{02}$: positive leaning as / does, 0 for a blank image.

    This is the shear that deskewing removes, from the central moments of the ink. Pixels are squares, not dots, which adds 1/12
    to $\mu_{02}$: nothing is divided by zero, and a stroke without vertical extent has no slant. For a stroke of h rows the
    value is $1/h^2$ below the usual one.

    Arguments and errors as for `ink`.

    >>> [round(value, 6) for value in slant(torch.eye(10).flip(0)[None, None]).tolist()]
    [0.99]
    """
    _, _, covariance, tall = _moments(x)
    return covariance / tall


def width(x: Tensor) -> Tensor:
    r"""Standard deviation of the ink along x without the slant, in pixels; 0 for a blank image.

    $\sqrt{\mu_{20} - \mu_{11}^2 / \mu_{02}}$, the spread around the line of the slant, which deskewing leaves. Pixels are
    squares as in `slant`, so a bar of t columns has $t / \sqrt{12}$.

    Arguments and errors as for `ink`.

    >>> [round(value, 3) for value in (12**0.5 * width(torch.ones(1, 1, 9, 5))).tolist()]
    [5.0]
    """
    present, wide, covariance, tall = _moments(x)
    return (present * (wide - covariance.square() / tall)).sqrt()


def thickness(x: Tensor) -> Tensor:
    r"""Mean thickness of the strokes in pixels, $2 A / P$: twice their area over their perimeter; 0 for a blank image.

    $A = \int I$ and $P = \int |\nabla I|$, the length of the contours summed over grey levels (coarea formula), without ink
    beyond the frame. There is no threshold, and darkness does not matter: a blurred stroke is as thick as a sharp one of the
    same area and darkest tone. I is bilinear between the pixels; its gradient is evaluated at four points of each cell.

    The ends belong to the perimeter: a bar of length L has $t L / (t + L)$. A faint even grey has the thickness of its frame.

    Arguments and errors as for `ink`.

    >>> bar = torch.zeros(1, 1, 40, 40)
    >>> bar[..., 1:39, 10:13] = 0.5  # 38 x 3: 2.78
    >>> [round(value, 1) for value in thickness(bar).tolist()]
    [2.8]
    """
    framed = pad(_drawing(x), (1, 1, 1, 1))
    one, two, three, four = framed[:, :-1, :-1], framed[:, :-1, 1:], framed[:, 1:, :-1], framed[:, 1:, 1:]
    across, down = (two - one, four - three), (three - one, four - two)
    slopes = [torch.hypot(torch.lerp(*across, v), torch.lerp(*down, u)) for u in GAUSS for v in GAUSS]
    perimeter = torch.stack([slope.sum((1, 2)) for slope in slopes]).mean(0)
    return 2 * framed.sum((1, 2)) / perimeter.clamp_min(TINY)


STROKES: dict[str, Callable[[Tensor], Tensor]] = {"ink": ink, "slant": slant, "width": width, "thickness": thickness}
