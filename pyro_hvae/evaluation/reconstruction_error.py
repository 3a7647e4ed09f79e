"""Error and distortion of reconstructed test data."""

from typing import Any

import torch
from torch.special import entr

from pyro_hvae.inference import ROWS, bound, likelihood_name, reconstruct
from pyro_hvae.objectives import ELBO
from pyro_hvae.runs import OpenRun
from pyro_hvae.runtime import fixed_seed


@torch.no_grad()
def reconstruction(run: OpenRun, seed: int = 0) -> dict[str, Any]:
    """Error of reconstructed test data: squared per pixel at the posterior means, and distortion with drawn latents in nats.

    The distortion is -E log p(x | z) per datum. Under a Bernoulli likelihood it is the summed cross-entropy, the error axis of
    the pro-VLAE paper's figures; the entropy of grey targets is its lower limit `entropy_floor`, and `excess` the rest.
    """
    test = run.dataset.test.x.to(run.device)
    squares, entropy = 0.0, 0.0
    bernoulli = likelihood_name(run.model) == "Bernoulli"
    for x in test.split(ROWS):
        squares += (reconstruct(run.model, run.guide, x) - x).square().cpu().double().flatten(1).mean(1).sum().item()
        if bernoulli:
            entropy += (entr(x) + entr(1 - x)).cpu().double().sum().item()
    with fixed_seed(seed):
        distortion = bound(ELBO(), run.model, run.guide, test)["distortion"]
    floor = entropy / len(test) if bernoulli else None
    return {
        "mse": squares / len(test),
        "rmse": (squares / len(test)) ** 0.5,
        "distortion": distortion,
        "entropy_floor": floor,
        "excess": None if floor is None else distortion - floor,
        "likelihood": likelihood_name(run.model),
        "space": run.dataset.space,
        "n": len(test),
        "units": "nats per datum; mse per pixel",
    }
