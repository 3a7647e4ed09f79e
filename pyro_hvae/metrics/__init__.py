"""Metrics: free functions of tensors and arrays; they know no model."""

from pyro_hvae.metrics.aggregate_posterior import Draws as Draws
from pyro_hvae.metrics.aggregate_posterior import Posteriors as Posteriors
from pyro_hvae.metrics.aggregate_posterior import aggregate_draws as aggregate_draws
from pyro_hvae.metrics.aggregate_posterior import log_ratios as log_ratios
from pyro_hvae.metrics.angle_regression import AngleFit as AngleFit
from pyro_hvae.metrics.angle_regression import angle_regression as angle_regression
from pyro_hvae.metrics.angle_regression import wrap as wrap
from pyro_hvae.metrics.energy import EnergyDistance as EnergyDistance
from pyro_hvae.metrics.energy import energy_distance as energy_distance
from pyro_hvae.metrics.factor_vae_score import FactorScore as FactorScore
from pyro_hvae.metrics.factor_vae_score import factor_score as factor_score
from pyro_hvae.metrics.mig import MEANINGFUL as MEANINGFUL
from pyro_hvae.metrics.mig import Gaps as Gaps
from pyro_hvae.metrics.mig import histogram_gaps as histogram_gaps
from pyro_hvae.metrics.mig import information_gaps as information_gaps
from pyro_hvae.metrics.mutual_information import Information as Information
from pyro_hvae.metrics.mutual_information import LayerInformation as LayerInformation
from pyro_hvae.metrics.mutual_information import layer_information as layer_information
from pyro_hvae.metrics.mutual_information import mutual_information as mutual_information
from pyro_hvae.metrics.regression_and_classifier_probes import LinearProbe as LinearProbe
from pyro_hvae.metrics.regression_and_classifier_probes import RegressionProbe as RegressionProbe
from pyro_hvae.metrics.regression_and_classifier_probes import constant_probe as constant_probe
from pyro_hvae.metrics.regression_and_classifier_probes import linear_probe as linear_probe
from pyro_hvae.metrics.regression_and_classifier_probes import regression_probe as regression_probe
from pyro_hvae.metrics.smoothness import smoothness_factor as smoothness_factor

__all__ = [
    "MEANINGFUL",
    "AngleFit",
    "Draws",
    "EnergyDistance",
    "FactorScore",
    "Gaps",
    "Information",
    "LayerInformation",
    "LinearProbe",
    "Posteriors",
    "RegressionProbe",
    "aggregate_draws",
    "angle_regression",
    "constant_probe",
    "energy_distance",
    "factor_score",
    "histogram_gaps",
    "information_gaps",
    "layer_information",
    "linear_probe",
    "log_ratios",
    "mutual_information",
    "regression_probe",
    "smoothness_factor",
    "wrap",
]
