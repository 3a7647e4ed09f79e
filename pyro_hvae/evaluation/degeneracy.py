"""Whether training features along with what predicts them has made them constant."""

from typing import Any

import torch

from pyro_hvae.errors import ConfigError
from pyro_hvae.evaluation.probes import TARGETS, regression
from pyro_hvae.opened import OpenRun

__all__ = ["CONSTANT", "degeneracy", "feature_variance"]

CONSTANT = 1e-3  # of the variance that features had
BLIND = 0.9  # of the error of a constant guess


def feature_variance(run: OpenRun, images: int = 200, seed: int = 0) -> dict[str, Any]:
    """The variance of a run's features over all places of all of some test images, beside that when they began to be trained.

    The latter is over the images (training data) that stage two began with.

    Raises:
        ConfigError: for a run without features that its last stage trains, or whose features were constant from the start.
    """
    if images < 1:
        raise ConfigError(f"images={images}: a variance over patches needs at least one image. Example: -o images=200.")
    if not run.stage.pixels or not run.stage.pixels.variance:
        raise ConfigError(
            f"'{run.directory.path}' trains no features while it predicts them, so they cannot degenerate. That is what "
            "'train texture -o joint=features' and '-o joint=pixels' do."
        )
    test = run.dataset.test.x
    some = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))[:images]
    now, before = run.stage.pixels.variance(test[some])
    if not before:
        raise ConfigError(
            f"the features of '{run.directory.path}' had no variance to begin with: no textures were learned, or all alike."
        )
    return {"variance": now, "pretrained": before, "ratio": now / before, "images": len(some)}


def degeneracy(run: OpenRun, images: int = 200, train: int = 2_000, test: int = 1_000, seed: int = 0) -> dict[str, Any]:
    """Whether end-to-end training has found the degenerate solution (Sahoo 2020, challenge 3): features that are constant.

    A constant map is predicted without error by a code that says nothing, so that both terms of the loss go to zero. The
    criterion is ours: the variance of features over patches is below a thousandth of what it was, and where position is known,
    its error when read off the code is above nine tenths of that of a constant guess.

    Arguments:
        images: test images whose patches the variance is over. train, test: data of the probe (see `regression`).
    """
    found = feature_variance(run, images, seed)
    degenerate = found["ratio"] < CONSTANT
    if any(all(name in run.dataset.train.factors for name in columns) for columns in TARGETS["position"]):
        probe = regression(run, train, test, seed=seed)
        found |= {"rmse_position": probe["rmse"]["position"], "constant": probe["controls"]["constant"]["rmse"]["position"]}
        degenerate = degenerate and found["rmse_position"] > BLIND * found["constant"]
    return {**found, "degenerate": degenerate}
