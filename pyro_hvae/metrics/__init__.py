"""Metrics: free functions of tensors and arrays; they know no model."""

from pyro_hvae.metrics.angle import AngleFit as AngleFit
from pyro_hvae.metrics.angle import angle_regression as angle_regression
from pyro_hvae.metrics.angle import wrap as wrap
from pyro_hvae.metrics.energy import EnergyDistance as EnergyDistance
from pyro_hvae.metrics.energy import energy_distance as energy_distance

__all__ = ["AngleFit", "EnergyDistance", "angle_regression", "energy_distance", "wrap"]
