"""Factors of handwriting in each layer: class, slant, width, stroke (Zhao et al. 2017, figure 5, as numbers)."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.metrics import recall_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import SVC
from torch import Tensor, nn

from pyro_hvae.data import Dataset
from pyro_hvae.errors import ConfigError
from pyro_hvae.evaluation.encoded_data import posterior_means, random_subset
from pyro_hvae.inference import ROWS, decode_noise, layer_shares, reconstruct, sample_noise, variance_share
from pyro_hvae.metrics import STROKES
from pyro_hvae.runs import OpenRun
from pyro_hvae.runtime import fixed_seed

NEIGHBOURS = 10
COMPONENTS = 50  # principal ones of the images, which the classifier sees
ROUNDING = 1e-12  # variance of a stroke measure below which it is constant


def layer_factors(
    run: OpenRun, points: int = 5000, train: int = 5000, outer: int = 100, inner: int = 50, seed: int = 0
) -> dict[str, Any]:
    r"""What each layer knows of strokes and class, and what its noise alone changes in generated images.

    The strokes are `ink`, `slant`, `width` and `thickness` (see `pyro_hvae.metrics.stroke_measures`) of images of one channel.

    - `correlation`: R, the multiple correlation of a layer's posterior means with a measure, $\sqrt{\max(0, R^2)}$ of a linear
      regression fitted on training data and judged on test data; `correlation_nonlinear` the same of the mean of the 10 nearest
      neighbours. `class_accuracy`: balanced accuracy of their vote; `chance` is one over the number of classes.
    - `consistency`: the probability that two images E[x | z] that differ in one layer's noise alone have the same class,
      $\sum_c n_c (n_c - 1) / (n (n - 1))$ of n = `inner` images averaged over `outer` draws of all other noise; `all` is that
      of images that share nothing. A support vector classifier on 50 principal components of the data says which class an
      image has; `classifier` is its accuracy on test images and on their reconstructions, the kind of image it judges here.
    - `consistency_gap`: that of the layer next to x less that of the top one; 1 where only the top layer decides the class.
    - `varied`: share of the variance of a measure of E[x | z] that stays when all noise but the layer's is held, the total
      Sobol index $V_l$ of `layer_shares`; `share` is that of the pixels.

    Where a data set has no factor "class" of two values or more, what needs one is left out. Images are clamped to [0, 1].

    Arguments:
        points: at most so many training data to fit the correlations on, and test data to judge them by.
        train: at most so many training images for the classifier.
        outer, inner: draws of the other layers' noise, and of the layer's own for each.

    Raises:
        ConfigError: for data that are no images of one channel; as `layer_shares` and `random_subset`.
    """
    data, model = run.dataset, run.model
    if len(data.shape) != 3 or data.shape[0] != 1:
        raise ConfigError(
            f"the metric 'layer-factors' measures strokes in images of one channel, such as 'mnist' has; '{data.name}' has "
            f"data of shape {data.shape}."
        )
    with fixed_seed(seed):
        shares = layer_shares(model, outer, inner)
        sites = list(reversed(shares))
        splits = [random_subset(split, points, seed) for split in (data.train, data.test)]
        images = [split.x[:] for split in splits]  # read once: what is binarised anew would differ from its code
        codes = [posterior_means(run, x, seed) for x in images]
        shown = {"accuracy": images[1], "reconstructions": reconstruct(model, run.guide, images[1].to(run.device))}
        classifier = _classifier(data, train, seed) if _has_classes(data) else None
        whole = _drawn(model, sample_noise(model, outer * inner), outer, classifier)
        varied = {}
        for site in sites:
            noise = {name: value.repeat_interleave(inner, 0) for name, value in sample_noise(model, outer).items()}
            noise[site] = sample_noise(model, outer * inner)[site]
            varied[site] = _drawn(model, noise, outer, classifier)
    result: dict[str, Any] = {"consistency_gap": None}
    if classifier:
        groups = {site: _consistency(drawn["class"]) for site, drawn in (varied | {"all": whole}).items()}
        seen, fresh = (split.factors["class"].numpy() for split in splits)
        read = {site: _class_accuracy(codes[0][site], codes[1][site], seen, fresh) for site in sites}
        result = _gap(groups[sites[0]], groups[sites[-1]]) | {
            "classifier": {key: float((_classes(classifier, x) == fresh).mean()) for key, x in shown.items()},
            "class_accuracy": read | {"chance": 1 / len(np.unique(fresh))},
            "consistency": groups,
        }
    one, two = (_strokes(x) for x in images)
    linear, nearest = LinearRegression(), KNeighborsRegressor(min(NEIGHBOURS, len(images[0])))
    for key, regression in (("correlation", linear), ("correlation_nonlinear", nearest)):
        result[key] = {site: _correlations(regression, codes[0][site], codes[1][site], one, two) for site in sites}
    parts = {site: {name: _part(drawn[name], whole[name]) for name in STROKES} for site, drawn in varied.items()}
    return result | {
        "varied": {site: {name: value for name, (value, _) in row.items()} for site, row in parts.items()},
        "varied_stderr": {site: {name: error for name, (_, error) in row.items()} for site, row in parts.items()},
        "share": {site: {"of_pixels": _number(shares[site].share), "stderr": _number(shares[site].stderr)} for site in sites},
        "n_train": len(images[0]),
        "n_test": len(images[1]),
    }


def _has_classes(data: Dataset) -> bool:
    values = data.train.factors.get("class")
    return values is not None and not values.is_floating_point() and len(values.unique()) > 1


def _number(value: float) -> float | None:
    """None for what is undefined because nothing varies."""
    return None if math.isnan(value) else value


def _pixels(x: Tensor) -> np.ndarray:
    return x.clamp(0, 1).flatten(1).cpu().double().numpy()


def _classes(classifier: Pipeline, x: Tensor) -> np.ndarray:
    return np.asarray(classifier.predict(_pixels(x)))


def _strokes(x: Tensor) -> dict[str, np.ndarray]:
    return {name: measure(x.clamp(0, 1)).numpy() for name, measure in STROKES.items()}


def _classifier(data: Dataset, train: int, seed: int) -> Pipeline:
    """Fitted on the data themselves, so that it owes nothing to the model that it judges."""
    split = random_subset(data.train, train, seed)
    pixels, labels = _pixels(split.x[:]), split.factors["class"].numpy()
    if len(np.unique(labels)) < 2:
        raise ConfigError(f"train={train}: the classifier's images are all of class {labels[0]}. Example: -o train=5000.")
    components = PCA(min(COMPONENTS, *pixels.shape), random_state=seed)
    return make_pipeline(components, SVC(C=10)).fit(pixels, labels)


def _drawn(model: nn.Module, noise: Mapping[str, Tensor], outer: int, classifier: Pipeline | None) -> dict[str, np.ndarray]:
    """Each stroke measure of E[x | z] for given noise, and its class; shape (outer, inner)."""
    parts, size = [], len(next(iter(noise.values())))
    for start in range(0, size, ROWS):
        x = decode_noise(model, {name: value[start : start + ROWS] for name, value in noise.items()})
        parts.append(_strokes(x) | ({"class": _classes(classifier, x)} if classifier else {}))
    return {name: np.concatenate([part[name] for part in parts]).reshape(outer, -1) for name in parts[0]}


def _consistency(groups: np.ndarray) -> dict[str, float]:
    """Probability that two of a group are of the same class, without bias, and its standard error; classes (outer, inner)."""
    outer, n = groups.shape
    counts = (groups[:, :, None] == np.unique(groups)).sum(1)
    same = (counts * (counts - 1)).sum(1) / (n * (n - 1))
    return {"same_class": float(same.mean()), "stderr": float(same.std(ddof=1)) / math.sqrt(outer)}


def _gap(bottom: Mapping[str, float], top: Mapping[str, float]) -> dict[str, float]:
    """The bottom layer's consistency less the top one's; their draws are independent, unless they are the same layer's."""
    error = 0.0 if bottom is top else math.hypot(bottom["stderr"], top["stderr"])
    return {"consistency_gap": bottom["same_class"] - top["same_class"], "consistency_gap_stderr": error}


def _part(part: np.ndarray, whole: np.ndarray) -> tuple[float | None, float | None]:
    """The share of the variance of `whole` that is within the rows of `part`, and its standard error: see `layer_shares`."""
    spread = np.square(whole - whole.mean()).ravel() * (whole.size / (whole.size - 1))
    if spread.mean() <= ROUNDING:
        return None, None
    found = variance_share(torch.from_numpy(part.var(1, ddof=1)), torch.from_numpy(spread))
    return found.share, found.stderr


def _correlations(
    regression: LinearRegression | KNeighborsRegressor,
    train: np.ndarray,
    test: np.ndarray,
    seen: Mapping[str, np.ndarray],
    fresh: Mapping[str, np.ndarray],
) -> dict[str, float | None]:
    """Held-out R of every stroke measure; None for one that does not vary over the test data."""
    predicted = regression.fit(train, np.stack(list(seen.values()), 1)).predict(test)
    truth = np.stack(list(fresh.values()), 1)
    errors, variances = np.square(truth - predicted).mean(0), truth.var(0)
    return {
        name: math.sqrt(max(0.0, 1 - error / variance)) if variance > ROUNDING else None
        for name, error, variance in zip(fresh, errors.tolist(), variances.tolist(), strict=True)
    }


def _class_accuracy(train: np.ndarray, test: np.ndarray, seen: np.ndarray, fresh: np.ndarray) -> float:
    """Mean recall over the classes among the test data."""
    predicted = KNeighborsClassifier(min(NEIGHBOURS, len(train))).fit(train, seen).predict(test)
    return float(recall_score(fresh, predicted, labels=np.unique(fresh), average="macro"))
