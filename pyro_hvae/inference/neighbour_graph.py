"""k-nearest-neighbour graph of latent points and its shortest paths (Klushyn et al. 2019, section 2.3).

Graphs are sparse arrays (CSR), which are fast for 100,000 nodes. Dijkstra's algorithm finds the paths, of one pair or many;
they are as long as those of the paper's A*.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, dijkstra
from sklearn.neighbors import NearestNeighbors

from pyro_hvae.errors import ConfigError, DataError

# csgraph takes no 64-bit indices before scipy 1.15; in 1.11.1 connected_components returns wrong labels without an error.
INDEX = np.int32

# For each source of one call, Dijkstra's algorithm stores a distance (8 bytes) and a predecessor (4) of every node.
_SEARCH_BYTES = 2**26


@dataclass(frozen=True)
class GraphPath:
    """A path through a graph.

    Attributes:
        indices: the nodes along the path (t,) with both end points. points: the coordinates of the nodes (t, d).
        neighbours: the k that connected the end points. length: sum of the Euclidean edge lengths.
    """

    indices: np.ndarray
    points: np.ndarray
    neighbours: int
    length: float


@dataclass(frozen=True)
class LatentPath(GraphPath):
    """A path with its graph.

    Attributes:
        nodes: all graph nodes (n, d); the last two are the end points. edges: pairs of node indices (m, 2).
    """

    nodes: np.ndarray
    edges: np.ndarray


def sparse_graph(nodes: np.ndarray, k: int) -> csr_array:
    """Symmetric (n, n) matrix of distances, stored where i is among the k nearest of j or j among those of i.

    Duplicates are joined by stored zeros, which `scipy.sparse.csgraph` reads as edges of length 0; arithmetic on the matrix
    can drop them. Distances are computed from the points, because those of the search lose digits in a matrix product.

    Raises:
        ConfigError: when k does not fit the nodes, or they are not finite.

    >>> sparse_graph(np.array([[0.0], [1.0], [3.0]]), 1).toarray().tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 2.0], [0.0, 2.0, 0.0]]
    """
    nodes = np.asarray(nodes, dtype=np.float64)
    return _symmetric(len(nodes), *_edges(nodes, _nearest(nodes, k)))


def shortest_path(nodes: np.ndarray, start: np.ndarray, end: np.ndarray, k: int = 10, most: int = 50) -> LatentPath:
    """The shortest path from `start` to `end` through the k-NN graph of `nodes`, `start` and `end`.

    While the end points are not connected, k grows by one (our choice; the paper does not say).

    Arguments:
        nodes: prior samples (n, d). start, end: (d,).
        k: neighbours of a node. most: the largest k to try.

    Raises:
        DataError: when the end points are not connected even with `most` neighbours.

    >>> line = np.c_[np.linspace(0, 1, 11), np.zeros(11)]
    >>> round(shortest_path(line, line[0], line[-1], k=2).length, 6)
    1.0
    """
    points = np.concatenate([nodes, start[None], end[None]]).astype(np.float64)
    (path,) = shortest_paths(points, np.array([[len(points) - 2, len(points) - 1]]), k, most)
    if path is None:
        raise DataError(
            f"the end points are not connected by {len(nodes)} prior samples with up to {_largest(k, most, points)} "
            "neighbours: the prior has no mass between them. Draw more nodes (nodes=5000), or train longer."
        )
    one, other, _ = _edges(points, _nearest(points, path.neighbours))
    return LatentPath(path.indices, path.points, path.neighbours, path.length, points, np.stack([one, other], 1))


def shortest_paths(nodes: np.ndarray, pairs: np.ndarray, k: int = 10, most: int = 50) -> list[GraphPath | None]:
    """The shortest path of every pair of nodes through one k-NN graph; None for a pair that `most` neighbours do not connect.

    Pairs that k neighbours do not connect are tried again with k + 1, and so on; the others keep their path. All end points
    belong to `nodes`, so a path can lead through those of another pair; the paper (figure 7) does not say more. Memory is below
    200 bytes for each of the n k neighbours plus 64 MiB, for any number of pairs.

    Arguments:
        nodes: (n, d), prior samples and end points. pairs: node indices (source, target), shape (m, 2).
        k: neighbours of a node. most: the largest k to try.

    Raises:
        ConfigError: for indices outside the nodes, or as `sparse_graph`.

    >>> line = np.array([[0.0], [1.0], [3.0], [4.0]])
    >>> [path.length for path in shortest_paths(line, np.array([[0, 3], [2, 1]]), k=2)]
    [4.0, 2.0]
    """
    nodes, pairs = np.asarray(nodes, dtype=np.float64), np.asarray(pairs)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise ConfigError(f"pairs must be node indices of shape (m, 2), got shape {pairs.shape} of {pairs.dtype}.")
    if pairs.size and not (0 <= pairs.min() and pairs.max() < len(nodes)):
        raise ConfigError(f"pairs must lie in 0..{len(nodes) - 1}, got {pairs.min()}..{pairs.max()}: they index the nodes.")
    paths: list[GraphPath | None] = [None] * len(pairs)
    waiting = np.arange(len(pairs))
    for nearest, component in _grow_neighbours(nodes, k, _largest(k, most, nodes)):
        connected = component[pairs[waiting, 0]] == component[pairs[waiting, 1]]
        if connected.any():
            for index, path in _dijkstra_paths(nodes, nearest, pairs[waiting[connected]]):
                paths[waiting[connected][index]] = path
        waiting = waiting[~connected]
        if not len(waiting):
            break
    return paths


def resample_path(points: np.ndarray, count: int) -> np.ndarray:
    """`count` equidistant points along a polyline, shape (count, d), which show jumps between distant nodes.

    >>> resample_path(np.array([[0.0], [1.0], [4.0]]), 5).ravel().tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0]
    """
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    positions = np.linspace(0.0, arc[-1], count)
    return np.stack([np.interp(positions, arc, column) for column in points.T], axis=1)


def _nearest(nodes: np.ndarray, k: int) -> np.ndarray:
    """The k nearest other nodes of every node, nearest first, shape (n, k); a duplicate counts as another node."""
    if nodes.ndim != 2:
        raise ConfigError(f"the nodes of a graph are points of shape (n, d), got shape {nodes.shape}.")
    if not 1 <= k < len(nodes):
        raise ConfigError(f"k must be at least 1 and below the {len(nodes)} nodes, got {k}.")
    if not np.isfinite(nodes).all():
        raise ConfigError("a node of the graph has a NaN or infinite coordinate: check the model's latents first.")
    return NearestNeighbors(n_neighbors=k).fit(nodes).kneighbors(return_distance=False)


def _largest(k: int, most: int, nodes: np.ndarray) -> int:
    """The largest number of neighbours to try."""
    return max(k, min(most, len(nodes) - 1))


def _grow_neighbours(nodes: np.ndarray, k: int, most: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the nearest k, k + 1, ... `most` nodes of every node, and the connected component of every node."""
    nearest, count = _nearest(nodes, k), len(nodes)
    for neighbours in range(k, most + 1):
        if neighbours == k + 1:
            nearest = _nearest(nodes, most)  # one search for all larger k
        some = nearest[:, :neighbours]
        ends = some.astype(INDEX).ravel(), np.arange(count + 1, dtype=INDEX) * neighbours
        links = csr_array((np.ones(some.size), *ends), shape=(count, count))
        yield some, connected_components(links, connection="weak")[1]


def _edges(nodes: np.ndarray, nearest: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every undirected edge once: its two nodes and its length, each of shape (m,)."""
    count, k = nearest.shape
    source, target = np.repeat(np.arange(count), k), nearest.ravel()
    one, other = np.divmod(np.unique(np.minimum(source, target) * count + np.maximum(source, target)), count)
    # Column by column, because differences of whole points take d times the memory.
    return one, other, np.sqrt(sum((column[one] - column[other]) ** 2 for column in nodes.T))


def _symmetric(count: int, one: np.ndarray, other: np.ndarray, weight: np.ndarray) -> csr_array:
    one, other = one.astype(INDEX), other.astype(INDEX)
    ends = np.concatenate([one, other]), np.concatenate([other, one])
    return csr_array((np.concatenate([weight, weight]), ends), shape=(count, count))


def _dijkstra_paths(nodes: np.ndarray, nearest: np.ndarray, pairs: np.ndarray) -> Iterator[tuple[int, GraphPath]]:
    """Yields the index and the path of every (connected) pair, by one search for each different source."""
    graph = _symmetric(len(nodes), *_edges(nodes, nearest))
    sources, row = np.unique(pairs[:, 0], return_inverse=True)
    at_once = max(1, _SEARCH_BYTES // (12 * len(nodes)))
    for first in range(0, len(sources), at_once):
        length, predecessor = dijkstra(graph, indices=sources[first : first + at_once], return_predecessors=True)
        for index in np.flatnonzero((first <= row) & (row < first + at_once)).tolist():
            search, (source, target) = row[index] - first, pairs[index]
            backwards = [target]
            while backwards[-1] != source:
                backwards.append(predecessor[search, backwards[-1]])
            path = np.array(backwards[::-1])
            yield index, GraphPath(path, nodes[path], nearest.shape[1], float(length[search, target]))
