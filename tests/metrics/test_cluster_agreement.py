"""Scores of clusterings against every matching, and against formulas by hand."""

import math
from itertools import permutations

import numpy as np
import pytest

from pyro_hvae.errors import ConfigError
from pyro_hvae.metrics import cluster_scores


def test_names_of_clusters_do_not_matter():
    classes = np.random.default_rng(0).integers(4, size=50)
    scores = cluster_scores(np.array([10, 7, 30, 2])[classes], classes)
    assert (scores.accuracy, scores.purity, scores.used) == (1, 1, 4)
    assert scores.nmi == pytest.approx(1) and scores.ari == pytest.approx(1)


@pytest.mark.parametrize("seed", range(5))
def test_accuracy_is_that_of_the_best_of_all_matchings(seed):
    random = np.random.default_rng(seed)
    classes, noise = random.integers(5, size=60), random.integers(5, size=60)
    clusters = np.where(random.random(60) < 0.5, classes, noise)
    best = max(np.mean(np.array(names)[clusters] == classes) for names in permutations(range(5)))
    assert cluster_scores(clusters, classes).accuracy == pytest.approx(best)


def test_more_clusters_than_classes():
    """Two clusters for each class are pure; the matching has one of the two."""
    classes = np.repeat([0, 1], 10)
    scores = cluster_scores(2 * classes + np.tile([0, 1], 10), classes)
    assert (scores.accuracy, scores.purity, scores.used) == (0.5, 1, 4)
    assert scores.nmi == pytest.approx(2 * math.log(2) / (math.log(2) + math.log(4)))  # I = H(class) = log 2
    alone = cluster_scores(np.arange(20), classes)  # every datum a cluster of its own
    assert (alone.accuracy, alone.purity, alone.ari) == (0.1, 1, 0)


def test_one_cluster_knows_nothing():
    scores = cluster_scores(np.zeros(10, int), np.repeat([0, 1], [7, 3]))
    assert (scores.accuracy, scores.purity, scores.nmi, scores.ari, scores.used) == (0.7, 0.7, 0, 0, 1)


@pytest.mark.parametrize("clusters", [np.zeros(3, int), np.zeros((4, 1), int)])
def test_a_cluster_for_each_datum(clusters):
    with pytest.raises(ConfigError, match="each datum has a cluster and a class, but their shapes are"):
        cluster_scores(clusters, np.zeros(4, int))
    with pytest.raises(ConfigError, match="each datum has a cluster"):
        cluster_scores(np.zeros(0, int), np.zeros(0, int))
