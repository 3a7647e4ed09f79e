"""Probes of a run's posterior means: regression of position and size, linear classification."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from pyro_hvae.errors import ConfigError
from pyro_hvae.evaluation.encoded_data import posterior_means, random_subset
from pyro_hvae.metrics import LinearProbe, constant_probe, linear_probe, regression_probe
from pyro_hvae.runs import OpenRun
from pyro_hvae.runtime import fixed_seed

# name of a target -> names of its factors; each data set with the target has one of these tuples
PROBED_FACTORS = {"position": [("x", "y"), ("posX", "posY")], "size": [("scale",)]}


def _group_targets(factors: Mapping[str, Any], name: str) -> dict[str, list[str]]:
    """Target -> names of its factors, for each target that the data set `name` has."""
    pairs = [(group, columns) for group, choices in PROBED_FACTORS.items() for columns in choices]
    groups = {group: list(columns) for group, columns in pairs if all(c in factors for c in columns)}
    if not groups:
        raise ConfigError(
            f"the metric 'regression' needs factors of position or size, as triangles and sprites have them; '{name}' has "
            f"{', '.join(factors) or 'none'}."
        )
    return groups


def regression(
    run: OpenRun, train: int = 10_000, test: int = 10_000, hidden: int = 64, epochs: int = 200, seed: int = 0
) -> dict[str, Any]:
    """Position and size read off the posterior means by a network of one hidden layer (Sahoo et al. 2020, figure 11).

    The code is all layers side by side. The probe is fitted on `train` training data; errors are over `test` test data, in the
    units of the labels. Any code should beat the controls: the mean colour of the image, and a constant. The paper does not
    give its network; ours is that of `regression_probe`.
    """
    data = run.dataset
    groups = _group_targets(data.train.factors, data.name)
    columns = [name for group in groups.values() for name in group]
    splits = [random_subset(data.train, train, seed), random_subset(data.test, test, seed)]
    truth = [np.stack([s.factors[name].double().numpy() for name in columns], 1) for s in splits]
    codes = {"code": [np.concatenate(list(posterior_means(run, split.x, seed).values()), 1) for split in splits]}
    if len(data.shape) == 3:
        with fixed_seed(seed):
            codes["mean_colour"] = [split.x[:].flatten(2).mean(2).double().numpy() for split in splits]
    errors = {
        name: asdict(regression_probe(train_codes, truth[0], test_codes, truth[1], columns, hidden, epochs, seed, groups))
        for name, (train_codes, test_codes) in codes.items()
    }
    return {
        **errors.pop("code"),
        "controls": errors | {"constant": asdict(constant_probe(truth[0], truth[1], columns, groups))},
        "n_train": len(splits[0]),
        "n_test": len(splits[1]),
    }


def classes(run: OpenRun, factor: str = "class", train: int = 10_000, test: int = 10_000, seed: int = 0) -> dict[str, Any]:
    """Accuracy of a linear classifier of one factor on posterior means, all layers side by side and each alone."""
    data = run.dataset
    if factor not in data.train.factors or data.train.factors[factor].is_floating_point():
        known = [name for name, values in data.train.factors.items() if not values.is_floating_point()]
        raise ConfigError(
            f"'{data.name}' has no classes called '{factor}'; its integer factors: {', '.join(known) or 'none'}. "
            "Choose one: -o factor=NAME."
        )
    splits = [random_subset(data.train, train, seed), random_subset(data.test, test, seed)]
    labels = [split.factors[factor].numpy() for split in splits]
    train_codes, test_codes = (posterior_means(run, split.x, seed) for split in splits)

    def probe(sites: Iterable[str]) -> LinearProbe:
        one, other = (np.concatenate([codes[site] for site in sites], 1) for codes in (train_codes, test_codes))
        return linear_probe(one, labels[0], other, labels[1])

    return {
        **asdict(probe(train_codes)),
        "factor": factor,
        "layers": {site: probe([site]).accuracy for site in train_codes} if len(train_codes) > 1 else {},
        "n_train": len(splits[0]),
        "n_test": len(splits[1]),
    }
