"""Evaluations of a trained run, by name: each takes an `OpenRun` and options, and returns a dict of primitives."""

from pyro_hvae.evaluation.interpolation_jumps import discontinuities as discontinuities
from pyro_hvae.evaluation.interpolation_jumps import largest_jump as largest_jump
from pyro_hvae.evaluation.interpolation_jumps import paths_between as paths_between
from pyro_hvae.evaluation.likelihood import evaluate as evaluate
from pyro_hvae.evaluation.metric import Metric as Metric
from pyro_hvae.evaluation.metric_registry import METRICS as METRICS

__all__ = ["METRICS", "Metric", "discontinuities", "evaluate", "largest_jump", "paths_between"]
