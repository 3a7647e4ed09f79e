"""What can be read off the posterior means by a small network or a linear classifier."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from pyro_hvae.errors import ConfigError
from pyro_hvae.evaluation.codes import posterior_means, selection
from pyro_hvae.experiments import OpenRun
from pyro_hvae.inference import latents
from pyro_hvae.metrics import constant_probe, linear_probe, regression_probe

__all__ = ["classes", "regression"]

# name of what is read -> the factors that say it, in whichever set has them
TARGETS = {"position": [("x", "y"), ("posX", "posY")], "size": [("scale",)]}


def _targets(factors: Mapping[str, Any], name: str) -> dict[str, list[str]]:
    found = {
        group: list(columns) for group, choices in TARGETS.items() for columns in choices if all(c in factors for c in columns)
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
    splits = [selection(data.train, train), selection(data.test, test)]
    truth = [np.stack([s.factors[name].double().numpy() for name in columns], 1) for s in splits]
    read: dict[str, Any] = {}
    codes = {
        "code": [posterior_means(run, split.x) for split in splits],
        "mean_colour": [split.x[:].flatten(2).mean(2).double().numpy() for split in splits],
    }
    for name, (seen, fresh) in codes.items():
        read[name] = asdict(regression_probe(seen, truth[0], fresh, truth[1], columns, hidden, epochs, seed, groups))
    read["constant"] = asdict(constant_probe(truth[0], truth[1], columns, groups))
    return {
        "rmse": read["code"]["rmse"],
        "mae": read["code"]["mae"],
        "controls": {name: read[name] for name in ("mean_colour", "constant")},
        "n_train": len(splits[0]),
        "n_test": len(splits[1]),
    }


def classes(run: OpenRun, factor: str = "class", train: int = 10_000, test: int = 10_000) -> dict[str, Any]:
    """Accuracy of a linear classifier of one factor on posterior means, all layers side by side and each alone."""
    data = run.dataset
    if factor not in data.train.factors or data.train.factors[factor].is_floating_point():
        known = [name for name, values in data.train.factors.items() if not values.is_floating_point()]
        raise ConfigError(
            f"'{data.name}' has no classes called '{factor}'; its integer factors: {', '.join(known) or 'none'}. "
            "Choose one: -o factor=NAME."
        )
    splits = [selection(data.train, train), selection(data.test, test)]
    labels = [split.factors[factor].numpy() for split in splits]

    def probe(sites: list[str] | None) -> Any:
        codes = [posterior_means(run, split.x, sites) for split in splits]
        return linear_probe(codes[0], labels[0], codes[1], labels[1])

    sites = list(latents(run.guide, data.train.x[:1].to(run.device)))
    return {
        **asdict(probe(None)),
        "factor": factor,
        "layers": {site: probe([site]).accuracy for site in sites} if len(sites) > 1 else {},
        "n_train": len(splits[0]),
        "n_test": len(splits[1]),
    }
