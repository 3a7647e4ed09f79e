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


def _targets(factors: Mapping[str, Any], name: str) -> dict[str, list[str]]:
    found = {
        group: list(columns)
        for group, choices in PROBED_FACTORS.items()
        for columns in choices
        if all(c in factors for c in columns)
    }
    if not found:
        raise ConfigError(
            f"the metric 'regression' needs factors of position or size, as triangles and sprites have them; '{name}' has "
            f"{', '.join(factors) or 'none'}."
        )
    return found


def regression(
    run: OpenRun, train: int = 10_000, test: int = 10_000, hidden: int = 64, epochs: int = 200, seed: int = 0
) -> dict[str, Any]:
    """Position and size read off the posterior means by a network of one hidden layer (Sahoo et al. 2020, figure 11).

    All layers side by side; fitted on `train` training data, judged on `test` test data, errors in the units of the labels.
    Controls that any code should beat: the mean colour of the image, and a constant. The paper does not give its network; ours
    is that of `regression_probe`.
    """
    data = run.dataset
    groups = _targets(data.train.factors, data.name)
    columns = [name for group in groups.values() for name in group]
    splits = [random_subset(data.train, train, seed), random_subset(data.test, test, seed)]
    truth = [np.stack([s.factors[name].double().numpy() for name in columns], 1) for s in splits]
    read: dict[str, Any] = {}
    codes = {"code": [np.concatenate(list(posterior_means(run, split.x, seed).values()), 1) for split in splits]}
    if len(data.shape) == 3:
        with fixed_seed(seed):
            codes["mean_colour"] = [split.x[:].flatten(2).mean(2).double().numpy() for split in splits]
    for name, (seen, fresh) in codes.items():
        read[name] = asdict(regression_probe(seen, truth[0], fresh, truth[1], columns, hidden, epochs, seed, groups))
    read["constant"] = asdict(constant_probe(truth[0], truth[1], columns, groups))
    return {
        "rmse": read["code"]["rmse"],
        "mae": read["code"]["mae"],
        "controls": {name: errors for name, errors in read.items() if name != "code"},
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

    seen, fresh = (posterior_means(run, split.x, seed) for split in splits)

    def probe(sites: Iterable[str]) -> LinearProbe:
        one, other = (np.concatenate([codes[site] for site in sites], 1) for codes in (seen, fresh))
        return linear_probe(one, labels[0], other, labels[1])

    return {
        **asdict(probe(list(seen))),
        "factor": factor,
        "layers": {site: probe([site]).accuracy for site in seen} if len(seen) > 1 else {},
        "n_train": len(splits[0]),
        "n_test": len(splits[1]),
    }
