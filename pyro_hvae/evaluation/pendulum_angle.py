"""Regression of the pendulum's angle on the posterior means."""

from dataclasses import asdict
from typing import Any

from pyro_hvae.errors import ConfigError
from pyro_hvae.evaluation.encoded_data import posterior_means
from pyro_hvae.metrics import angle_regression
from pyro_hvae.runs import Experiment, OpenRun

# Klushyn et al. 2019, table 1: (recipe, schedule) -> absolute error of the pendulum's angle in radians.
PUBLISHED_ANGLE = {
    ("vhp", "rewo"): "0.054",
    ("vhp", "geco"): "0.53",
    ("vhp", "warmup"): "0.20-0.31",
    ("vhp", "constant"): "0.49",
}


def published_angle(experiment: Experiment) -> str | None:
    """The paper's error for an experiment, None where it has none."""
    known = experiment.dataset == "pendulum" and not experiment.condition
    return PUBLISHED_ANGLE.get((experiment.recipe or "", experiment.schedule)) if known else None


def angle(run: OpenRun, train: int = 12_000) -> dict[str, Any]:
    """Test error of the angle regression on posterior means of z1, fitted on `train` training data."""
    data = run.dataset
    if "angle" not in data.train.factors:
        raise ConfigError(f"the metric 'angle' needs a data set with that factor, such as pendulum; '{data.name}' has none.")
    fitted = angle_regression(
        posterior_means(run, data.train.x[:train])["z1"],
        data.train.factors["angle"][:train].numpy(),
        posterior_means(run, data.test.x)["z1"],
        data.test.factors["angle"].numpy(),
    )
    return {
        **asdict(fitted),
        "paper": published_angle(run.experiment),
        "n_train": min(train, len(data.train)),
        "n_test": len(data.test),
    }
