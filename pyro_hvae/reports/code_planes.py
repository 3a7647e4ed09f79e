"""Planes through the codes of a run, on which a page draws them: two dimensions, or two principal components."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import networkx as nx
import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from pyro_hvae.inference import decode
from pyro_hvae.runs import OpenRun

MARGIN = 0.04  # of the range of the codes, on every side


@dataclass(frozen=True, eq=False)
class Plane:
    r"""A plane through the joint codes of some layers: place p stands for the code $\mathrm{mean} + p\,\mathrm{axes}$.

    Attributes:
        sites: the layers. mean: (d,). axes: (2, d), orthonormal; of one dimension the second is zero.
        names: of the axes. low, high: ends of the map (2,).
    """

    sites: tuple[str, ...]
    mean: np.ndarray
    axes: np.ndarray
    names: tuple[str, str]
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def fit(cls, codes: np.ndarray, sites: tuple[str, ...]) -> "Plane":
        """The plane of codes (n, d): they themselves for d of 1 or 2, else their first two principal components.

        >>> plane = Plane.fit(np.array([[0.0, 0.0, 1.0], [4.0, 0.0, 1.0], [0.0, 2.0, 1.0]]), ("z1",))
        >>> plane.names[0], bool(np.allclose(plane.codes(plane.places(np.ones((1, 3)))), 1))
        ('first principal component of z1 (86 % of the variance)', True)
        """
        width, name = codes.shape[1], ", ".join(sites)
        mean, axes = np.zeros(width), np.eye(2, width)
        names = (f"first dimension of {name}", f"second dimension of {name}") if width == 2 else (name, "")
        if width > 2 and len(codes) > 2:
            pca = PCA(2, random_state=0).fit(codes)
            mean, axes = np.asarray(pca.mean_), np.asarray(pca.components_)
            share = [f" ({s:.0%} of the variance)".replace("%", " %") if np.isfinite(s) else "" for s in _shares(pca)]
            names = (f"first principal component of {name}{share[0]}", f"second principal component{share[1]}")
        places = (codes - mean) @ axes.T
        low, high = places.min(0), places.max(0)
        reach = np.where(high > low, (0.5 + MARGIN) * (high - low), 1.0)
        return cls(sites, mean, axes, names, (low + high) / 2 - reach, (low + high) / 2 + reach)

    def places(self, codes: np.ndarray) -> np.ndarray:
        """Codes (n, d) -> places on the plane (n, 2)."""
        return (codes - self.mean) @ self.axes.T

    def codes(self, places: np.ndarray) -> np.ndarray:
        """Places (n, 2) -> codes (n, d)."""
        return self.mean + places @ self.axes

    def grid(self, cells: int) -> np.ndarray:
        """A grid of places from end to end, (cells * cells, 2), row by row from the lowest row up."""
        across, up = (np.linspace(*ends, cells) for ends in zip(self.low, self.high, strict=True))
        return np.stack(np.meshgrid(across, up), -1).reshape(-1, 2)


def _shares(pca: PCA) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):  # codes without variance have no shares of it
        return pca.explained_variance_ratio_


def held_layers(graph: nx.DiGraph, sites: Collection[str]) -> tuple[list[str], list[str]]:
    """The layers that a map of some layers holds, which are all that do not follow from them, and those that reach x past them.

    Arguments:
        graph: of the model's sites.

    >>> held_layers(nx.DiGraph([("z2", "z1"), ("z1", "x"), ("z2", "x")]), ["z1"])
    (['z2'], ['z2'])
    >>> held_layers(nx.DiGraph([("z2", "z1"), ("z1", "x")]), ["z2"])
    ([], [])
    """
    below = {"x", *sites}.union(*(nx.descendants(graph, site) for site in sites))
    held = [name for name in graph if name not in below]
    cut = graph.subgraph([name for name in graph if name not in sites])
    return held, [name for name in held if nx.has_path(cut, name, "x")]


def decode_places(
    run: OpenRun,
    plane: Plane,
    places: np.ndarray,
    reference: Mapping[str, Tensor],
    held: Collection[str],
    given: Mapping[str, Tensor],
) -> Tensor:
    """E[x | z] at places of a plane (n, 2); layers that follow from its own take their means.

    Arguments:
        reference: codes of a datum, site -> (1, *event), of which the `held` layers are taken. given: inputs, one row.
    """
    shapes = {site: reference[site].shape[1:] for site in plane.sites}
    values = torch.from_numpy(plane.codes(places)).float()
    parts = values.split([shape.numel() for shape in shapes.values()], 1)
    codes = {site: part.reshape(-1, *shape) for (site, shape), part in zip(shapes.items(), parts, strict=True)}
    codes |= {site: reference[site].cpu().expand(len(places), *reference[site].shape[1:]) for site in held}
    return torch.from_numpy(decode(run.model, codes, given=given))
