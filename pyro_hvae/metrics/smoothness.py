"""Smoothness of a decoded movement, joint by joint (Klushyn et al. 2019, figure 7)."""

import numpy as np

from pyro_hvae.errors import ConfigError


def smoothness_factor(path: np.ndarray) -> np.ndarray:
    r"""Root mean square of the second-order finite difference along a path, (..., J); smaller is smoother.

    $s_j = \sqrt{\frac{1}{T-1} \sum_{t=1}^{T-1} (y_{t+1,j} - 2 y_{t,j} + y_{t-1,j})^2}$, in the units of y. Equal steps along a
    straight line have 0, a zig-zag between -h and h has 4h. As in the paper, the difference is not divided by a step size, so a
    path with more points over the same movement is smoother. Also compare paths with equal numbers of points (`resample_path`).

    Arguments:
        path: decoded frames $y_0 \dots y_T$ of J joints, shape (T + 1, J), or several such paths (..., T + 1, J).

    Raises:
        ConfigError: for fewer than three frames (leave such a path out, and count it), or values that are not finite.

    >>> smoothness_factor(np.array([[0.0, -1.0], [1.0, 1.0], [2.0, -1.0]])).tolist()
    [0.0, 4.0]
    """
    path = np.asarray(path, dtype=np.float64)
    if path.ndim < 2 or path.shape[-2] < 3:
        raise ConfigError(
            f"the smoothness factor needs paths of shape (..., frames, joints) with three frames, got shape {path.shape}. "
            "Leave shorter paths out."
        )
    if not np.isfinite(path).all():
        raise ConfigError("the smoothness factor needs finite frames, got NaN or infinite values: look at the decoder first.")
    return np.sqrt(np.square(np.diff(path, n=2, axis=-2)).mean(-2))
