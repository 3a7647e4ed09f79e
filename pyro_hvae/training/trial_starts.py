"""Trial starts: tries several initialisations on short runs and picks the one with the best validation bound."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyro

from pyro_hvae.data import Rows
from pyro_hvae.recipes import Stage
from pyro_hvae.runs import Experiment, TrainConfig
from pyro_hvae.runtime import fixed_seed, limit_threads, noise_seed, pick_device
from pyro_hvae.schedules import Schedule
from pyro_hvae.training.experiment_plan import Plan, plan
from pyro_hvae.training.session import Session, explain_batch_norm
from pyro_hvae.training.validation import choose_validation, validation_bound


def pick_start(experiment: Experiment, tell: Callable[[str], Any] = lambda text: None) -> Plan:
    """A fresh plan of the start with the best validation bound after the first tenth of the run; see `trial_bound`."""
    bounds = []
    for start in range(experiment.train.starts):
        built = plan(experiment, start)
        x, validation = built.dataset.train.x, built.dataset.validation.x
        value = trial_bound(built.stages[0], x, experiment.train, built.schedules[0], validation)
        bounds.append(value if math.isfinite(value) else -math.inf)
    best = max(range(len(bounds)), key=lambda i: bounds[i])
    shown = ", ".join(f"{value:.2f}" for value in bounds)
    tell(f"Tried {len(bounds)} starts over the first tenth of the run (validation bounds {shown}); training number {best + 1}.")
    return plan(experiment, best)


def trial_bound(stage: Stage, x: Rows, config: TrainConfig, schedule: Schedule, validation: Rows) -> float:
    """The validation bound (nats per datum) after the first tenth of a run of one stage; nothing of the run is kept.

    It uses no label and no test datum. A start whose bound lags has lost something for good, such as a direction of the second
    layer. The bound is not finite when the trial diverges.
    """
    device = pick_device(config.device)
    stage.objective.to(device)
    with (
        fixed_seed(noise_seed(config.seed)),
        limit_threads(config.threads),
        pyro.validation_enabled(False),
        pyro.get_param_store().scope(),
    ):
        settings = replace(config, compile=False, **stage.settings)  # too short a run to pay for a graph
        session = Session(stage.objective, stage.training_data(x, device), settings, schedule, config.steps)
        with explain_batch_norm([stage]):
            for _ in range(max(1, config.steps // 10)):
                session.step()
        return validation_bound(stage.objective, stage.validation_data(choose_validation(validation), device), config.seed)
