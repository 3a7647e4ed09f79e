"""Gradients of the captured graph against those of the eager pass: every stage of every recipe under one seed.

In float64. What is told is the largest norm of a difference, over parameters, relative to the norm of the eager gradient. A
stage that cannot be captured counts as infinitely far off, which is looked for in float32 as well.
"""

import math
import warnings

import torch
from torch import Tensor

from benchmarks.measures import Measure
from pyro_hvae.compilation.captured_loss import CaptureWarning, capture
from pyro_hvae.recipes import RECIPES, Stage
from pyro_hvae.runs.resolution import resolve
from pyro_hvae.runtime.random_state import fixed_seed
from pyro_hvae.schedules import Schedule
from pyro_hvae.training.experiment_plan import plan
from pyro_hvae.training.training_step import TrainingPass

__all__ = ["measures"]

BATCH = 16
BAR = 1e-10
# Of the largest gradient: what a smaller one is held to. Biases before batch normalisation have none but for rounding (1e-17).
FAINT = 1e-5


def measures(quick: bool) -> list[Measure]:
    """The worst of all stages, and how many run as a graph in float32; quickly the former alone, without the compiler."""
    found = _stages(torch.float64, compile=not quick)
    worst, how = max(found, key=lambda name: found[name]), "as recorded" if quick else "compiled"
    detail = {"stages": {name: off if math.isfinite(off) else None for name, off in found.items()}}
    measures = [Measure("gradients, captured against eager", found[worst], f"relative, {how} ({worst})", BAR, detail=detail)]
    if not quick:
        found = _stages(torch.float32, compile=True)
        eager = [name for name, off in found.items() if off == math.inf]
        share, unit = 1 - len(eager) / len(found), "share, float32, compiled"
        measures.append(Measure("stages that run as one graph", share, unit, 1.0, most=False, detail={"eager": eager}))
    return measures


def _stages(dtype: torch.dtype, compile: bool) -> dict[str, float]:
    return {stage: off for name in RECIPES for stage, off in _recipe(name, dtype, compile).items()}


def _recipe(name: str, dtype: torch.dtype, compile: bool) -> dict[str, float]:
    made = plan(resolve(name, "digits", train={"steps": 100}))
    found = {}
    for stage, schedule in zip(made.stages, made.schedules, strict=True):
        for each in made.stages:
            each.objective.float()  # data are, and what earlier stages make of them
        if stage.before:
            stage.before()
        x = stage.training_data(made.dataset.train.x, torch.device("cpu"))[:BATCH]
        for each in made.stages:
            each.objective.to(dtype).train()  # a stage may hold another's networks
        label = name if len(made.stages) == 1 else f"{name}, {stage.name}"
        found[label] = _difference(stage, schedule, x.to(dtype), compile)
    return found


def _difference(stage: Stage, schedule: Schedule, x: Tensor, compile: bool) -> float:
    objective = stage.objective
    passing = TrainingPass(objective, schedule, nats=stage.until is not None)
    weights = passing.arguments(schedule)
    objective.elbo.check(objective.model, objective.guide, x)
    before = {name: buffer.clone() for name, buffer in passing.named_buffers()}

    def gradients(graph: bool) -> dict[str, Tensor]:
        for name, buffer in passing.named_buffers():
            buffer.copy_(before[name])
        objective.zero_grad(set_to_none=True)
        with fixed_seed(1):
            if graph:
                captured(x, *weights)
            else:
                passing(x, *weights)["loss"].backward()
        return {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}

    eager = gradients(graph=False)
    captured = capture(passing, compile=compile)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaptureWarning)
        gradients(graph=True)  # the first call runs the eager pass as well
        ours = gradients(graph=True)
    if captured.eager is not None or captured.compile != compile or ours.keys() != eager.keys():
        return math.inf
    floor = FAINT * max(grad.norm() for grad in eager.values())
    return max(float((ours[name] - grad).norm() / grad.norm().clamp(min=floor)) for name, grad in eager.items())
