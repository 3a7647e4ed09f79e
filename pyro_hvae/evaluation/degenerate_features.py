"""Detects features that end-to-end training made constant, the degenerate solution."""

from typing import Any

import torch

from pyro_hvae.data import x_of
from pyro_hvae.errors import ConfigError
from pyro_hvae.evaluation.factor_probes import PROBED_FACTORS, regression
from pyro_hvae.inference import bound
from pyro_hvae.objectives import ELBO
from pyro_hvae.runs import OpenRun
from pyro_hvae.runtime import fixed_seed

CONSTANT = 1e-2  # share of the first variance, below which features are constant
SILENT = 0.1  # rate in nats, below which a latent says nothing


def feature_state(run: OpenRun, images: int = 200, seed: int = 0) -> dict[str, Any]:
    """Variance and rate of a run's features on some test images, and whether they are degenerate (see `degeneracy`).

    Returns:
        the `variance` of features over all places of all images, that over the training images when stage two began
        (`pretrained`), their `ratio`; the `rate` of z2 in nats per datum; `degenerate`.

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
    chosen = test.take(torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))[:images])
    now, before = run.stage.pixels.variance(x_of(chosen[:]))
    if not before:
        raise ConfigError(
            f"the features of '{run.directory.path}' had no variance to begin with: no textures were learned, or all alike."
        )
    with fixed_seed(seed):
        # Of z2 alone: in single precision a total beside 37,000 nats of density would have no third digit.
        rate = bound(ELBO(), run.objective.model, run.objective.guide, run.view_of(chosen))["rate"]["z2"]
    degenerate = now < CONSTANT * before and rate < SILENT
    values = {"variance": now, "pretrained": before, "ratio": now / before, "rate": rate}
    return values | {"degenerate": degenerate, "images": len(chosen)}


def degeneracy(run: OpenRun, images: int = 200, train: int = 2_000, test: int = 1_000, seed: int = 0) -> dict[str, Any]:
    """Tells whether end-to-end training has found the degenerate solution (Sahoo 2020, challenge 3): constant features.

    A code without information predicts a constant map without error, so both terms of the loss go to zero. The criterion is
    ours: features keep less than a hundredth of their variance over patches, and the rate of z2, an upper bound of the code's
    information, is below 0.1 nats. Where position is known, the result has its error when read off the posterior means, and
    that of a constant. The criterion ignores them: means may differ by far less than a posterior's width, and a probe
    standardises them.

    Arguments:
        images: number of test images. train, test: data of the probe (see `regression`).
    """
    values = feature_state(run, images, seed)
    if any(all(name in run.dataset.train.factors for name in columns) for columns in PROBED_FACTORS["position"]):
        probe = regression(run, train, test, seed=seed)
        values |= {"rmse_position": probe["rmse"]["position"], "constant": probe["controls"]["constant"]["rmse"]["position"]}
    return values
