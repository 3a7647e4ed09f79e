"""A small VHP on the pendulum, its settings, and what tests of training share."""

import torch

import pyro_hvae as hv
from pyro_hvae import recipes
from pyro_hvae.data import pendulum
from pyro_hvae.runs.trackers import Tracker
from pyro_hvae.runs.train_config import TrainConfig

SMALL = {"hidden": (16,), "upper": (8,), "particles": 3, "posterior": "isotropic"}


def data(size=200):
    return pendulum(size=size).train.x[:]


def vhp(seed=0, **options):
    torch.manual_seed(seed)
    return recipes.build("vhp", data(), {**SMALL, **options})[0].objective


def rewo():
    return hv.Rewo(beta0=0.05, kappa=3.6, nu=2e-3, alpha=0.5)


CONFIG = TrainConfig(steps=60, batch_size=20, lr=1e-2, log_every=7, eval_every=20, save_every=25, seed=3)


class At(Tracker):
    """A tracker that does something at one step."""

    def __init__(self, step, action):
        self.at, self.action, self.done, self.warnings = step, action, 0, []

    def start(self, steps, done):
        self.done = done

    def stage(self, name, steps):
        pass

    def step(self, row):
        self.done += 1
        if self.done == self.at:
            self.action()

    def warn(self, message):
        self.warnings.append(message)

    def close(self):
        pass


def equal(a, b):
    """Bitwise equality of nested checkpoints."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) or (a.isnan().all() and b.isnan().all())
    return a == b
