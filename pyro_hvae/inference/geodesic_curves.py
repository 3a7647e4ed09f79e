"""Geodesics of a decoder: curves of codes that minimise the energy of what they decode to, many at once."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from pyro_hvae.inference.foreign_decoder import ForeignDecoder

MEMORY = 8  # past steps of L-BFGS
HALVINGS = 12  # of a step that does not lower the energy
ENOUGH = 1e-4  # of the decrease that the slope promises (Armijo)


class _Step(NamedTuple):
    """A past step of all curves: the change of the inner codes, that of the gradient, and one over their product, or 0."""

    moved: np.ndarray
    turned: np.ndarray
    weight: np.ndarray


def minimise_energy(decoder: ForeignDecoder, curves: np.ndarray, steps: int = 200, tolerance: float = 1e-5) -> np.ndarray:
    r"""Curves between the same ends with the least energy $E = T \sum_t |f(z_{t+1}) - f(z_t)|^2$ near the given ones.

    A minimum of the energy is a curve of constant speed that no near one undercuts in length (Do Carmo 1992, chapter 9; Shao et
    al. 2018, algorithm 1). The energy of a curve never rises. Every curve has a step size and an L-BFGS of its own, which
    starts from the inverse of the second difference: the inverse Hessian of a decoder that only scales and turns codes.

    Arguments:
        curves: codes $z_0 \dots z_T$, shape (m, T + 1, d).
        steps: the most steps. tolerance: a curve is done when a step lowers its energy by a smaller share.

    >>> decoder = ForeignDecoder(lambda z: 2 * z, np.zeros(1), lambda z: (2 * z, lambda v: 2 * v))
    >>> minimise_energy(decoder, np.array([[[0.0], [0.9], [1.0]]])).ravel().tolist()
    [0.0, 0.5, 1.0]
    """
    curves = np.array(curves, dtype=np.float64)
    inverse = _inverse_second_difference(curves.shape[1] - 2)
    energy, pull = _measure(decoder, curves)
    gradient, scale = pull(np.arange(len(curves))), _first_scale(curves, energy)
    active, history = np.arange(len(curves)), list[_Step]()  # what is below is of the active curves
    going = energy > 0
    for _ in range(steps):
        active, energy, gradient, scale = active[going], energy[going], gradient[going], scale[going]
        history = [_Step(*(part[going] for part in step)) for step in history]
        if not len(active):
            break
        direction = -_lbfgs(gradient, history, inverse, scale)
        rate, lower, after = _search(decoder, curves[active], energy, gradient, direction)
        moved, turned = rate[:, None, None] * direction, after - gradient
        curves[active, 1:-1] += moved
        going = energy - lower > tolerance * energy
        energy, gradient = lower, after
        product = _dot(moved, turned)
        convex = product > 0
        scale = np.divide(product, _dot(turned, _apply(inverse, turned)), out=scale, where=convex)
        weight = np.divide(1, product, out=np.zeros_like(product), where=convex)
        history = [*history[1 - MEMORY :], _Step(moved, turned, weight)]
    return curves


def _search(
    decoder: ForeignDecoder, curves: np.ndarray, energy: np.ndarray, gradient: np.ndarray, direction: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Halves every curve's step until its energy falls enough (Armijo): the share of the step, or 0, energy and gradient."""
    slope, rate = _dot(direction, gradient), np.zeros(len(curves))
    energy, gradient, trying = energy.copy(), gradient.copy(), np.arange(len(curves))
    for share in 0.5 ** np.arange(HALVINGS):
        trial = curves[trying]
        trial[:, 1:-1] += share * direction[trying]
        new, pull = _measure(decoder, trial)
        good = np.flatnonzero(new <= energy[trying] + ENOUGH * share * slope[trying])
        if len(good):
            kept = trying[good]
            rate[kept], energy[kept], gradient[kept] = share, new[good], pull(good)
        trying = np.delete(trying, good)
        if not len(trying):
            break
    return rate, energy, gradient


def _measure(decoder: ForeignDecoder, curves: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """The energies of curves (m,), and chosen curves -> their gradients with respect to the inner codes."""
    frames, pullback = decoder.linearise(curves.reshape(-1, curves.shape[-1]))
    with np.errstate(invalid="ignore", over="ignore"):  # a step that is too long is halved
        steps = np.diff(frames.reshape(*curves.shape[:2], -1), axis=1)
        energy = steps.shape[1] * np.square(steps).sum((1, 2), dtype=np.float64)

    def gradient(chosen: np.ndarray) -> np.ndarray:
        slope = np.zeros((*curves.shape[:2], frames.shape[1]), frames.dtype)
        slope[chosen, 1:-1] = -2 * steps.shape[1] * np.diff(steps[chosen], axis=1)
        return pullback(slope.reshape(frames.shape)).reshape(curves.shape)[chosen, 1:-1]

    return energy, gradient


def _first_scale(curves: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """The scale of the first step: exact for a decoder that scales codes; its factor is estimated along each curve."""
    count = curves.shape[1] - 1
    of_codes = count * np.square(np.diff(curves, axis=1)).sum((1, 2))
    return np.divide(of_codes, 2 * count * energy, out=np.zeros_like(energy), where=energy > 0)


def _inverse_second_difference(count: int) -> np.ndarray:
    """The inverse of the matrix with 2 on the diagonal and -1 beside it: min(i, j) (n + 1 - max(i, j)) / (n + 1)."""
    place = np.arange(1, count + 1)
    return np.minimum.outer(place, place) * (count + 1 - np.maximum.outer(place, place)) / (count + 1)


def _lbfgs(gradient: np.ndarray, past: Sequence[_Step], precondition: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The inverse Hessian times the gradient, for every curve (Nocedal and Wright 2006, algorithm 7.4)."""
    found, weights = gradient, list[Any]()
    for step in reversed(past):
        weights.append((step.weight * _dot(step.moved, found))[:, None, None])
        found = found - weights[-1] * step.turned
    found = scale[:, None, None] * _apply(precondition, found)
    for step in past:
        found = found + (weights.pop() - (step.weight * _dot(step.turned, found))[:, None, None]) * step.moved
    return found


def _dot(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.einsum("mtd,mtd->m", one, other)


def _apply(matrix: np.ndarray, curves: np.ndarray) -> np.ndarray:
    return np.einsum("st,mtd->msd", matrix, curves, optimize=True)
