"""The metric clustering, on runs whose clusters are known."""

import pytest
import torch
from linear_gaussian import Fixed
from test_evaluation import Heads, Run

import pyro_hvae as hv
from pyro_hvae.data import Dataset, Split
from pyro_hvae.errors import ConfigError
from pyro_hvae.evaluation import METRICS

pytestmark = pytest.mark.usefixtures("float64")
CENTRES = torch.tensor([[-4.0, 0.0], [4.0, 0.0], [0.0, 5.0]])


def blobs(n, seed):
    """Three groups of points; the class is the group."""
    g = torch.Generator().manual_seed(seed)
    group = torch.randint(3, (n,), generator=g)
    return Split((CENTRES[group] + 0.3 * torch.randn(n, 2, generator=g)).double(), {"class": group})


DATA = Dataset("blobs", blobs(300, 0), blobs(60, 1), blobs(150, 2))


def open_run(path, prior, weights=None):
    weights = weights or {"z1": torch.eye(2)}
    return Run(path, DATA, hv.Chain(prior, [], Fixed([torch.eye(2)], torch.ones(2))), Heads(weights))


def prior_at(centres, scale=0.3):
    prior = hv.GaussianMixturePrior(2, len(centres))
    prior.loc.data, prior.log_scale.data = centres.double(), torch.full(centres.shape, scale).log()
    return prior


def measure(run, **options):
    return METRICS["clustering"].measure(run, **{"seeds": 4, "resamples": 20, **options})


def test_components_on_the_groups_are_the_classes(tmp_path):
    found = measure(open_run(tmp_path, prior_at(CENTRES[[2, 0, 1]])))
    perfect = {"accuracy": 1.0, "purity": 1.0, "nmi": 1.0, "ari": 1.0, "used": 3}
    assert found["accuracy"] == 1 and found["clusters_by"] == "components of p(z1)"
    assert found["clusterings"]["components"] == pytest.approx(perfect)
    assert found["clusterings"]["components, stderr"] == pytest.approx(dict.fromkeys(perfect, 0.0))
    assert found["clusters"] == found["classes"] == 3 and found["n_test"] == 150 and "more_clusters" not in found
    assert found["clusterings"]["k-means, mean"]["accuracy"] > 0.6


def test_two_components_on_one_group_and_one_that_is_far(tmp_path):
    centres = torch.cat([CENTRES, CENTRES[:1] + 0.2, torch.tensor([[50.0, 50.0]])])
    found = measure(open_run(tmp_path, prior_at(centres)))
    mine = found["clusterings"]["components"]
    assert mine["used"] == 4 and mine["purity"] == 1 and 0.6 < mine["accuracy"] < 1
    assert found["clusters"] == 5 and "accuracy matches each class with one cluster alone" in found["more_clusters"]
    assert found["clusterings"]["components, stderr"]["accuracy"] == pytest.approx(0.03, abs=0.02)  # sqrt(p (1 - p) / 150)


def test_more_components_than_training_data_leave_k_means_out(tmp_path):
    run = open_run(tmp_path, prior_at(CENTRES))
    found, few = measure(run), measure(run, train=2)
    assert few["no_k_means"] == "3 clusters need as many training data, got 2, so that k-means is left out"
    assert list(few["clusterings"]) == ["components", "components, stderr"] and "no_k_means" not in found
    assert all(few["clusterings"][name] == found["clusterings"][name] for name in few["clusterings"])
    assert few["accuracy"] == 1 and few["clusters_by"] == "components of p(z1)" and few["clusters"] == 3


def test_a_run_without_a_mixture_has_k_means(tmp_path):
    found = measure(open_run(tmp_path, hv.StandardNormal(2)), seeds=8)
    assert found["clusters_by"] == "k-means" and set(found["clusterings"]) == {"k-means, mean", "k-means, deviation"}
    assert found["accuracy"] == found["clusterings"]["k-means, mean"]["accuracy"] > 0.8
    assert found["clusters"] == 3 and found["codes"] == ["z1"]
    more = measure(open_run(tmp_path, hv.StandardNormal(2)), clusters=30)
    assert more["clusterings"]["k-means, mean"]["purity"] > 0.99 > more["accuracy"] and "more_clusters" in more
    assert measure(open_run(tmp_path, hv.StandardNormal(2)), clusters=30) == more


def test_k_means_of_codes_that_are_all_alike(tmp_path):
    found = measure(open_run(tmp_path, hv.StandardNormal(2), {"z1": torch.zeros(2, 2)}))
    assert found["clusterings"]["k-means, mean"]["used"] == 1 and found["accuracy"] == found["chance"]


def test_what_does_not_fit_is_refused(tmp_path):
    plain, mixed = open_run(tmp_path, hv.StandardNormal(2)), open_run(tmp_path, prior_at(CENTRES))
    for run, options, message in (
        (plain, {"factor": "clas"}, "no classes called 'clas'; its factors of few values: class"),
        (plain, {"site": "z7"}, "no layer called 'z7'"),
        (plain, {"clusters": 301}, r"301 clusters need as many training data, got 300\. Example: -o clusters=3\."),
        (plain, {"train": 2}, r"3 clusters need as many training data, got 2\. Example: -o clusters=2\."),
        (plain, {"seeds": 1}, "seeds=1: an error needs two or more"),
        (mixed, {"clusters": 4}, r"clusters=4, but k-means is compared with the 3 components of p\(z1\)\. Leave it out"),
    ):
        with pytest.raises(ConfigError, match=message):
            measure(run, **options)
