"""The neighbour graph and its paths against known geometry."""

import networkx as nx
import numpy as np
import pytest

from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.graph import neighbour_graph, resample, shortest_path


def ring(n, radius=1.0, seed=0):
    t = np.random.default_rng(seed).uniform(0, 2 * np.pi, n)
    return radius * np.c_[np.cos(t), np.sin(t)]


def test_a_path_on_a_ring_goes_round_it():
    found = shortest_path(ring(1000), np.array([1.0, 0.0]), np.array([-1.0, 0.0]), k=10)
    assert np.allclose(np.linalg.norm(found.points, axis=1), 1.0)
    assert np.pi * 0.98 < found.length < np.pi * 1.02
    assert found.neighbours == 10
    assert np.allclose(found.points[[0, -1]], [[1, 0], [-1, 0]])


def test_a_star_costs_what_dijkstra_costs():
    nodes = np.random.default_rng(1).normal(size=(300, 3))
    found = shortest_path(nodes, nodes[0] + 0.01, nodes[1] - 0.01, k=6)
    graph = neighbour_graph(found.nodes, found.neighbours)
    assert found.length == pytest.approx(nx.dijkstra_path_length(graph, 300, 301), abs=1e-12)


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


def test_k_must_fit_the_nodes():
    with pytest.raises(ConfigError, match="k must be at least 1"):
        shortest_path(ring(20), np.zeros(2), np.ones(2), k=0)
    with pytest.raises(ConfigError, match="below the 22 nodes"):
        shortest_path(ring(20), np.zeros(2), np.ones(2), k=40)


def test_resampling_is_equidistant_and_keeps_the_ends():
    points = np.random.default_rng(4).normal(size=(9, 3))
    dense = resample(points, 100)
    assert np.allclose(dense[[0, -1]], points[[0, -1]])
    straight = resample(points[[0, 5]], 50)
    steps = np.linalg.norm(np.diff(straight, axis=0), axis=1)
    assert np.allclose(steps, steps[0])
