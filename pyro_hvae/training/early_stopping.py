"""Early stopping: the best validation bound so far, and for how many evaluations there was no better one."""

import math
from collections.abc import Mapping
from typing import Any

from pyro_hvae.errors import ConfigError
from pyro_hvae.runs import TrainConfig


class EarlyStopping:
    """Watches the validation bound of the last stage.

    Arguments:
        patience: number of evaluations in a row without a better bound that end the training; 0 never ends it.

    >>> stopping = EarlyStopping(patience=2)
    >>> [stopping.add(bound, step, settled=True) for step, bound in enumerate((-3.0, -2.0, -2.5, -2.0))]
    [True, True, False, False]
    >>> print(stopping.describe(3, 9))
    Stopped early at step 3 of 9: the validation bound has not risen for 2 evaluations; its best was -2.000 nats at step 1.
    """

    def __init__(self, patience: int) -> None:
        self.patience, self.best, self.at, self.waited = patience, -math.inf, 0, 0

    def add(self, bound: float, step: int, settled: bool) -> bool:
        """Whether a bound is the best so far.

        Arguments:
            settled: whether the schedule is past its warm-up or initial phase; evaluations before do not count as waited.
        """
        if better := bound > self.best:
            self.best, self.at = bound, step
        self.waited = 0 if better or not settled else self.waited + 1
        return better

    @property
    def reached(self) -> bool:
        return 0 < self.patience <= self.waited

    def describe(self, step: int, steps: int) -> str:
        """Where and why the training ended before its last step."""
        return (
            f"Stopped early at step {step:,} of {steps:,}: the validation bound has not risen for {self.waited} evaluations; "
            f"its best was {self.best:.3f} nats at step {self.at:,}."
        )

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_at": self.at, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the state from the content of a checkpoint; older ones hold the best bound alone."""
        self.best, self.at, self.waited = state["best"], state.get("best_at", 0), state.get("waited", 0)


def require_validation(config: TrainConfig, has_validation: bool) -> None:
    """Raises `ConfigError` for a patience without data whose bound could end the training."""
    if config.patience and not has_validation:
        raise ConfigError(
            f"patience={config.patience} waits for a better bound of validation data, and there are none. Hand some over "
            "(hv.fit(..., validation=x)), or leave patience out."
        )


def describe_idle_patience(config: TrainConfig, steps: int) -> str:
    """A warning where so many evaluations do not fit into the steps of the last stage, else an empty text.

    The first evaluation is the best so far, and one at the last step ends nothing.

    >>> describe_idle_patience(TrainConfig(steps=1000, eval_every=100, patience=8), 1000)
    ''
    """
    needed = (config.patience + 1) * config.eval_every + 1
    if not config.patience or steps >= needed:
        return ""
    return (
        f"patience={config.patience} cannot end a training of {steps:,} steps: with an evaluation every {config.eval_every:,} "
        f"steps (eval_every) it takes {needed:,} or more. Lower patience or eval_every."
    )
