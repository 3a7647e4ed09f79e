"""A k-nearest-neighbour graph of latent points and its shortest paths (Klushyn et al. 2019, section 2.3)."""

from dataclasses import dataclass

import networkx as nx
import numpy as np
from sklearn.neighbors import NearestNeighbors

from pyro_hvae.errors import ConfigError, DataError

__all__ = ["LatentPath", "neighbour_graph", "shortest_path", "resample"]


@dataclass(frozen=True)
class LatentPath:
    """A path through latent space.

    Attributes:
        nodes: all graph nodes (n, d); the last two are the end points.
        edges: pairs of node indices (m, 2).
        points: the latent points along the path (t, d), end points included.
        neighbours: the k that connected the end points.
        length: sum of the Euclidean edge lengths.
    """

    nodes: np.ndarray
    edges: np.ndarray
    points: np.ndarray
    neighbours: int
    length: float


def neighbour_graph(nodes: np.ndarray, k: int) -> nx.Graph:
    """Undirected graph with an edge where i is among the k nearest of j or j among those of i; weight = distance."""
    if not 1 <= k < len(nodes):
        raise ConfigError(f"k must be at least 1 and below the {len(nodes)} nodes, got {k}.")
    distance, index = NearestNeighbors(n_neighbors=k + 1).fit(nodes).kneighbors(nodes)
    graph = nx.Graph()
    graph.add_nodes_from(range(len(nodes)))
    for i, (ds, js) in enumerate(zip(distance, index, strict=True)):
        # A point is normally its own first neighbour; with duplicates it may not be.
        graph.add_weighted_edges_from((i, int(j), float(d)) for d, j in zip(ds, js, strict=True) if j != i)
    return graph


def shortest_path(nodes: np.ndarray, start: np.ndarray, end: np.ndarray, k: int = 10, most: int = 50) -> LatentPath:
    """The A* path from `start` to `end` through the k-NN graph of `nodes` and the two.

    The Euclidean distance to the goal is an admissible heuristic for Euclidean edges, so the cost equals Dijkstra's.
    When the end points are not connected, k grows by one until they are (our choice; the paper does not say).

    Arguments:
        nodes: prior samples (n, d). start, end: (d,).
        k: neighbours of a node. most: where to give up growing k.

    Raises:
        DataError: when the end points are not connected even with `most` neighbours.

    >>> line = np.c_[np.linspace(0, 1, 11), np.zeros(11)]
    >>> round(shortest_path(line, line[0], line[-1], k=2).length, 6)
    1.0
    """
    points = np.concatenate([nodes, start[None], end[None]]).astype(np.float64)
    source, target = len(points) - 2, len(points) - 1

    def remaining(a: int, b: int) -> float:
        return float(np.linalg.norm(points[a] - points[b]))

    most = max(k, min(most, len(points) - 1))
    for neighbours in range(k, most + 1):
        graph = neighbour_graph(points, neighbours)
        if nx.has_path(graph, source, target):
            path = nx.astar_path(graph, source, target, heuristic=remaining, weight="weight")
            length = nx.path_weight(graph, path, "weight")
            return LatentPath(points, np.array(graph.edges), points[path], neighbours, float(length))
    raise DataError(
        f"the end points are not connected by {len(nodes)} prior samples with up to {most} neighbours: the prior has no mass "
        "between them. Draw more nodes (--nodes 5000), or train longer."
    )


def resample(points: np.ndarray, count: int) -> np.ndarray:
    """`count` equidistant points along the polyline, shape (count, d): jumps between far nodes cannot hide.

    >>> resample(np.array([[0.0], [1.0], [4.0]]), 5).ravel().tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0]
    """
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.linspace(0.0, arc[-1], count)
    return np.stack([np.interp(at, arc, column) for column in points.T], axis=1)
