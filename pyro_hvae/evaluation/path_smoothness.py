"""Smoothness of decoded data along shortest paths through the prior (Klushyn et al. 2019, figure 7)."""

from typing import Any

import numpy as np
import torch

from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.inference import decode_points, join_sites, latents, prior_latents, resample_path, shortest_paths
from pyro_hvae.metrics import smoothness_factor
from pyro_hvae.objectives import parents
from pyro_hvae.runs import OpenRun, draw_given
from pyro_hvae.runtime import fixed_seed


def smoothness(
    run: OpenRun, graphs: int = 10, paths: int = 100, nodes: int = 1000, k: int = 10, points: int = 50, seed: int = 0
) -> dict[str, Any]:
    """Second differences of decoded data along graph interpolations between random test data, per feature (joint).

    Lower is smoother. `raw` is of the nodes of the paths, as in the paper, which are fewer where the graph is coarse;
    `resampled` is of `points` equidistant points on each path. Pairs that the prior does not connect, and paths of fewer than
    three points, which have no second difference, are left out and counted. Units are those of the training data. In a run
    with conditions, prior and decoder of each graph are under those of a random training datum, and a code under its datum's.

    Arguments:
        graphs: number of graphs with prior samples and random ends of their own. paths, nodes, k: of each graph.
    """
    for name, value, least in (("graphs", graphs, 1), ("paths", paths, 1), ("nodes", nodes, 2), ("points", points, 3)):
        if value < least:
            raise ConfigError(f"{name} must be at least {least}, got {value}.")
    split, part = (run.dataset.test, "test") if len(run.dataset.test) > 1 else (run.dataset.train, "train")
    raw, resampled, short, apart = [], [], 0, 0
    with fixed_seed(seed):
        sites = tuple(parents(run.model, split.x[:2].to(run.device)))
        for _ in range(graphs):
            ends = torch.stack([torch.randperm(len(split))[:2] for _ in range(paths)]).flatten()
            given = draw_given(run, 1)
            prior = prior_latents(run.model, nodes, given=given)
            codes = join_sites(latents(run.guide, split.x[ends].to(run.device), mean=True), sites)
            pairs = nodes + np.arange(2 * paths).reshape(-1, 2)
            found = shortest_paths(np.concatenate([join_sites(prior, sites), codes]), pairs, k)
            apart += sum(path is None for path in found)
            ways = [path.points for path in found if path is not None and len(path.points) > 2]
            short += sum(path is not None for path in found) - len(ways)
            if not ways:
                continue
            for factors, lines in ((raw, ways), (resampled, [resample_path(way, points) for way in ways])):
                frames = decode_points(run.model, np.concatenate(lines), sites, prior, given).flatten(1).double().numpy()
                parts = np.split(frames, np.cumsum([len(line) for line in lines])[:-1])
                factors += [smoothness_factor(part) for part in parts]
    if not raw:
        raise DataError(
            f"none of {graphs * paths} paths has three points: {apart} pairs are not connected through the prior, {short} "
            "are neighbours. Draw more nodes (-o nodes=5000), or train longer."
        )
    one, two = np.stack(raw), np.stack(resampled)
    return {
        "raw": one.mean().item(),
        "raw_std": one.mean(1).std().item(),
        "resampled": two.mean().item(),
        "resampled_std": two.mean(1).std().item(),
        "raw_by_feature": {"mean": one.mean(0).tolist(), "std": one.std(0).tolist()},
        "resampled_by_feature": {"mean": two.mean(0).tolist(), "std": two.std(0).tolist()},
        "measured": len(one),
        "not_connected": apart,
        "too_short": short,
        "sites": list(sites),
        "ends": f"random {part} data",
    }
