"""Gradients of the captured graph against those of the eager pass, for every stage of every recipe under one seed.

In float64. The measure is the largest norm of a difference, over parameters, relative to the norm of the eager gradient. A
stage that cannot be captured counts as infinitely far off. Float32 is searched for such stages, too.
"""

import math
import warnings

import torch
from torch import Tensor

from benchmarks.timing import Measure
from pyro_hvae.compilation import CaptureWarning, capture
from pyro_hvae.recipes import RECIPES, Stage
from pyro_hvae.runs import resolve
from pyro_hvae.runtime.random_state import fixed_seed
from pyro_hvae.schedules import Schedule
from pyro_hvae.training import plan
from pyro_hvae.training.training_step import TrainingPass

BATCH = 16
BAR = 1e-10
SMALLEST = 1e-5  # of the largest gradient: the least norm to divide by. Biases before batch normalisation have 1e-17.


def measures(quick: bool) -> list[Measure]:
    """The largest difference of all stages (quick: without the compiler); the share of graphs in float32 (quick: left out)."""
    differences = differences_of_all_stages(torch.float64, compile=not quick)
    worst = max(differences, key=lambda name: differences[name])
    detail = {"stages": {name: value if math.isfinite(value) else None for name, value in differences.items()}}
    unit = f"relative, {'as recorded' if quick else 'compiled'} ({worst})"
    largest = Measure("gradients, captured against eager", differences[worst], unit, BAR, detail=detail)
    if quick:
        return [largest]
    differences = differences_of_all_stages(torch.float32, compile=True)
    eager = [name for name, value in differences.items() if value == math.inf]
    share, unit = 1 - len(eager) / len(differences), "share, float32, compiled"
    return [largest, Measure("stages that run as one graph", share, unit, 1.0, most=False, detail={"eager": eager})]


def differences_of_all_stages(dtype: torch.dtype, compile: bool) -> dict[str, float]:
    differences = {}
    for name in RECIPES:
        made = plan(resolve(name, "digits", train={"steps": 100}))
        for stage, schedule in zip(made.stages, made.schedules, strict=True):
            for each in made.stages:
                each.objective.float()  # as the data are, and the features that earlier stages make of them
            if stage.before:
                stage.before()
            x = stage.training_data(made.dataset.train.x, torch.device("cpu"))[:BATCH]
            for each in made.stages:
                each.objective.to(dtype).train()  # a stage may hold another's networks
            label = name if len(made.stages) == 1 else f"{name}, {stage.name}"
            differences[label] = difference(stage, schedule, x.to(dtype), compile)
    return differences


def difference(stage: Stage, schedule: Schedule, x: Tensor, compile: bool) -> float:
    objective = stage.objective
    eager_pass = TrainingPass(objective, schedule, nats=stage.until is not None)
    weights = eager_pass.arguments(schedule)
    objective.elbo.check(objective.model, objective.guide, x)
    before = {name: buffer.clone() for name, buffer in eager_pass.named_buffers()}

    def gradients(graph: bool) -> dict[str, Tensor]:
        for name, buffer in eager_pass.named_buffers():
            buffer.copy_(before[name])
        objective.zero_grad(set_to_none=True)
        with fixed_seed(1):
            if graph:
                captured(x, *weights)
            else:
                eager_pass(x, *weights)["loss"].backward()
        return {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}

    eager = gradients(graph=False)
    captured = capture(eager_pass, compile=compile)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaptureWarning)
        gradients(graph=True)  # the first call runs the eager pass as well
        ours = gradients(graph=True)
    if captured.eager is not None or captured.compile != compile or ours.keys() != eager.keys():
        return math.inf
    floor = SMALLEST * max(grad.norm() for grad in eager.values())
    return max(float((ours[name] - grad).norm() / grad.norm().clamp(min=floor)) for name, grad in eager.items())
