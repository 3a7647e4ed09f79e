"""Probes of a run's posterior means: regression of position and size, linear classification."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from pyro_hvae.data import class_numbers
from pyro_hvae.errors import ConfigError, require_known
from pyro_hvae.evaluation.encoded_data import list_factors, posterior_means, probe_parts, random_subset, require_classes
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
            + (f"{', '.join(factors)}. Name others: -o factors=a,b." if factors else "none.")
        )
    return groups


def regression(
    run: OpenRun,
    train: int = 10_000,
    test: int = 10_000,
    hidden: int = 64,
    epochs: int = 200,
    seed: int = 0,
    factors: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Position and size read off the posterior means by a network of one hidden layer (Sahoo et al. 2020, figure 11).

    The code is all layers side by side. The probe is fitted on `train` training data; errors are over `test` test data, in the
    units of the labels. `factors` names other targets, each on its own. Any code should beat the controls: the mean colour of
    the image, and a constant. The paper does not give its network; ours is that of `regression_probe`. Where the test data lack
    a factor, others are held out (`tested_on`).
    """
    data, known = run.dataset, list_factors(run.dataset)
    for name in factors:
        require_known(f"factor of {data.name}", name, known)
    groups = {} if factors else _group_targets(known, data.name)
    columns = list(factors) or [name for group in groups.values() for name in group]
    fitted, judged, tested_on = probe_parts(data, columns)
    splits = [random_subset(fitted, train, seed), random_subset(judged, test, seed)]
    truth = [np.stack([s.factors[name].double().numpy() for name in columns], 1) for s in splits]
    codes = {"code": [np.concatenate(list(posterior_means(run, split.x, seed).values()), 1) for split in splits]}
    if len(data.shape) == 3:
        with fixed_seed(seed):
            colours = (split.x.alone[:].flatten(2).nanmean(2) for split in splits)
            codes["mean_colour"] = [colour.nan_to_num().double().numpy() for colour in colours]
    errors = {
        name: asdict(regression_probe(train_codes, truth[0], test_codes, truth[1], columns, hidden, epochs, seed, groups))
        for name, (train_codes, test_codes) in codes.items()
    }
    return {
        **errors.pop("code"),
        "controls": errors | {"constant": asdict(constant_probe(truth[0], truth[1], columns, groups))},
        "n_train": len(splits[0]),
        "n_test": len(splits[1]),
        "tested_on": tested_on,
    }


def classes(
    run: OpenRun,
    factor: str = "class",
    train: int = 10_000,
    test: int = 10_000,
    seed: int = 0,
    factors: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Accuracy of a linear classifier of a factor on posterior means, all layers side by side and each alone.

    `factors` names several in the place of `factor`; the accuracy is then that of the first, with `accuracies` of all.
    """
    names = list(factors) or [factor]
    results = {name: _measure_classes(run, name, train, test, seed) for name in names}
    several = {"accuracies": {name: result["accuracy"] for name, result in results.items()}} if len(names) > 1 else {}
    return results[names[0]] | several


def _measure_classes(run: OpenRun, factor: str, train: int, test: int, seed: int) -> dict[str, Any]:
    data = run.dataset
    require_classes(data, factor)
    fitted, judged, tested_on = probe_parts(data, [factor])
    splits = [random_subset(fitted, train, seed), random_subset(judged, test, seed)]
    labels = [np.asarray(class_numbers(data, factor, split.factors[factor])) for split in splits]
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
        "tested_on": tested_on,
    }
