"""Factors of handwriting in each layer: class, slant, width, stroke (Zhao et al. 2017, figure 5, as numbers)."""

import math
from collections.abc import Callable, Mapping, Sequence
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

from pyro_hvae.data import Dataset, Split, class_numbers, list_splits, x_of
from pyro_hvae.errors import ConfigError
from pyro_hvae.evaluation.encoded_data import posterior_means, probe_parts, random_subset
from pyro_hvae.inference import (
    LEAST_BLOCKS,
    ROWS,
    LayerShare,
    NotEstimable,
    combine_draws,
    count_blocks,
    decode_noise,
    layer_shares,
    reconstruct,
    repeat_rows,
    sample_noise,
    squared_differences,
    variance_share,
)
from pyro_hvae.metrics import STROKES
from pyro_hvae.runs import OpenRun, draw_given
from pyro_hvae.runtime import fixed_seed

Measure = Callable[[Tensor], dict[str, np.ndarray]]
NEIGHBOURS = 10
COMPONENTS = 50  # principal components of the images, the classifier's input
ROUNDING = 1e-12  # variance of a stroke measure below which it is constant


def layer_factors(
    run: OpenRun,
    points: int = 5000,
    train: int = 5000,
    outer: int = 100,
    inner: int = 50,
    seed: int = 0,
    factor: str = "class",
) -> dict[str, Any]:
    r"""Information of each layer about strokes and class, and the effect of its noise alone on generated images.

    The strokes are `ink`, `slant`, `width` and `thickness` (see `pyro_hvae.metrics.stroke_measures`) of images of one channel.

    - `correlation`: R, the multiple correlation of a layer's posterior means with a measure, $\sqrt{\max(0, R^2)}$ on test
      data of a linear regression fitted on training data; `correlation_nonlinear`: of the mean of the 10 nearest neighbours.
      `class_accuracy`: balanced accuracy of their vote; `chance` is one over the number of classes.
    - `consistency`: the probability that two images E[x | z] that differ in one layer's noise alone have the same class,
      $\sum_c n_c (n_c - 1) / (n (n - 1))$ of n = `inner` images averaged over `outer` draws of all other noise; `all` is that
      of independent images. A support vector classifier on 50 principal components of the data gives the class; `classifier`
      is its accuracy on test images and on their reconstructions, which are images of the kind used here.
    - `consistency_gap`: that of the layer next to x less that of the top one; 1 where only the top layer decides the class.
    - `varied`: share of the variance of a measure of E[x | z] that is left when all noise but the layer's is fixed, the total
      Sobol index $V_l$ of `layer_shares`; `share` is that of the pixels. None where nothing varies, or where the variance is
      not estimable.

    In a run with conditions the images of a group have those of one training datum, and those of independent images vary.

    Without a factor "class" (or `factor`) of two values or more, the results that need one are left out. Images are
    clamped to [0, 1].

    Arguments:
        points: most training data to fit the correlations, and most test data. train: most training images of the classifier.
        outer, inner: draws of the other layers' noise, and of the layer's own for each; for shares as in `layer_shares`.

    Raises:
        ConfigError: for data that are no images of one channel, or incomplete; as `layer_shares` and `random_subset`.
    """
    data, model = run.dataset, run.model
    if len(data.shape) != 3 or data.shape[0] != 1:
        raise ConfigError(
            f"the metric 'layer-factors' measures strokes in images of one channel, such as 'mnist' has; '{data.name}' has "
            f"data of shape {data.shape}."
        )
    if data.train.x.incomplete:
        raise ConfigError(
            f"the metric 'layer-factors' measures strokes of whole images, but '{data.name}' has missing entries. Fill them "
            "in, or measure 'reconstruction', which is of the observed entries."
        )
    with fixed_seed(seed):
        try:
            shares = layer_shares(model, outer, inner, given=draw_given(run, max(LEAST_BLOCKS, outer * inner)))
        except NotEstimable:
            shares = dict.fromkeys(sample_noise(model, 1, given=draw_given(run, 1)), LayerShare(math.nan, math.nan))
        sites = list(reversed(shares))
        named = any(factor in split.factors for split in list_splits(data).values())
        fitted, judged, tested_on = probe_parts(data, [factor] if named else [])
        known = _is_class(data, fitted, factor)
        if not known and factor != "class":
            raise ConfigError(f"'{data.name}' has no classes called '{factor}' of two values or more.")
        splits = [random_subset(split, points, seed) for split in (fitted, judged)]
        images = [split.x[:] for split in splits]  # read once: an image that is binarised anew differs from the encoded one
        codes = [posterior_means(run, x, seed) for x in images]
        shown = {"accuracy": x_of(images[1]), "reconstructions": reconstruct(model, run.guide, images[1].to(run.device))}
        classifier = _fit_classifier(data, fitted, factor, train, seed) if known else None
        blocks = count_blocks(len(sites), outer, inner)
        given = draw_given(run, blocks)
        combined = repeat_rows(given, 2 ** len(sites))
        strokes = _measure_samples(model, combine_draws(model, blocks, given), combined, _measure_strokes)
        classes = _sample_classes(run, sites, outer, inner, classifier) if classifier else {}
    result: dict[str, Any] = {"consistency_gap": None}
    if classifier:
        consistency = {site: _class_consistency(values) for site, values in classes.items()}
        bottom, top = consistency[sites[0]], consistency[sites[-1]]
        truth = [np.asarray(class_numbers(data, factor, split.factors[factor])) for split in splits]
        accuracy = {site: _class_accuracy(codes[0][site], codes[1][site], *truth) for site in sites}
        result = {
            "consistency_gap": bottom["same_class"] - top["same_class"],
            # The draws of two layers are independent.
            "consistency_gap_stderr": 0.0 if bottom is top else math.hypot(bottom["stderr"], top["stderr"]),
            "classifier": {key: float((_predict_classes(classifier, x) == truth[1]).mean()) for key, x in shown.items()},
            "class_accuracy": accuracy | {"chance": 1 / len(np.unique(truth[1]))},
            "consistency": consistency,
        }
    drawn = [_measure_strokes(x_of(x)) for x in images]
    linear, nearest = LinearRegression(), KNeighborsRegressor(min(NEIGHBOURS, len(images[0])))
    for key, regression in (("correlation", linear), ("correlation_nonlinear", nearest)):
        result[key] = {site: _correlations(regression, codes[0][site], codes[1][site], *drawn) for site in sites}
    varied = {name: _variance_shares(strokes[name], sites[::-1]) for name in STROKES}
    table = {site: {name: varied[name][site] for name in STROKES} for site in sites}
    pixels = {site: (None, None) if math.isnan(s.share) else (s.share, s.stderr) for site, s in shares.items()}
    return result | {
        "varied": {site: {name: value for name, (value, _) in row.items()} for site, row in table.items()},
        "varied_stderr": {site: {name: error for name, (_, error) in row.items()} for site, row in table.items()},
        "share": {site: dict(zip(("of_pixels", "stderr"), pixels[site], strict=True)) for site in sites},
        "n_train": len(images[0]),
        "n_test": len(images[1]),
        "tested_on": tested_on,
    }


def _pixels(x: Tensor) -> np.ndarray:
    return x.clamp(0, 1).flatten(1).cpu().double().numpy()


def _predict_classes(classifier: Pipeline, x: Tensor) -> np.ndarray:
    return np.asarray(classifier.predict(_pixels(x)))


def _measure_strokes(x: Tensor) -> dict[str, np.ndarray]:
    return {name: measure(x.clamp(0, 1)).numpy() for name, measure in STROKES.items()}


def _is_class(data: Dataset, split: Split, factor: str) -> bool:
    values = split.factors.get(factor)
    numbers = None if values is None else class_numbers(data, factor, values)
    return numbers is not None and len(numbers.unique()) > 1


def _fit_classifier(data: Dataset, fitted: Split, factor: str, train: int, seed: int) -> Pipeline:
    """A classifier of images, fitted on data, so it does not depend on the model."""
    split = random_subset(fitted, train, seed)
    pixels, labels = _pixels(split.x.alone[:]), np.asarray(class_numbers(data, factor, split.factors[factor]))
    if len(np.unique(labels)) < 2:
        raise ConfigError(f"train={train}: the classifier's images are all of class {labels[0]}. Example: -o train=5000.")
    components = PCA(min(COMPONENTS, *pixels.shape), random_state=seed)
    return make_pipeline(components, SVC(C=10)).fit(pixels, labels)


def _measure_samples(
    model: nn.Module, noise: Mapping[str, Tensor], given: Mapping[str, Tensor], measure: Measure
) -> dict[str, np.ndarray]:
    """Each measure of E[x | z] for given noise and inputs, (rows,)."""
    size = len(next(iter(noise.values())))
    chunks = [
        [{name: value[start : start + ROWS] for name, value in held.items()} for held in (noise, given)]
        for start in range(0, size, ROWS)
    ]
    parts = [measure(decode_noise(model, *chunk)) for chunk in chunks]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _sample_classes(run: OpenRun, sites: Sequence[str], outer: int, inner: int, classifier: Pipeline) -> dict[str, np.ndarray]:
    """Site -> classes of `inner` images E[x | z] for each of `outer` draws of all other noise, (outer, inner); "all" varies."""

    model = run.model

    def classes(noise: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> np.ndarray:
        found = _measure_samples(model, noise, given, lambda x: {"class": _predict_classes(classifier, x)})
        return found["class"].reshape(outer, inner)

    result = {}
    for site in sites:
        given = draw_given(run, outer)
        noise, beside = (
            {name: value.repeat_interleave(inner, 0) for name, value in held.items()}
            for held in (sample_noise(model, outer, given=given), given)
        )
        result[site] = classes(noise | {site: sample_noise(model, outer * inner, given=beside)[site]}, beside)
    given = draw_given(run, outer * inner)
    return result | {"all": classes(sample_noise(model, outer * inner, given=given), given)}


def _class_consistency(groups: np.ndarray) -> dict[str, float]:
    """Probability that two of a group are of the same class, without bias, and its standard error; classes (outer, inner)."""
    outer, n = groups.shape
    counts = (groups[:, :, None] == np.unique(groups)).sum(1)
    same = (counts * (counts - 1)).sum(1) / (n * (n - 1))
    return {"same_class": float(same.mean()), "stderr": float(same.std(ddof=1)) / math.sqrt(outer)}


def _variance_shares(values: np.ndarray, sites: Sequence[str]) -> dict[str, tuple[float | None, float | None]]:
    """Site -> share of the variance of a measure, and its standard error.

    Arguments:
        values: of all combinations of `combine_draws`. sites: in the order of its dims.
    """
    *parts, whole = squared_differences(torch.from_numpy(values).double().reshape(*[2] * len(sites), -1, 1))
    if whole.mean() <= ROUNDING:
        return dict.fromkeys(sites, (None, None))
    try:
        shares = [variance_share(part, whole) for part in parts]
    except NotEstimable:
        return dict.fromkeys(sites, (None, None))
    return {site: (share.share, share.stderr) for site, share in zip(sites, shares, strict=True)}


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
