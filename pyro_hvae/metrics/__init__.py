"""Metrics: free functions of tensors and arrays; they know no model."""

from pyro_hvae.metrics.angle import AngleFit as AngleFit
from pyro_hvae.metrics.angle import angle_regression as angle_regression
from pyro_hvae.metrics.angle import wrap as wrap

__all__ = ["AngleFit", "angle_regression", "wrap"]
