"""Measures of curves through data: length, energy, smoothness and the largest jump."""

from dataclasses import dataclass

import numpy as np

from pyro_hvae.metrics.smoothness import smoothness_factor


@dataclass(frozen=True, eq=False)
class CurveMeasures:
    r"""Measures of curves $y_0 \dots y_T$, one number for each, in the units of y.

    Attributes:
        length: $\sum_t |y_{t+1} - y_t|$.
        energy: $T \sum_t |y_{t+1} - y_t|^2$, in squared units: at least the squared length, and equal where all steps are.
        smoothness: the mean of `smoothness_factor` over the features. largest_jump: the longest step.
    """

    length: np.ndarray
    energy: np.ndarray
    smoothness: np.ndarray
    largest_jump: np.ndarray


def step_lengths(frames: np.ndarray) -> np.ndarray:
    """The Euclidean length of every step of curves, (..., T + 1, J) -> (..., T), float64.

    >>> step_lengths(np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0]])).tolist()
    [5.0, 0.0]
    """
    return np.linalg.norm(np.diff(np.asarray(frames, dtype=np.float64), axis=-2), axis=-1)


def measure_curves(frames: np.ndarray) -> CurveMeasures:
    """The measures of curves of shape (..., T + 1, J), each of shape (...); compare curves with equal T.

    Raises:
        ConfigError: as `smoothness_factor`, for fewer than three frames or values that are not finite.

    >>> equal, unequal = np.array([[0.0], [1.0], [2.0]]), np.array([[0.0], [2.0], [2.0]])
    >>> found = measure_curves(np.stack([equal, unequal]))
    >>> found.length.tolist(), found.energy.tolist(), found.smoothness.tolist(), found.largest_jump.tolist()
    ([2.0, 2.0], [4.0, 8.0], [0.0, 2.0], [1.0, 2.0])
    """
    smoothness = smoothness_factor(frames).mean(-1)
    steps = step_lengths(frames)
    return CurveMeasures(steps.sum(-1), steps.shape[-1] * np.square(steps).sum(-1), smoothness, steps.max(-1))
