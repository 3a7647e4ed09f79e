"""A small VHP on the pendulum, its settings, and helpers for tests of training."""

import os
import signal

import torch

import pyro_hvae as hv
from pyro_hvae import recipes
from pyro_hvae.data import pendulum
from pyro_hvae.runs.checkpoints import load_checkpoint
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
    """A tracker that records what it is told, and calls a function at one step."""

    def __init__(self, step=0, action=None):
        self.at, self.action = step, action
        self.started, self.done, self.taken, self.short, self.stages, self.warnings = None, 0, 0, 0, [], []

    def start(self, steps, done):
        self.started, self.done = (steps, done), done

    def stage(self, name, steps):
        self.stages.append((name, steps, self.taken))

    def step(self, row):
        self.done, self.taken = self.done + 1, self.taken + 1
        if self.done == self.at:
            self.action()

    def shorten(self, steps):
        self.short += steps

    def warn(self, message):
        self.warnings.append(message)


class Killed(BaseException):
    """Ends a run as a kill does: nothing is saved."""


def kill():
    raise Killed


def interrupt(signum=signal.SIGINT):
    os.kill(os.getpid(), signum)


def checkpoint(run, which="last"):
    return load_checkpoint(run / f"checkpoints/{which}.pt")


def assert_same_run(one, other):
    """Two runs have the same checkpoints and metric rows, bit for bit."""
    assert all(equal(checkpoint(one, which), checkpoint(other, which)) for which in ("last", "best"))
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()


def equal(a, b):
    """Bitwise equality of nested checkpoints."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) or (a.isnan().all() and b.isnan().all())
    return a == b
