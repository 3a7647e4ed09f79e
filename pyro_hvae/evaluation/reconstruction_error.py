"""Error and distortion of reconstructed test data."""

from typing import Any

import torch
from torch.special import entr

from pyro_hvae.data import Batch, x_of
from pyro_hvae.inference import ROWS, bound, likelihood_name, reconstruct
from pyro_hvae.objectives import ELBO
from pyro_hvae.runs import OpenRun, draw_given
from pyro_hvae.runtime import fixed_seed


@torch.no_grad()
def reconstruction(run: OpenRun, seed: int = 0) -> dict[str, Any]:
    """Error of reconstructed test data: squared per pixel at the posterior means, and distortion with drawn latents in nats.

    The distortion is -E log p(x | z) per datum. Under a Bernoulli likelihood it is the summed cross-entropy, the error axis of
    the pro-VLAE paper's figures; the entropy of grey targets is its lower limit `entropy_floor`, and `excess` the rest. Of
    incomplete data all are of the observed entries.
    """
    test = run.dataset.test.x.to(run.device)
    squares, entries, entropy = 0.0, 0, 0.0
    with fixed_seed(seed):
        likelihood = likelihood_name(run.model, draw_given(run, 1))
    bernoulli = likelihood == "Bernoulli"
    for data in test.split(ROWS):
        x, observed = x_of(data), data.observed if isinstance(data, Batch) else None
        errors = (reconstruct(run.model, run.guide, data) - x).square().cpu().double()
        squares += (errors if observed is None else errors[observed.cpu()]).sum().item()
        entries += x.numel() if observed is None else int(observed.sum())
        if bernoulli:  # 0, which stands for what is missing, has no entropy
            entropy += (entr(x) + entr(1 - x)).cpu().double().sum().item()
    with fixed_seed(seed):
        distortion = bound(ELBO(), run.model, run.guide, test)["distortion"]
    mse = squares / entries
    floor = entropy / len(test) if bernoulli else None
    return {
        "mse": mse,
        "rmse": mse**0.5,
        "distortion": distortion,
        "entropy_floor": floor,
        "excess": None if floor is None else distortion - floor,
        "likelihood": likelihood,
        "space": run.dataset.space,
        "n": len(test),
        "units": "nats per datum; mse per pixel",
    }
