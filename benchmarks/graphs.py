"""Shortest paths in graphs of 100,000 nodes: seconds and memory of one faithful path and of 1,000 pairs.

    python -m benchmarks.graphs                # five minutes

Everything on one thread, by CPU time, each row in a process of its own, whose memory is its peak above that before the first
call. Nodes are draws from N(0, I) of several widths (k-d trees search up to 15 dimensions, matrix products more), or of two
such clouds 1,000 apart, where every pair across is found to be unconnected after k has grown from 10 to 50. `astar_s` is
networkx' A* for one of the pairs, its graph already built; `dijkstra_s` is the share of one pair in `shortest_paths`.
benchmarks/results/graphs.json has the numbers.
"""

import argparse
import multiprocessing
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import scipy
import sklearn

from benchmarks.common import RESULTS, peak_mib, save, timed
from benchmarks.measures import Measure, against, interleaved
from pyro_hvae.errors import DataError
from pyro_hvae.inference.neighbour_graph import neighbour_graph, shortest_path, shortest_paths, sparse_graph
from pyro_hvae.reports import format_table

CLOUDS = {"2 dimensions": (2, 0), "8 dimensions": (8, 0), "32 dimensions": (32, 0), "2 clouds of 2 dimensions": (2, 1000)}


def many(name: str, count: int, pairs: int) -> dict[str, Any]:
    """Seconds for the graph alone, for all pairs, and for a pair without the graph."""
    nodes, chosen = drawn(name, count, pairs)
    before = peak_mib()
    graph_s, _ = timed(lambda: sparse_graph(nodes, 10))
    all_s, found = timed(lambda: shortest_paths(nodes, chosen))
    connected = [path for path in found if path]
    row = {"graph_s": graph_s, "all_pairs_s": all_s, "memory_mib": peak_mib() - before, "connected": len(connected)}
    if connected:
        row["dijkstra_s"] = (all_s - graph_s) / pairs
        row["mean_nodes"] = float(np.mean([len(path.indices) for path in connected]))
    return row


def single(name: str, count: int, pairs: int) -> dict[str, Any]:
    """Seconds of `shortest_path`, and of A* alone in the graph of networkx."""
    nodes, chosen = drawn(name, count, pairs)
    before = peak_mib()

    def path() -> None:
        try:
            shortest_path(nodes, *nodes[chosen[0]])
        except DataError:
            pass  # the two clouds

    seconds, _ = timed(path)
    row = {"single_s": seconds, "single_memory_mib": peak_mib() - before}
    if not CLOUDS[name][1]:
        graph = neighbour_graph(nodes, 10)

        def search() -> None:
            for source, target in chosen[:20].tolist():
                nx.astar_path(graph, source, target, lambda a, b: float(np.linalg.norm(nodes[a] - nodes[b])))

        row["astar_s"] = timed(search)[0] / 20
    return row


def measures(quick: bool) -> list[Measure]:
    """All pairs in one graph against networkx, which builds a graph and searches pair by pair."""
    count, pairs = (4_000, 20) if quick else (16_000, 50)
    nodes, chosen = drawn("2 dimensions", count, pairs)

    def search() -> list[float]:
        graph, far = neighbour_graph(nodes, 10), lambda a, b: float(np.linalg.norm(nodes[a] - nodes[b]))
        return [nx.astar_path_length(graph, source, target, far) for source, target in chosen.tolist()]

    if not np.allclose([path.length for path in shortest_paths(nodes, chosen) if path], search()):
        raise SystemExit("networkx finds other paths")
    taken = interleaved({"ours": lambda: shortest_paths(nodes, chosen), "networkx": search}, 2 if quick else 9, 0.0, warm=0)
    ratio, detail = against(taken, "networkx", "ours")
    return [Measure(f"{pairs} shortest paths, {count:,} nodes", ratio, "time of networkx / ours", detail=detail)]


def drawn(name: str, count: int, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and pairs; with two clouds each pair has an end in either."""
    width, apart = CLOUDS[name]
    rng = np.random.default_rng(0)
    nodes = rng.normal(size=(count, width))
    nodes[count // 2 :] += apart
    return nodes, np.stack([rng.integers(0, count // 2, pairs), rng.integers(count // 2, count, pairs)], 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--save", type=Path, default=RESULTS / "graphs.json")
    args = parser.parse_args()

    rows = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for name in CLOUDS:
            parts = [pool.apply(measure, (name, args.nodes, args.pairs)) for measure in (many, single)]
            rows.append({"nodes": name, **parts[0], **parts[1]})
    shown = ("nodes", "graph_s", "all_pairs_s", "memory_mib", "single_s", "single_memory_mib")
    print(format_table([{name: row[name] for name in shown} for row in rows]))
    versions = {"scipy": scipy.__version__, "scikit-learn": sklearn.__version__, "networkx": nx.__version__}
    save(args.save, {**versions, "count": args.nodes, "pairs": args.pairs, "measures": rows})


if __name__ == "__main__":
    main()
