"""Posteriors and posterior means of a run's data, for metrics of codes."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pyro_hvae import inference
from pyro_hvae.data import Rows, Split
from pyro_hvae.errors import ConfigError
from pyro_hvae.inference import posteriors
from pyro_hvae.metrics import Posteriors
from pyro_hvae.runs import OpenRun
from pyro_hvae.runtime import fixed_seed


@dataclass(frozen=True)
class EncodedData:
    """Posteriors of data whose factors are known.

    Attributes:
        layers: site -> q(z_l | x), in the guide's order. factors: integer-valued ones, name -> (N,).
        continuous: the names of the others. protocol: which data these are, for the result.
        population: whether these data are all there are, a full grid, and no sample of more.
    """

    layers: dict[str, Posteriors]
    factors: dict[str, Tensor]
    continuous: list[str]
    protocol: dict[str, Any]
    population: bool

    @property
    def names(self) -> list[str]:
        """Names of all dimensions of all layers: z1[0], z1[1], ..."""
        return [f"{site}[{j}]" for site, q in self.layers.items() for j in range(q.means.shape[2])]


def encode_data(run: OpenRun, points: int, draws: int, seed: int) -> EncodedData:
    """Encodes a random selection of the grid of a factorial data set, or else of the training data.

    Raises:
        ConfigError: for fewer than two points; as `posteriors`.
    """
    return _encode_data(run, hash_parameters(run.objective), points, draws, seed)


def hash_parameters(module: nn.Module) -> str:
    """SHA-256 of all parameters and buffers."""
    total = hashlib.sha256()
    for value in module.state_dict().values():
        total.update(value.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


@lru_cache(maxsize=1)  # several metrics of one run use the same codes, until its weights change
def _encode_data(run: OpenRun, weights: str, points: int, draws: int, seed: int) -> EncodedData:
    if points < 2:
        raise ConfigError(f"points={points}: a metric of codes needs at least two data. Example: -o points=50000.")
    grid, train = run.dataset.grid, run.dataset.train
    rows = train.x if grid is None else grid.x
    chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:points]
    encoded = (train if grid is None else grid).take(chosen)
    layers = posteriors(run.guide, encoded.x.to(run.device), draws, seed)
    protocol = {
        "points": len(chosen),
        "of": f"the {len(rows)} {'training data' if grid is None else 'data of the grid'}",
        "mixtures": {site: q.size for site, q in layers.items() if q.size > 1},
    }
    whole = {k: v for k, v in encoded.factors.items() if not v.is_floating_point()}
    population = grid is not None and len(chosen) == len(rows)
    return EncodedData(layers, whole, sorted(set(encoded.factors) - set(whole)), protocol, population)


def random_subset(split: Split, count: int, seed: int = 0) -> Split:
    """`count` random data of a split, or all where there are no more; raises `ConfigError` for fewer than two."""
    if count < 2:
        raise ConfigError(f"{count} data are too few to fit or test a probe: train and test need at least two each.")
    if len(split) <= count:
        return split
    chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:count]
    return split.take(chosen)


def posterior_means(run: OpenRun, x: Tensor | Rows, seed: int = 0) -> dict[str, np.ndarray]:
    """Site -> posterior means, shape (n, d), float64; `seed` is that of data binarised anew whenever they are read."""
    with fixed_seed(seed):
        values = inference.latents(run.guide, x.to(run.device), mean=True)
    return {site: value.flatten(1).cpu().double().numpy() for site, value in values.items()}
