"""Table of metrics by name. A new metric is a function of an `OpenRun` and an entry."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyro_hvae.evaluation.clusters_and_classes import clustering
from pyro_hvae.evaluation.degenerate_features import degeneracy
from pyro_hvae.evaluation.disentanglement import factor, mig, mig_histogram, mig_sup, mutual_information
from pyro_hvae.evaluation.factor_probes import classes, regression
from pyro_hvae.evaluation.interpolation_jumps import interpolation
from pyro_hvae.evaluation.layer_factors import layer_factors
from pyro_hvae.evaluation.likelihood import evaluate, published_likelihood
from pyro_hvae.evaluation.path_smoothness import smoothness
from pyro_hvae.evaluation.pendulum_angle import angle, published_angle
from pyro_hvae.evaluation.reconstruction_error import reconstruction


@dataclass(frozen=True)
class Metric:
    """A metric's entry in the table.

    Attributes:
        measure: (run, **options) -> dict of primitives; its parameters with a default are `-o` options.
        headline: the key of the value that a table shows.
        better: "higher", "lower", or "" where neither is. unit: of the headline.
        published: experiment -> the paper's value as text, or None.
    """

    measure: Callable[..., dict[str, Any]]
    headline: str
    better: str = "higher"
    unit: str = ""
    published: Callable[[Any], str | None] | None = None


METRICS: dict[str, Metric] = {
    "likelihood": Metric(evaluate, "log_likelihood", "higher", "nats per datum", published_likelihood),
    "reconstruction": Metric(reconstruction, "mse", "lower", "per pixel"),
    "angle": Metric(angle, "mae_rad", "lower", "rad", published_angle),
    "interpolation": Metric(interpolation, "good", "higher", "good paths"),
    "smoothness": Metric(smoothness, "raw", "lower", "second difference"),
    "mig": Metric(mig, "mig", "higher"),
    "mig-sup": Metric(mig_sup, "mig_sup", "higher"),
    "mig-histogram": Metric(mig_histogram, "mig", "higher"),
    "factor": Metric(factor, "score", "higher"),
    "mutual-information": Metric(mutual_information, "total", "", "nats"),
    "regression": Metric(regression, "rmse.position", "lower", "label units"),
    "degeneracy": Metric(degeneracy, "ratio", "", "of the features' first variance"),
    "classes": Metric(classes, "accuracy", "higher"),
    "clustering": Metric(clustering, "accuracy", "higher"),
    "layer-factors": Metric(layer_factors, "consistency_gap", "", "same class: bottom layer minus top"),
}
