"""Shortest paths in graphs of 100,000 nodes: seconds and memory of one exact path and of 1,000 pairs.

    python -m benchmarks.shortest_paths        # five minutes

All on one thread, by CPU time. Each row is measured in a process of its own; its memory is the process's peak above that
before the first call. Nodes are draws from N(0, I) of several widths (k-d trees search up to 15 dimensions, matrix products
more), or of two such clouds 1,000 apart, where every pair across is found to be unconnected after k has grown from 10 to 50.
`astar_s` is networkx' A* for one of the pairs on a graph that is built already; `dijkstra_s` is the share of one pair in
`shortest_paths`. Writes benchmarks/results/graphs.json.
"""

import contextlib
import itertools
from typing import Any

import networkx as nx
import numpy as np
import scipy
import sklearn
import torch
from torch import nn

from benchmarks.result_files import parser, save
from benchmarks.timing import Measure, compare, cpu_time, in_own_process, interleaved, peak_mib
from pyro_hvae.errors import DataError
from pyro_hvae.inference import paths
from pyro_hvae.inference.neighbour_graph import shortest_path, shortest_paths, sparse_graph
from pyro_hvae.reports import format_table

CLOUDS = {"2 dimensions": (2, 0), "8 dimensions": (8, 0), "32 dimensions": (32, 0), "2 clouds of 2 dimensions": (2, 1000)}


def measure_all_pairs(cloud: str, count: int, pairs: int) -> dict[str, Any]:
    """Seconds for the graph alone, for all pairs, and for a pair without the graph."""
    nodes, ends = draw_nodes_and_pairs(cloud, count, pairs)
    before = peak_mib()
    graph_s, _ = cpu_time(lambda: sparse_graph(nodes, 10))
    all_s, paths = cpu_time(lambda: shortest_paths(nodes, ends))
    connected = [path for path in paths if path]
    row = {"graph_s": graph_s, "all_pairs_s": all_s, "memory_mib": peak_mib() - before, "connected": len(connected)}
    if connected:
        row["dijkstra_s"] = (all_s - graph_s) / pairs
        row["mean_nodes"] = float(np.mean([len(path.indices) for path in connected]))
    return row


def measure_one_path(cloud: str, count: int, pairs: int) -> dict[str, Any]:
    """Seconds of `shortest_path`, and of A* alone in the graph of networkx."""
    nodes, ends = draw_nodes_and_pairs(cloud, count, pairs)
    before = peak_mib()

    def path() -> None:
        with contextlib.suppress(DataError):  # the two clouds are not connected
            shortest_path(nodes, *nodes[ends[0]])

    row = {"single_s": cpu_time(path)[0], "single_memory_mib": peak_mib() - before}
    if not CLOUDS[cloud][1]:
        graph = neighbour_graph(nodes, 10)
        row["astar_s"] = cpu_time(lambda: search_by_networkx(nx.astar_path, graph, nodes, ends[:20]))[0] / 20
    return row


def neighbour_graph(nodes: np.ndarray, k: int) -> nx.Graph:
    """The graph in networkx."""
    stored, graph = sparse_graph(nodes, k).tocoo(), nx.Graph()
    once = stored.row < stored.col
    edges = stored.row[once].tolist(), stored.col[once].tolist(), stored.data[once].tolist()
    graph.add_weighted_edges_from(zip(*edges, strict=True))
    return graph


def search_by_networkx(search: Any, graph: nx.Graph, nodes: np.ndarray, ends: np.ndarray) -> list[Any]:
    """The result of a search of networkx for every pair."""
    return [search(graph, *pair, lambda a, b: float(np.linalg.norm(nodes[a] - nodes[b]))) for pair in ends.tolist()]


def measures(quick: bool) -> list[Measure]:
    """All pairs in one graph against networkx, which builds a graph and searches pair by pair; and `hv.paths`."""
    count, pairs = (4_000, 20) if quick else (16_000, 50)
    nodes, ends = draw_nodes_and_pairs("2 dimensions", count, pairs)

    def networkx() -> list[float]:
        return search_by_networkx(nx.astar_path_length, neighbour_graph(nodes, 10), nodes, ends)

    if not np.allclose([path.length for path in shortest_paths(nodes, ends) if path], networkx()):
        raise SystemExit("networkx finds other paths")
    times = interleaved({"ours": lambda: shortest_paths(nodes, ends), "networkx": networkx}, 2 if quick else 9, 0.0, warm=0)
    ratio = compare(f"{pairs} shortest paths, {count:,} nodes", times, "networkx", "ours", "time of networkx / ours")
    return [ratio, *measure_decoder_paths(2 if quick else 5)]


def measure_decoder_paths(rounds: int) -> list[Measure]:
    """CPU seconds of `hv.paths` for 1,000 pairs of 1,000 codes and a decoder to 256 values, without and with geodesics."""
    torch.manual_seed(0)
    layers = nn.Linear(2, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, 256), nn.Sigmoid()
    decoder, codes = nn.Sequential(*layers), torch.randn(1000, 2)
    pairs = np.random.default_rng(0).integers(0, 1000, (1000, 2))
    times = interleaved(
        {
            "graph paths and straight lines": lambda: paths(None, decoder, codes, pairs, geodesics=False),
            "and geodesics": lambda: paths(None, decoder, codes, pairs),
        },
        rounds,
        0.0,
        warm=0,
    )
    bars = (5.0, None)  # the bar is of the graph paths
    names = (f"1,000 pairs of hv.paths, 1,000 nodes: {side}" for side in times)
    return [
        Measure(name, float(np.median(seconds)), "CPU seconds", bar, detail={"rounds": rounds})
        for name, seconds, bar in zip(names, times.values(), bars, strict=True)
    ]


def draw_nodes_and_pairs(cloud: str, count: int, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes, and pairs of their indices; of two clouds, each pair has one end in each."""
    width, distance = CLOUDS[cloud]
    rng = np.random.default_rng(0)
    nodes = rng.normal(size=(count, width))
    nodes[count // 2 :] += distance
    return nodes, np.stack([rng.integers(0, count // 2, pairs), rng.integers(count // 2, count, pairs)], 1)


if __name__ == "__main__":
    flags = parser(__doc__, "graphs")
    flags.add_argument("--nodes", type=int, default=100_000)
    flags.add_argument("--pairs", type=int, default=1000)
    args = flags.parse_args()
    rows: list[dict[str, Any]] = [{"nodes": cloud} for cloud in CLOUDS]
    for row, measure in itertools.product(rows, (measure_all_pairs, measure_one_path)):
        row |= in_own_process(measure, row["nodes"], args.nodes, args.pairs)
    columns = ("nodes", "graph_s", "all_pairs_s", "memory_mib", "single_s", "single_memory_mib")
    print(format_table([{name: row[name] for name in columns} for row in rows]))
    versions = {"scipy": scipy.__version__, "scikit-learn": sklearn.__version__, "networkx": nx.__version__}
    save(args.save, {**versions, "count": args.nodes, "pairs": args.pairs, "measures": rows})
