"""Linear regression of an angle on the polar angle of a two-dimensional code (Klushyn et al. 2019, table 1)."""

import math
from dataclasses import dataclass

import numpy as np

from pyro_hvae.errors import ConfigError


def wrap(angle: np.ndarray) -> np.ndarray:
    """The same angle in [-pi, pi)."""
    return (angle + math.pi) % (2 * math.pi) - math.pi


@dataclass(frozen=True)
class AngleFit:
    """Result of `angle_regression`; errors are held-out mean absolute circular errors in radians (chance: pi/2).

    Attributes:
        mae_rad: the reported error, of the least-squares fit y ~ 1 + phi. max_rad: the largest held-out error.
        cos_sin_rad: error of the fit (cos, sin) ~ 1 + cos phi + sin phi, which tolerates an off-centre ring.
        winding: turns of the code around its centre in one turn of the angle; +1 or -1 for an untwisted ring.
    """

    mae_rad: float
    max_rad: float
    cos_sin_rad: float
    winding: float


def angle_regression(
    train_codes: np.ndarray, train_angles: np.ndarray, test_codes: np.ndarray, test_angles: np.ndarray
) -> AngleFit:
    r"""Fits an angle as a linear function of the polar angle of a 2-d code, and measures the held-out error.

    $\phi = \mathrm{atan2}(z - \bar z)$; orientation $s \in \{1, -1\}$ and offset o maximise $|E\, e^{i(\theta - s\phi)}|$;
    with $u = \mathrm{wrap}(s\phi + o)$ the target is unwrapped next to u, $y = u + \mathrm{wrap}(\theta - u)$, and y is
    regressed on (1, u). Centre, orientation, offset and regression use training data only.

    The procedure of the paper (its appendix B.3) is not available; this one is ours. It measures how round the ring is and how
    evenly the code runs along it, not information: a perfect elliptic ring has 0.05-0.15, a twisted one 0.3-1.

    Arguments:
        train_codes, test_codes: (n, 2). train_angles, test_angles: (n,), radians.

    Raises:
        ConfigError: when the codes are not two-dimensional.

    >>> t = np.linspace(0, 6.28, 500)
    >>> ring = np.c_[np.cos(t + 1), -np.sin(t + 1)]
    >>> angle_regression(ring, t, ring, t).mae_rad < 1e-2
    True
    """
    if train_codes.ndim != 2 or train_codes.shape[1] != 2:
        raise ConfigError(
            f"the angle regression needs a two-dimensional code, got shape {train_codes.shape}. Train with -o latent=2."
        )
    centre = train_codes.mean(0)
    phi, phi_test = _polar(train_codes - centre), _polar(test_codes - centre)
    resultants = {s: np.exp(1j * (train_angles - s * phi)).mean() for s in (1, -1)}
    orientation = max(resultants, key=lambda s: abs(resultants[s]))
    offset = float(np.angle(resultants[orientation]))

    u, u_test = wrap(orientation * phi + offset), wrap(orientation * phi_test + offset)
    y = u + wrap(train_angles - u)
    slope, intercept = np.polyfit(u, y, 1)
    errors = np.abs(wrap(slope * u_test + intercept - test_angles))

    features, test_features = (np.c_[np.ones_like(v), np.cos(v), np.sin(v)] for v in (u, u_test))
    targets = np.c_[np.cos(train_angles), np.sin(train_angles)]
    coefficients, *_ = np.linalg.lstsq(features, targets, rcond=None)
    cos, sin = (test_features @ coefficients).T
    cos_sin = np.abs(wrap(np.arctan2(sin, cos) - test_angles))

    turned = np.unwrap(phi[np.argsort(train_angles)])
    winding = float(turned[-1] - turned[0]) / (2 * math.pi)
    return AngleFit(float(errors.mean()), float(errors.max()), float(cos_sin.mean()), winding)


def _polar(codes: np.ndarray) -> np.ndarray:
    return np.arctan2(codes[:, 1], codes[:, 0])
