"""Clusters that a run finds: the components of its mixture prior, and k-means on its codes, against classes."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from pyro_hvae.data import class_numbers, factor_values
from pyro_hvae.errors import ConfigError, require_known
from pyro_hvae.evaluation.encoded_data import posterior_means, probe_parts, random_subset, require_classes
from pyro_hvae.inference import mixture_priors, responsibilities
from pyro_hvae.metrics import ClusterScores, cluster_scores
from pyro_hvae.runs import OpenRun
from pyro_hvae.runtime import fixed_seed

Scores = dict[str, float]
MANY = (
    "there are more clusters than classes: accuracy matches each class with one cluster alone, purity gives each cluster its "
    "commonest class and grows with their number"
)


def clustering(
    run: OpenRun,
    factor: str = "class",
    site: str = "",
    clusters: int = 0,
    seeds: int = 10,
    resamples: int = 200,
    train: int = 10_000,
    test: int = 10_000,
    draws: int = 16,
    seed: int = 0,
) -> dict[str, Any]:
    """Agreement of unsupervised clusters with a factor: components of a mixture prior, and k-means on posterior means.

    The cluster of a datum is its most responsible component (see `responsibilities`). K-means has as many clusters, is fitted
    to the codes of training data, and runs from `seeds` starts; it stands for runs without a mixture, too. The labels are not
    used before both are compared with them (see `cluster_scores`). `accuracy` is that of the components where there are some.
    K-means is left out where there are more components than training data.

    Arguments:
        site: the layer with the mixture, the top one where several have one; k-means takes the codes of this layer. Without a
            mixture it is that of the codes; none named means all layers side by side.
        clusters: of k-means in a run without a mixture; 0 is the number of classes.
        resamples: of the test data, whose spread is the error of the components' scores. That of k-means is over its starts.
    """
    data = run.dataset
    require_classes(data, factor)
    for name, value in {"seeds": seeds, "resamples": resamples}.items():
        if value < 2:
            raise ConfigError(f"{name}={value}: an error needs two or more of them. Example: -o {name}=10.")
    fitted, judged, tested_on = probe_parts(data, [factor])
    fitted, judged = random_subset(fitted, train, seed), random_subset(judged, test, seed)
    labels = np.asarray(class_numbers(data, factor, judged.factors[factor]))
    classes = len(factor_values(data, factor).unique())
    with fixed_seed(seed):
        mixtures = mixture_priors(run.model, judged.x[:1].to(run.device))
    (train_codes, layers), (test_codes, _) = (
        _codes(run, split.x, site or next(iter(mixtures), ""), seed) for split in (fitted, judged)
    )
    count, found = clusters or classes, dict[str, Scores]()
    if mixture := next((name for name in mixtures if site in ("", name)), None):
        weights = responsibilities(run.model, run.guide, judged.x.to(run.device), mixture, draws, seed)
        component, count = weights.argmax(1).cpu().numpy(), weights.shape[1]
        if clusters not in (0, count):
            raise ConfigError(
                f"clusters={clusters}, but k-means is compared with the {count} components of p({mixture}). Leave it out."
            )
        found["components"] = asdict(cluster_scores(component, labels))
        found["components, stderr"] = _bootstrap(component, labels, resamples, seed)
    left_out = ""
    if count > len(train_codes):
        left_out = f"{count} clusters need as many training data, got {len(train_codes)}"
        if not mixture:
            raise ConfigError(f"{left_out}. Example: -o clusters={min(classes, len(train_codes))}.")
    else:
        scores = _k_means(train_codes, test_codes, labels, count, seeds, seed)
        found["k-means, mean"] = _over(scores, np.mean)
        found["k-means, deviation"] = _over(scores, lambda values: np.std(values, ddof=1))
    return {
        "accuracy": next(iter(found.values()))["accuracy"],
        "clusters_by": f"components of p({mixture})" if mixture else "k-means",
        "clusterings": found,
        "clusters": count,
        "classes": classes,
        "chance": float(np.unique(labels, return_counts=True)[1].max() / len(labels)),
        **({"more_clusters": MANY} if count > classes else {}),
        **({"no_k_means": f"{left_out}, so that k-means is left out"} if left_out else {}),
        "codes": list(layers),
        "factor": factor,
        "n_train": len(fitted),
        "n_test": len(judged),
        "tested_on": tested_on,
    }


def _codes(run: OpenRun, x: Any, site: str, seed: int) -> tuple[np.ndarray, Sequence[str]]:
    """Posterior means of a layer, or of all side by side, with the layers' names."""
    means = posterior_means(run, x, seed)
    if site:
        require_known("layer", site, means)
    layers = [site] if site else list(means)
    return np.concatenate([means[name] for name in layers], 1), layers


def _k_means(
    train: np.ndarray, test: np.ndarray, labels: np.ndarray, clusters: int, seeds: int, seed: int
) -> list[ClusterScores]:
    """Scores of k-means from several starts of k-means++."""
    scores = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different codes than clusters: `used` says so
        for start in range(seed, seed + seeds):
            fitted = KMeans(clusters, n_init="auto", random_state=start).fit(train)  # one start of k-means++
            scores.append(cluster_scores(np.asarray(fitted.predict(test)), labels))
    return scores


def _bootstrap(clusters: np.ndarray, labels: np.ndarray, resamples: int, seed: int) -> Scores:
    """Standard deviations of the scores over resamples of the data, each with its own best matching."""
    random, n = np.random.default_rng(seed), len(labels)
    picks = (random.integers(n, size=n) for _ in range(resamples))
    return _over([cluster_scores(clusters[pick], labels[pick]) for pick in picks], lambda values: np.std(values, ddof=1))


def _over(scores: Sequence[ClusterScores], summary: Callable[[Any], Any]) -> Scores:
    rows = [asdict(one) for one in scores]
    return {name: float(summary([row[name] for row in rows])) for name in rows[0]}
