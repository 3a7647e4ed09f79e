"""Joint angles of recorded motions: full turns, frames that are no pose, and the scaling to [-1, 1]."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

STILL = 1e-6  # degrees; a channel that moves less is constant (the clavicles are, up to rounding of about 1e-14)
SPIKE = 90.0  # degrees between two frames, 1/120 s apart, which no joint turns


def put_on_one_turn(degrees: np.ndarray) -> np.ndarray:
    """Angles (frames, channels) in (-180, 180]; one that moves across the cut leaves this range instead of jumping.

    A step of more than 270 degrees is a small one across the cut. A jump of about half a turn has no direction and stays.

    >>> put_on_one_turn(np.array([[361.0, 170.0, 0.0], [362.0, -170.0, 179.0]])).tolist()
    [[1.0, 170.0, 0.0], [2.0, 190.0, 179.0]]
    """
    return np.unwrap(degrees - 360 * np.ceil((degrees - 180) / 360), discont=360 - SPIKE, period=360, axis=0)


def is_measured(frames: np.ndarray) -> np.ndarray:
    """Whether a frame is a measured pose: in one that is filled in, most angles are exactly 0."""
    return (frames == 0).mean(1) < 0.5


def fit_scaling(degrees: np.ndarray) -> tuple[Callable[[np.ndarray], Tensor], Callable[[Tensor], Tensor]]:
    """Degrees -> features and back, each channel of the given poses filling [-1, 1]."""
    low, high = degrees.min(0), degrees.max(0)
    middle, half = (low + high) / 2, (high - low) / 2
    moves = half > STILL / 2

    def scale(angles: np.ndarray) -> Tensor:
        scaled = np.where(moves, (angles - middle) / np.where(moves, half, 1.0), 0.0)
        return torch.from_numpy(scaled.astype(np.float32))

    def inverse(features: Tensor) -> Tensor:
        return features * torch.from_numpy(half * moves).to(features) + torch.from_numpy(middle).to(features)

    return scale, inverse
