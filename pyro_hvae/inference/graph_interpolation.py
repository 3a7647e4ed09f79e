"""Graph-based interpolation: a path from one datum to another through samples of the learned prior."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.errors import ConfigError
from pyro_hvae.inference.neighbour_graph import LatentPath, resample_path, shortest_path
from pyro_hvae.inference.sampling import (
    ROWS,
    Fixed,
    expand_given,
    first_row,
    generate,
    latents,
    prior_latents,
    require_continuous,
)
from pyro_hvae.objectives import check_data, given_for, parents, take_data
from pyro_hvae.runtime import fixed_seed, in_evaluation_mode


@dataclass(frozen=True)
class Interpolation:
    """A path between two data, and the decoded data along it.

    Attributes:
        sites: the latents in whose joint space the path lies. path: the graph path.
        images: E[x | z] at the points of the path (t, *event).
        dense: E[x | z] at `dense_points`, equidistant points on the same polyline, which show every jump.
    """

    sites: tuple[str, ...]
    path: LatentPath
    images: Tensor
    dense_points: np.ndarray
    dense: Tensor


def join_sites(values: Mapping[str, Tensor], sites: Sequence[str]) -> np.ndarray:
    """The values of several sites side by side, shape (B, total features), float64."""
    return torch.cat([values[site].reshape(len(values[site]), -1) for site in sites], -1).double().cpu().numpy()


@in_evaluation_mode
def decode_points(
    model: Callable[..., Any], z: np.ndarray, sites: Sequence[str], like: Mapping[str, Tensor], given: Fixed = None
) -> Tensor:
    """E[x | z] at points that `join_sites` made: (B, total features) -> (B, *event).

    Arguments:
        like: site -> values with the shape and type that the model expects. given: inputs of the model, one row.
    """
    first, images = like[sites[0]], []
    for rows in torch.as_tensor(z, dtype=first.dtype, device=first.device).split(ROWS):
        columns = rows.split([like[s][0].numel() for s in sites], -1)
        fixed = {s: values.reshape(-1, *like[s].shape[1:]) for s, values in zip(sites, columns, strict=True)}
        images.append(generate(model, len(rows), fixed=fixed, given=given)["x"].cpu())
    return torch.cat(images)


@in_evaluation_mode
def interpolate(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    start: Tensor,
    end: Tensor,
    nodes: int = 1000,
    k: int = 10,
    dense: int = 200,
    seed: int = 0,
    *,
    given: Mapping[str, Any] | None = None,
    under: Fixed = None,
) -> Interpolation:
    """The shortest path from `start` to `end` through a k-NN graph of prior samples (Klushyn et al. 2019, sec. 2.3).

    The graph lies in the space of all latents that x depends on directly: z1 for a Markov hierarchy such as the VHP, all
    layers for a model with skip connections. Nodes are prior samples, end points posterior means (mu_theta in the paper's text
    is a misprint for mu_phi). The paper does not give k; ours is 10 and grows until the ends are connected.

    Arguments:
        start, end: data of shape (*event).
        nodes: number of prior samples. dense: number of equidistant points to decode as well. seed: of the samples.
        given: inputs beside the ends, one row for both, or two. under: inputs of prior and decoder, one row; default: those
            beside the ends, which then have to be equal.

    Raises:
        ConfigError: for ends with different inputs, and no `under`; for latents with discrete values, between which there is
            nothing.
        DataError: when the ends cannot be connected.
    """
    x = take_data([start, end], model, guide, given=expand_given(given, 2, model, guide), wait=True)
    check_data(x, model)
    beside = given_for(model, x) | expand_given(under, 2, model)
    if differ := [name for name, value in beside.items() if not torch.equal(value[0], value[1])]:
        raise ConfigError(
            f"the ends of the path have different values of '{differ[0]}', and the path is decoded under one. Say which: "
            f"under={{'{differ[0]}': value}}, of one row."
        )
    sites, beside = tuple(parents(model, x)), first_row(beside)
    require_continuous(model, sites, beside)
    with fixed_seed(seed):
        prior = prior_latents(model, nodes, given=beside)
    first, last = join_sites(latents(guide, x, mean=True), sites)
    path = shortest_path(join_sites(prior, sites), first, last, k)
    dense_points = resample_path(path.points, dense)
    images, dense_images = (decode_points(model, z, sites, prior, beside) for z in (path.points, dense_points))
    return Interpolation(sites, path, images, dense_points, dense_images)
