"""Gibbs chains: a thousand at once against the same chain of one image after the other.

The pair is that of `hvae --dataset mnist` with its initial weights, which cost the same as trained ones. The other side traces
the guide and conditions the model with Pyro's own handlers, without validation. It runs ten chains: a hundred times as many
would take a hundred times as long.
"""

from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from benchmarks.timing import Measure, device, interleaved, ratio_of
from pyro_hvae import gibbs, recipes
from pyro_hvae.objectives.elbo import Objective
from pyro_hvae.runtime.random_state import fixed_seed

CHAINS, STEPS, FEW = 1000, 10, 10


def measures(quick: bool) -> list[Measure]:
    with fixed_seed(0):
        x = torch.rand(CHAINS, 1, 28, 28)
        options = {"dims": (20, 20, 20), "hidden": (300, 300), "upper": (128, 128)}
        pair = recipes.build("hvae", x, options)[0].objective.to(device())
    x = x.to(device())
    sides = {"ours": lambda: gibbs(pair.model, pair.guide, x, STEPS), "one by one": lambda: one_by_one(pair, x[:FEW])}
    with pyro.validation_enabled(False):
        times = interleaved(sides, rounds=3 if quick else 9, warm=1)
    ratio, detail = ratio_of(times, "one by one", "ours")
    chains = {"one by one": FEW, "ours": CHAINS}
    detail = {"chain_steps_per_second": {side: 1e3 * chains[side] * STEPS / ms for side, ms in detail["ms"].items()}}
    unit = "steps/s of 1,000 chains / of chains one by one"
    return [Measure("Gibbs chains", ratio * CHAINS / FEW, unit, 3.0, most=False, detail=detail)]


@torch.no_grad()
def one_by_one(pair: Objective, x: Tensor) -> Tensor:
    """The last state of every chain, in the shape of x."""
    last = []
    for image in x.split(1):
        for _ in range(STEPS):
            z1: Any = poutine.trace(pair.guide).get_trace(image).nodes["z1"].get("value")
            image = poutine.condition(pair.model, {"z1": z1})(size=1)
        last.append(image)
    return torch.cat(last)
