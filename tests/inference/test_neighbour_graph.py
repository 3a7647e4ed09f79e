"""The neighbour graph and its paths against known geometry."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csgraph

from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.inference import neighbour_graph as graphs
from pyro_hvae.inference.neighbour_graph import resample_path, shortest_path, shortest_paths, sparse_graph


def ring(n, radius=1.0, seed=0):
    t = np.random.default_rng(seed).uniform(0, 2 * np.pi, n)
    return radius * np.c_[np.cos(t), np.sin(t)]


def neighbour_graph(nodes, k):
    """The graph in networkx; stored zeros are edges between duplicates."""
    stored, graph = sparse_graph(nodes, k).tocoo(), nx.Graph()
    graph.add_nodes_from(range(len(nodes)))
    graph.add_weighted_edges_from(zip(stored.row.tolist(), stored.col.tolist(), stored.data.tolist(), strict=True))
    return graph


def test_a_path_on_a_ring_goes_round_it():
    found = shortest_path(ring(1000), np.array([1.0, 0.0]), np.array([-1.0, 0.0]), k=10)
    assert np.allclose(np.linalg.norm(found.points, axis=1), 1.0)
    assert np.pi * 0.98 < found.length < np.pi * 1.02
    assert found.neighbours == 10
    assert np.allclose(found.points[[0, -1]], [[1, 0], [-1, 0]])


def test_a_path_costs_what_a_star_costs_and_lies_in_its_graph():
    nodes = np.random.default_rng(1).normal(size=(300, 3))
    found = shortest_path(nodes, nodes[0] + 0.01, nodes[1] - 0.01, k=6)
    graph = neighbour_graph(found.nodes, found.neighbours)
    exact = nx.astar_path_length(graph, 300, 301, lambda a, b: np.linalg.norm(found.nodes[a] - found.nodes[b]))
    assert found.length == pytest.approx(exact, abs=1e-12)
    assert found.indices[0] == 300 and found.indices[-1] == 301 and np.array_equal(found.nodes[found.indices], found.points)
    edges = {frozenset(edge) for edge in found.edges.tolist()}
    assert edges == {frozenset(edge) for edge in graph.edges}
    assert {frozenset(step) for step in zip(found.indices.tolist(), found.indices.tolist()[1:], strict=False)} <= edges


def test_edges_are_undirected_nearest_neighbours_of_either_end():
    nodes = np.random.default_rng(2).normal(size=(60, 2))
    graph = neighbour_graph(nodes, 4)
    distance = np.linalg.norm(nodes[:, None] - nodes[None], axis=-1)
    nearest = np.argsort(distance, axis=1)[:, 1:5]
    expected = {frozenset((i, int(j))) for i in range(60) for j in nearest[i]}
    assert {frozenset(edge) for edge in graph.edges} == expected
    assert all(graph.edges[a, b]["weight"] == pytest.approx(distance[a, b]) for a, b in graph.edges)


def test_a_disconnected_graph_raises_k_until_connected_or_gives_up():
    a, b = np.random.default_rng(3).normal(size=(2, 12, 2))
    nodes = np.concatenate([a, b + 100])
    found = shortest_path(nodes, a[0], b[0] + 100, k=2)
    assert found.neighbours > 10
    with pytest.raises(DataError, match="not connected by 24 prior samples with up to 5"):
        shortest_path(nodes, a[0], b[0] + 100, k=2, most=5)


@settings(max_examples=40, deadline=None)
@given(st.integers(12, 60), st.integers(1, 4), st.integers(1, 11), st.integers(0, 2**32 - 1))
def test_many_paths_cost_what_networkx_finds(count, width, k, seed):
    rng = np.random.default_rng(seed)
    nodes = rng.normal(size=(count, width))
    pairs = rng.integers(0, count, (8, 2))
    for (source, target), found in zip(pairs, shortest_paths(nodes, pairs, k, most=count - 1), strict=True):
        graph = neighbour_graph(nodes, found.neighbours)
        assert found.length == pytest.approx(nx.dijkstra_path_length(graph, source, target), abs=1e-9)
        assert found.neighbours == k or not nx.has_path(neighbour_graph(nodes, found.neighbours - 1), source, target)
        assert found.indices[0] == source and found.indices[-1] == target
        assert nx.path_weight(graph, found.indices.tolist(), "weight") == pytest.approx(found.length, abs=1e-9)
        assert np.array_equal(found.points, nodes[found.indices])


def test_one_path_and_many_agree():
    nodes = np.concatenate([ring(500), [[1.0, 0.0], [-1.0, 0.0]]])
    (found,) = shortest_paths(nodes, np.array([[500, 501]]))
    alone = shortest_path(nodes[:500], nodes[500], nodes[501])
    assert found.length == pytest.approx(alone.length, abs=1e-12) and np.array_equal(found.points, alone.points)
    assert np.pi * 0.98 < found.length < np.pi * 1.02


def test_the_sparse_graph_is_the_neighbour_graph():
    nodes = np.random.default_rng(5).normal(size=(80, 20))  # many dimensions: searched by matrix products
    sparse, graph = sparse_graph(nodes, 5), neighbour_graph(nodes, 5)
    dense = sparse.toarray()
    assert np.array_equal(dense, dense.T)
    assert sparse.nnz == 2 * graph.number_of_edges()
    for a, b in graph.edges:
        assert graph.edges[a, b]["weight"] == dense[a, b] == pytest.approx(np.linalg.norm(nodes[a] - nodes[b]), rel=1e-14)


def test_duplicates_stay_connected():
    """Each node's one neighbour is its duplicate, or one of two: without edges of length 0 there is no way at k = 1."""
    nodes = np.array([[0.0], [0.0], [1.0]])
    stored = sparse_graph(nodes, 1)
    assert stored.nnz == 4 and stored[0, 1] == 0 and csgraph.connected_components(stored)[0] == 1
    for found in shortest_paths(nodes, np.array([[2, 0], [2, 1], [0, 1]]), k=1):
        assert found.neighbours == 1 and found.length == np.ptp(found.points)
    assert shortest_path(nodes, nodes[0], nodes[2], k=1).length == 1.0
    many = np.repeat([[0.0], [1.0]], 20, axis=0)
    (found,) = shortest_paths(many, np.array([[3, 33]]), k=5)
    assert found.neighbours == 20 and found.length == 1.0
    assert all(a != b for a, b in neighbour_graph(many, 5).edges)


def test_only_pairs_that_are_not_connected_get_more_neighbours():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 12, 2))
    nodes = np.concatenate([a, b + 100])
    pairs = np.array([[0, 12], [0, 1], [23, 3], [13, 20], [5, 5]])
    across, within, back, other, still = shortest_paths(nodes, pairs, k=5)
    assert [p.neighbours for p in (within, other, still)] == [5, 5, 5]
    assert across.neighbours == back.neighbours == 12
    assert across.length == pytest.approx(nx.dijkstra_path_length(neighbour_graph(nodes, 12), 0, 12))
    assert still.length == 0 and still.indices.tolist() == [5]
    assert [p is None for p in shortest_paths(nodes, pairs, k=5, most=11)] == [True, False, True, False, False]


def test_searching_in_parts_changes_nothing(monkeypatch):
    nodes = np.random.default_rng(6).normal(size=(200, 3))
    pairs = np.random.default_rng(7).integers(0, 200, (40, 2))
    at_once = shortest_paths(nodes, pairs)
    calls, search = [], graphs.dijkstra
    monkeypatch.setattr(graphs, "dijkstra", lambda *a, **k: calls.append(len(k["indices"])) or search(*a, **k))
    monkeypatch.setattr(graphs, "_SEARCH_BYTES", 3 * 12 * 200)
    for one, other in zip(at_once, shortest_paths(nodes, pairs), strict=True):
        assert np.array_equal(one.indices, other.indices) and one.length == other.length
    assert max(calls) == 3 and sum(calls) == len(np.unique(pairs[:, 0]))


def test_bad_pairs_and_nodes():
    nodes = ring(20)
    assert shortest_paths(nodes, np.zeros((0, 2), dtype=int)) == []
    for pairs in (np.zeros((2, 3), dtype=int), np.zeros(2, dtype=int), np.zeros((1, 2))):
        with pytest.raises(ConfigError, match=r"shape \(m, 2\)"):
            shortest_paths(nodes, pairs)
    for pairs in ([[0, 20]], [[-1, 3]]):
        with pytest.raises(ConfigError, match="lie in 0..19"):
            shortest_paths(nodes, np.array(pairs))
    with pytest.raises(ConfigError, match="k must be at least 1"):
        shortest_paths(nodes, np.array([[0, 1]]), k=0)
    with pytest.raises(ConfigError, match="below the 20 nodes"):
        sparse_graph(nodes, 20)
    with pytest.raises(ConfigError, match="NaN or infinite"):
        shortest_paths(np.where(nodes == nodes[3], np.nan, nodes), np.array([[0, 1]]))
    with pytest.raises(ConfigError, match=r"shape \(n, d\)"):
        sparse_graph(nodes[:, 0], 3)


def test_k_must_fit_the_nodes():
    with pytest.raises(ConfigError, match="k must be at least 1"):
        shortest_path(ring(20), np.zeros(2), np.ones(2), k=0)
    with pytest.raises(ConfigError, match="below the 22 nodes"):
        shortest_path(ring(20), np.zeros(2), np.ones(2), k=40)


def test_resampling_is_equidistant_and_keeps_the_ends():
    points = np.random.default_rng(4).normal(size=(9, 3))
    dense = resample_path(points, 100)
    assert np.allclose(dense[[0, -1]], points[[0, -1]])
    straight = resample_path(points[[0, 5]], 50)
    steps = np.linalg.norm(np.diff(straight, axis=0), axis=1)
    assert np.allclose(steps, steps[0])


def test_indices_are_those_that_old_releases_of_scipy_take():
    graph = sparse_graph(ring(20), 3)
    assert graph.indices.dtype == graph.indptr.dtype == np.int32
