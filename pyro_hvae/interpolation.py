"""Graph-based interpolation: from one datum to another along the mass of the learned prior."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.devices import seeded
from pyro_hvae.graph import LatentPath, resample, shortest_path
from pyro_hvae.inference import generate, latents

__all__ = ["Interpolation", "interpolate"]


@dataclass(frozen=True)
class Interpolation:
    """A path between two data and what it decodes to.

    Attributes:
        path: the graph path in z1. images: E[x | z] at its points (t, *event).
        dense: E[x | z] at `dense_points`, equidistant points on the same polyline, where no jump hides.
    """

    path: LatentPath
    images: Tensor
    dense_points: np.ndarray
    dense: Tensor


def interpolate(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    start: Tensor,
    end: Tensor,
    nodes: int = 1000,
    k: int = 10,
    dense: int = 200,
    seed: int = 0,
) -> Interpolation:
    """The shortest path from `start` to `end` through a k-NN graph of prior samples of z1 (Klushyn et al. 2019, sec. 2.3).

    End points are posterior means (the paper's text says mu_theta, a misprint for mu_phi); nodes are samples of z1 from
    the whole prior, not means. The paper does not give k; ours is 10 and grows until the ends are connected.

    Arguments:
        start, end: data of shape (*event).
        nodes: prior samples. dense: number of equidistant points to decode besides the path's own. seed: of the samples.

    Raises:
        DataError: when the ends cannot be connected.
    """
    ends = latents(guide, torch.stack([start, end]), mean=True)["z1"]
    with seeded(seed):
        prior = generate(model, nodes)["z1"]
    shape = prior.shape[1:]
    flat = prior.flatten(1).double().cpu().numpy()
    first, last = ends.flatten(1).double().cpu().numpy()
    path = shortest_path(flat, first, last, k)
    points = resample(path.points, dense)

    def decode(z: np.ndarray) -> Tensor:
        value = torch.as_tensor(z, dtype=prior.dtype, device=prior.device).reshape(-1, *shape)
        return generate(model, len(z), fixed={"z1": value})["x"].cpu()

    return Interpolation(path, decode(path.points), points, decode(points))
