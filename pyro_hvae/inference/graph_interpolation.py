"""Graph-based interpolation: from one datum to another along the mass of the learned prior."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.inference.neighbour_graph import LatentPath, resample_path, shortest_path
from pyro_hvae.inference.sampling import ROWS, generate, latents, prior_latents
from pyro_hvae.objectives.site_dependencies import parents
from pyro_hvae.runtime.random_state import fixed_seed

__all__ = ["Interpolation", "join_sites", "decode_points", "interpolate"]


@dataclass(frozen=True)
class Interpolation:
    """A path between two data and what it decodes to.

    Attributes:
        sites: the latents whose joint space the path runs through. path: the graph path there.
        images: E[x | z] at the path's points (t, *event).
        dense: E[x | z] at `dense_points`, equidistant points on the same polyline, where no jump hides.
    """

    sites: tuple[str, ...]
    path: LatentPath
    images: Tensor
    dense_points: np.ndarray
    dense: Tensor


def join_sites(values: Mapping[str, Tensor], sites: Sequence[str]) -> np.ndarray:
    """The values of several sites side by side, shape (B, total features), float64."""
    return torch.cat([values[site].flatten(1) for site in sites], -1).double().cpu().numpy()


def decode_points(model: Callable[..., Any], z: np.ndarray, sites: Sequence[str], like: Mapping[str, Tensor]) -> Tensor:
    """The inverse of join_sites, and E[x | z] there: (B, total features) -> (B, *event).

    Arguments:
        like: site -> values of the shape and type that the model takes.
    """
    first = like[sites[0]]
    values = torch.as_tensor(z, dtype=first.dtype, device=first.device)
    images = []
    for piece in values.split(ROWS):
        parts = piece.split([like[s][0].numel() for s in sites], -1)
        fixed = {s: part.reshape(-1, *like[s].shape[1:]) for s, part in zip(sites, parts, strict=True)}
        images.append(generate(model, len(piece), fixed=fixed)["x"].cpu())
    return torch.cat(images)


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
    """The shortest path from `start` to `end` through a k-NN graph of prior samples (Klushyn et al. 2019, sec. 2.3).

    The graph lives in the space of all latents that x depends on directly: z1 for a Markov hierarchy such as the VHP, all
    layers for a model with skip connections. End points are posterior means (the paper's text says mu_theta, a misprint for
    mu_phi); nodes are samples from the whole prior, not means. The paper does not give k; ours is 10 and grows until the ends
    are connected.

    Arguments:
        start, end: data of shape (*event).
        nodes: prior samples. dense: number of equidistant points to decode besides the path's own. seed: of the samples.

    Raises:
        DataError: when the ends cannot be connected.
    """
    x = torch.stack([start, end])
    sites = tuple(parents(model, x))
    with fixed_seed(seed):
        prior = prior_latents(model, nodes)
    first, last = join_sites(latents(guide, x, mean=True), sites)
    path = shortest_path(join_sites(prior, sites), first, last, k)
    points = resample_path(path.points, dense)

    images, between = (decode_points(model, z, sites, prior) for z in (path.points, points))
    return Interpolation(sites, path, images, points, between)
