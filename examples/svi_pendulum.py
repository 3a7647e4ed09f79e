"""The VHP pair under stock `pyro.infer.SVI`: the bound is ours, the trainer is Pyro's.

A schedule such as REWO needs the constraint of every batch; `ScheduledELBO` gives it to a schedule inside SVI.

    python examples/svi_pendulum.py
"""

import argparse

import pyro
import torch

import pyro_hvae as hv
from pyro_hvae.objectives.pyro_svi import ScheduledELBO
from pyro_hvae.recipes import RECIPES


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fast", action="store_true", help="a few steps only")
    steps = 300 if parser.parse_args().fast else 5_000

    torch.set_num_threads(1)
    pyro.set_rng_seed(0)
    x = hv.DATASETS["pendulum"]().train.x[:]
    (stage,) = RECIPES["vhp"].build(x, posterior="isotropic")
    pair = stage.objective

    schedule = hv.Rewo(beta0=0.05, kappa=1.095, nu=2e-3)
    elbo = ScheduledELBO(pair.elbo, schedule, pair.reconstruction_parameters(x))
    # for_svi registers the parameters: on plain modules SVI runs and trains nothing, silently.
    svi = pyro.infer.SVI(*hv.for_svi(pair.model, pair.guide), pyro.optim.Adam({"lr": 1e-3}), elbo)
    for step in range(1, steps + 1):
        loss = svi.step(x[torch.randint(len(x), (64,))])
        if step % (steps // 10) == 0:
            phase = "initial" if schedule.initial else "main"
            print(f"step {step}: loss {loss:.3f}, beta {schedule.beta:.3f}, C {schedule.average:.3f}, {phase} phase")
    error = (hv.reconstruct(pair.model, pair.guide, x[:500]) - x[:500]).square().mean()
    print(f"reconstruction error: {error:.5f} (mean square per pixel)")


if __name__ == "__main__":
    main()
