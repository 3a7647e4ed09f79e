"""A short run, judged by its validation bound and thrown away."""

from dataclasses import replace

import pyro
import torch

from pyro_hvae.data import Rows
from pyro_hvae.inference.bounds_and_active_units import bound
from pyro_hvae.objectives.elbo import Objective
from pyro_hvae.recipes import Stage
from pyro_hvae.runs.train_config import TrainConfig
from pyro_hvae.runtime.devices import limit_threads, pick_device
from pyro_hvae.runtime.random_state import fixed_seed
from pyro_hvae.schedules import Schedule
from pyro_hvae.training.session import Session

__all__ = ["placed", "trial", "validated"]


def trial(stage: Stage, x: Rows, config: TrainConfig, schedule: Schedule, validation: Rows) -> float:
    """The validation bound (nats per datum) after the first tenth of a run of one stage, of which nothing is kept.

    No label and no test datum is used: a start whose bound lags has lost something it will not find again, such as a
    direction of the second layer. Not a finite number when the trial diverges.
    """
    device = pick_device(config.device)
    stage.objective.to(device)
    with fixed_seed(config.seed), limit_threads(config.threads), pyro.validation_enabled(False):
        settings = replace(config, compile=False, **stage.settings)  # too short a run to pay for it
        session = Session(stage.objective, stage.learns_from(x, device), settings, placed(schedule, device), config.steps)
        with session.scope():
            for _ in range(max(1, config.steps // 10)):
                session.step()
        return validated(stage.objective, stage.judged_on(validation, device), config.seed)


def placed(schedule: Schedule, device: torch.device) -> Schedule:
    """The schedule on the device; MPS has no float64."""
    return (schedule.float() if device.type == "mps" else schedule).to(device)


def validated(objective: Objective, x: Rows, seed: int) -> float:
    """The bound of validation data, nats per datum, always under the same noise."""
    objective.eval()
    with fixed_seed(seed):
        value = bound(objective.elbo, objective.model, objective.guide, x)["elbo"]
    objective.train()
    return value
