"""Runs of a few steps of every kind, for tests of what is exported, opened again and handed over."""

from pathlib import Path

import numpy as np
import torch
from conditional_runs import write_table

import pyro_hvae as hv
from pyro_hvae.runs import open_run, resolve
from pyro_hvae.runtime import fixed_seed
from pyro_hvae.training import train

RANDOM = np.random.default_rng(0)
ARRAYS = {
    "images": RANDOM.integers(0, 256, (60, 1, 8, 8), dtype=np.uint8),
    "counts": RANDOM.poisson(3, (60, 5)).astype(np.float32),
    "unit": RANDOM.uniform(0.1, 0.9, (60, 5)).astype(np.float32),
    "levels": RANDOM.integers(4, size=(60, 5)).astype(np.float32),
    "real": 0.3 * RANDOM.normal(size=(60, 5)),
}


def write_data(folder):
    for name, values in ARRAYS.items():
        np.save(folder / f"{name}.npy", values)
    write_table(folder / "holes.csv", 0.2)


def train_tiny(recipe, data, out, options="", steps=4):
    """A run of a few steps on a file or a named data set; options as typed after -o."""
    typed = dict(option.split("=", 1) for option in options.split())
    settings = {"steps": steps, "batch_size": 20, "device": "cpu", "log_every": 2, "eval_every": 2, "compile": False}
    data = f"./{data}" if Path(data).exists() else data
    train(resolve(recipe, data, options=typed, train=settings), out)
    return out


def assert_same_pair(one, other):
    """Two runs, given by path, answer alike bit for bit, the second opened without its data."""
    trained, exported = open_run(one), open_run(other)
    test = trained.dataset.test.x
    x, view = test[:6], trained.view_of(test)[:6]
    answers = []
    for run in (trained, exported):
        with fixed_seed(1):
            codes = hv.latents(run.guide, x)
        with fixed_seed(1):
            mean = hv.reconstruct(run.model, run.guide, x)
        values = [*codes.values(), mean]
        if run.experiment.recipe_options.get("code") != "point":  # of which there are no importance weights
            with fixed_seed(1):
                values.append(hv.log_likelihood(run.objective.model, run.objective.guide, view, 10))
        answers.append(values)
    assert all(map(torch.equal, *answers))
    given = {condition.key: torch.ones(4, condition.width) for condition in exported.conditions}
    draws = []
    for run in (trained, exported):
        with fixed_seed(2):
            draws.append(hv.generate(run.model, 4, given=given)["x"])
    assert torch.equal(*draws)
