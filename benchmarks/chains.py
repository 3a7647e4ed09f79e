"""Gibbs chains: a thousand at once, against the same chain written for one image, run for one after the other.

The pair is that of `hvae --dataset mnist` with the weights it starts from, which cost the same as trained ones. The other
side traces the guide and conditions the model with Pyro's own handlers, without validation; it runs ten chains, for a hundred
times as many would take a hundred times as long.
"""

import statistics
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from benchmarks.measures import Measure, device, interleaved
from pyro_hvae import gibbs, recipes
from pyro_hvae.objectives.elbo import Objective
from pyro_hvae.runtime.random_state import fixed_seed

__all__ = ["measures"]

CHAINS, STEPS, FEW = 1000, 10, 10


def measures(quick: bool) -> list[Measure]:
    with fixed_seed(0):
        x = torch.rand(CHAINS, 1, 28, 28)
        options = {"dims": (20, 20, 20), "hidden": (300, 300), "upper": (128, 128)}
        pair = recipes.build("hvae", x, options)[0].objective.to(device())
    x = x.to(device())
    with pyro.validation_enabled(False):
        taken = interleaved(
            {"ours": lambda: gibbs(pair.model, pair.guide, x, STEPS), "one by one": lambda: one_by_one(pair, x[:FEW])},
            rounds=3 if quick else 9,
            warm=1,
        )
    ours = [CHAINS * STEPS / seconds for seconds in taken["ours"]]
    theirs = [FEW * STEPS / seconds for seconds in taken["one by one"]]
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    rates = {"ours": statistics.median(ours), "one by one": statistics.median(theirs)}
    unit = "steps/s of 1,000 chains / of chains one by one"
    return [Measure("Gibbs chains", ratio, unit, 3.0, most=False, detail={"chain_steps_per_second": rates})]


@torch.no_grad()
def one_by_one(pair: Objective, x: Tensor) -> Tensor:
    """The last state of every chain, shape of x."""
    last = []
    for image in x.split(1):
        for _ in range(STEPS):
            z1: Any = poutine.trace(pair.guide).get_trace(image).nodes["z1"].get("value")
            image = poutine.condition(pair.model, {"z1": z1})(size=1)
        last.append(image)
    return torch.cat(last)
