"""Posteriors and posterior means of a run's data, for metrics of codes."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pyro_hvae import inference
from pyro_hvae.data import Dataset, Rows, Split, class_numbers, factor_values, is_identifier, list_splits
from pyro_hvae.errors import ConfigError
from pyro_hvae.inference import posteriors
from pyro_hvae.metrics import Posteriors
from pyro_hvae.runs import OpenRun
from pyro_hvae.runtime import fixed_seed


@dataclass(frozen=True)
class EncodedData:
    """Posteriors of data whose factors are known.

    Attributes:
        layers: site -> q(z_l | x), in the guide's order. factors: those of classes, name -> (N,), integers.
        excluded: the names of the others, and why they are no factors of classes. protocol: which data these are.
        population: whether these data are all there are, a full grid, and no sample of more.
    """

    layers: dict[str, Posteriors]
    factors: dict[str, Tensor]
    excluded: dict[str, str]
    protocol: dict[str, Any]
    population: bool

    @property
    def names(self) -> list[str]:
        """Names of all dimensions of all layers: z1[0], z1[1], ..."""
        return [f"{site}[{j}]" for site, q in self.layers.items() for j in range(q.means.shape[2])]


def encode_data(run: OpenRun, points: int, draws: int, seed: int) -> EncodedData:
    """Encodes a random selection of the grid of a factorial data set, or else of the training data.

    Where the training data have no factors but other data have, it is a selection of those.

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
    data = run.dataset
    splits = {f"{part} data": split for part, split in list_splits(data).items()}
    of = next((part for part, split in splits.items() if split.factors), "training data")
    name, whole = ("data of the grid", data.grid) if data.grid else (of, splits[of])
    chosen = torch.randperm(len(whole.x), generator=torch.Generator().manual_seed(seed))[:points]
    encoded = whole.take(chosen)
    layers = posteriors(run.guide, encoded.x.to(run.device), draws, seed)
    protocol = {
        "points": len(chosen),
        "of": f"the {len(whole.x)} {name}",
        "mixtures": {site: q.size for site, q in layers.items() if q.size > 1},
    }
    factors, excluded = dict[str, Tensor](), dict[str, str]()
    for factor, values in encoded.factors.items():
        if (numbers := class_numbers(data, factor, values)) is None:
            excluded[factor] = "continuous"
            continue
        factors[factor] = numbers
        if is_identifier(data, factor):
            excluded[factor] = f"an identifier: {len(factor_values(data, factor).unique())} values"
    population = data.grid is not None and len(chosen) == len(whole.x)
    return EncodedData(layers, factors, excluded, protocol, population)


def list_factors(data: Dataset) -> dict[str, Tensor]:
    """The factors that any split has, with their values in it."""
    return {name: values for split in reversed(list_splits(data).values()) for name, values in split.factors.items()}


def require_classes(data: Dataset, factor: str) -> None:
    """Raises `ConfigError` where a data set has no factor of this name, or a continuous one; it names those of few values."""
    factors = list_factors(data)
    if factor in factors and class_numbers(data, factor, factors[factor]) is not None:
        return
    classes = [name for name, values in factors.items() if class_numbers(data, name, values) is not None]
    known = [name for name in classes if not is_identifier(data, name)]
    raise ConfigError(
        f"'{data.name}' has no classes called '{factor}'; its factors of few values: {', '.join(known) or 'none'}. "
        + ("Choose one: -o factor=NAME." if known else "Put labels beside the data, one for each datum.")
    )


def probe_parts(data: Dataset, names: Sequence[str]) -> tuple[Split, Split, str]:
    """Data to fit a probe of factors on, others to judge it on, and which these are.

    They are the training and the test data; where the test data lack a factor, the validation data; and where one split alone
    has all of them, a fifth of it is held out from the probe.

    Raises:
        ConfigError: where no split has all factors, or too few data.
    """
    having = {part: split for part, split in list_splits(data).items() if all(name in split.factors for name in names)}
    if not having:
        raise ConfigError(f"no split of '{data.name}' has the factor{'s' * (len(names) > 1)} {', '.join(names)}.")
    for part in ("test", "validation"):
        if "training" in having and part in having:
            return having["training"], having[part], f"{part} data"
    part = "training" if "training" in having else "test" if "test" in having else "validation"
    split = having[part]
    held = len(split) // 5
    if held < 2:
        raise ConfigError(
            f"{len(split)} {part} data with {', '.join(names)} are too few to fit and judge a probe: it needs ten."
        )
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    only = f"{part} data held out from the probe, for no other data have {', '.join(names)}"
    return split.take(order[held:]), split.take(order[:held]), only


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
