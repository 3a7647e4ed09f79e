"""The artificial pendulum (Klushyn et al. 2019, section 4.1): 16 x 16 images whose only degree of freedom is an angle.

The paper does not say how its pendulum was drawn. Ours is a rod from the centre with a bob at its end. At angle 0 it hangs
down. Its soft edges are wide enough for the first harmonic of the angle to dominate the pixels.
"""

import math
from functools import cache

import numpy as np
import torch

from pyro_hvae.data.dataset import Dataset, Split
from pyro_hvae.data.option_checks import check_seed, check_size

SIZE, LENGTH, HALF_WIDTH, BOB, SOFT = 16, 5.0, 1.0, 2.0, 2.0  # pixels


def render(angles: np.ndarray) -> np.ndarray:
    """Images of the pendulum at angles in radians (0 hangs down), shape (n, 1, 16, 16), float32 in [0, 1].

    Intensity is clip(1/2 - d / (2 SOFT), 0, 1), where d is the signed distance in pixels to the union of rod and bob.
    """
    centre = (SIZE - 1) / 2
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    x, y = (columns - centre).ravel(), (centre - rows).ravel()  # y points up
    theta = np.asarray(angles, dtype=np.float64).reshape(-1, 1)
    ux, uy = np.sin(theta), -np.cos(theta)
    along = np.clip(x * ux + y * uy, 0.0, LENGTH)
    rod = np.hypot(x - along * ux, y - along * uy) - HALF_WIDTH
    bob = np.hypot(x - LENGTH * ux, y - LENGTH * uy) - BOB
    image = np.clip(0.5 - np.minimum(rod, bob) / (2 * SOFT), 0.0, 1.0)
    return image.astype(np.float32).reshape(-1, 1, SIZE, SIZE)


@cache
def _templates(count: int = 1440) -> tuple[np.ndarray, np.ndarray]:
    angles = np.arange(count) / count * 2 * math.pi
    return angles, render(angles).reshape(count, -1).astype(np.float64)


def read_angles(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Angle of the nearest of 1440 rendered pendula, and the squared error to it summed over pixels, both (n,).

    An image that blends two pendula gets an angle, too, but a squared error above about 1 shows that it is not on the data
    manifold.
    """
    angles, templates = _templates()
    flat = images.reshape(len(images), -1).astype(np.float64)
    squares = (flat**2).sum(1)[:, None] - 2 * flat @ templates.T + (templates**2).sum(1)
    best = squares.argmin(1)
    return angles[best], squares[np.arange(len(flat)), best].clip(min=0.0)


def pendulum(data_seed: int = 0, size: int = 15_000) -> Dataset:
    """15,000 training images with angles uniform in [0, 2 pi), and fresh validation (1,000) and test (3,000) images.

    Arguments:
        data_seed: seed of the angles of all three splits.
        size: number of training images.

    Raises:
        ConfigError: for a size below one or a negative seed.

    >>> pendulum(size=8).train.x.shape
    torch.Size([8, 1, 16, 16])
    """
    check_size(size, 4 * SIZE * SIZE)
    check_seed(data_seed)

    def draw_split(number: int, size: int) -> Split:
        angles = np.random.default_rng([data_seed, number]).uniform(0.0, 2 * math.pi, size)
        return Split(torch.from_numpy(render(angles)), {"angle": torch.from_numpy(angles)})

    train, validation, test = map(draw_split, range(3), (size, 1_000, 3_000))
    return Dataset(
        "pendulum",
        train,
        validation,
        test,
        read_angles=lambda images: read_angles(images.cpu().numpy()),
        ends={"0 to 180 degrees": torch.from_numpy(render(np.array([0.0, math.pi])))},
    )
