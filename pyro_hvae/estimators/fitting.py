"""What an estimator trains: its options resolved into an experiment, its rows into data, both into a trained stage."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.data import Rows, Standardization
from pyro_hvae.errors import IN_PYTHON, ConfigError, DataError, require_known
from pyro_hvae.objectives import take_data
from pyro_hvae.recipes import RECIPES, Stage, build, check_values
from pyro_hvae.runs import Experiment, Tables, TrainConfig, parameters, resolve
from pyro_hvae.runtime import fixed_seed, pick_device
from pyro_hvae.schedules import SCHEDULES
from pyro_hvae.training import History, MakeOptimizer, fit

UNITLESS = ("gaussian", "laplace", "student-t")  # likelihoods of standardised data
LEARNS_SIGMA = ("gaussian", "student-t")
NEEDS_AIM = ("geco", "rewo")  # schedules whose kappa is of the data
# Options of the command line that an estimator has by another name, or not at all.
ELSEWHERE = {
    "lr": "Use learning_rate=.",
    "seed": "Use random_state=.",
    "starts": "Fit several of them, with other values of random_state.",
    "preset": "An estimator has the recipe's own defaults.",
    "condition": "Programs that are given y are trained by hv.fit, or by pyro-hvae train -o condition=NAME.",
    "size_factor": "Programs that are given sizes are trained by hv.fit, or by pyro-hvae train -o size_factor=NAME.",
}


# What messages say to the command line -> the same of an estimator.
WORDS = {
    **IN_PYTHON,
    r"(?<=ry )lr(?==)|^lr\b": "learning_rate",
    r"^seed\b": "random_state",
    r"--schedule ": "schedule=",
    r"=true\b": "=True",
    r"=false\b": "=False",
}


class Fitted(NamedTuple):
    """The last stage of a trained recipe, how its data were standardised, and its history."""

    stage: Stage
    standardization: Standardization | None
    history: History


def resolve_options(
    recipe: str,
    schedule: str | None,
    options: Mapping[str, Any],
    train: Mapping[str, Any],
    scaled: bool,
    own: Collection[str] = (),
) -> Experiment:
    """The experiment of an estimator.

    The defaults are those of the recipe, but for these: a Gaussian's or Student-t's sigma is learned, and starts at that of
    the data where they are standardised, a schedule that aims at a kappa, which is of the data, is a warm-up instead, and the
    bound is evaluated every 50 steps.

    Arguments:
        scaled: whether the data may be standardised. own: parameters of the estimator beside options.

    Raises:
        ConfigError: for an unknown recipe, schedule or option (the nearest is suggested), or a value that is none of it.
    """
    for name in options:
        if name in ELSEWHERE:
            raise ConfigError(f"{name}={options[name]!r} is no option of an estimator. {ELSEWHERE[name]}")
    tables = Tables(RECIPES, SCHEDULES, lambda name: lambda: None)
    if recipe in RECIPES:
        schedule = schedule or ("warmup" if RECIPES[recipe].schedule in NEEDS_AIM else RECIPES[recipe].schedule)
        require_known("schedule", schedule, SCHEDULES)
        known = set(own).union(*map(parameters, (RECIPES[recipe].build, SCHEDULES[schedule], TrainConfig)))
        for name in options:
            require_known(f"parameter of HVAE('{recipe}', schedule='{schedule}')", name, known - ELSEWHERE.keys())
        learns = "learn_sigma" in parameters(RECIPES[recipe].build) and likelihood_of(recipe, options) in LEARNS_SIGMA
        sigma = ({"sigma": 1.0} if scaled else {}) | {"learn_sigma": True} if learns else {}
        options = {"eval_every": 50} | sigma | dict(options)
    return resolve(recipe, "the rows of X", schedule, options, train, tables=tables)


def likelihood_of(recipe: str, options: Mapping[str, Any]) -> str:
    """The likelihood that a recipe has with some options."""
    default = parameters(RECIPES[recipe].build).get("likelihood")
    return str(options.get("likelihood", default.default if default else "gaussian"))


def train_on_rows(
    experiment: Experiment,
    x: np.ndarray,
    shape: Sequence[int],
    standardize: bool | None,
    validation: float,
    columns: Sequence[str] = (),
    optimizer: MakeOptimizer | None = None,
    progress: bool = False,
) -> Fitted:
    """Trains a recipe on the rows x (n, d), each of which is a datum of a shape; NaN are missing entries.

    Arguments:
        standardize: None where the likelihood is of real numbers. validation: the share of rows whose bound ends the training
            where there is a patience; all are trained on without one. columns: their names, for messages.
    """
    if empty := np.flatnonzero(np.isnan(x).all(0)).tolist():
        name = columns[empty[0]] if columns else empty[0]
        raise DataError(f"column {name} of X has no value in any row, so nothing can be learned of it. Leave it out.")
    assert experiment.recipe is not None
    likelihood, train = likelihood_of(experiment.recipe, experiment.recipe_options), experiment.train
    standardize = likelihood in UNITLESS if standardize is None else standardize
    rows = torch.tensor(x, dtype=torch.float64)
    by = Standardization.measure(Rows(rows, incomplete=True), columns) if standardize else None
    rows = by.apply(rows) if by else rows
    require_single(rows, columns, standardize=by is None and likelihood in UNITLESS)
    rows = rows.float().reshape(-1, *shape)
    held, rest = _split(len(rows), validation, train.seed) if train.patience else ([], [*range(len(rows))])
    data = take_data(rows[rest], wait=True)
    check_values(likelihood, data, columns if len(shape) == 1 else (), by is not None)
    with fixed_seed(train.seed):
        stages = build(experiment.recipe, data, experiment.recipe_options)
        schedules = [SCHEDULES[experiment.schedule](**(experiment.schedule_options | dict(s.schedule))) for s in stages]
    own = take_data(rows[held], wait=True) if held else None
    history = fit(stages, data, train, schedules, validation=own, optimizer=optimizer, experiment=experiment, progress=progress)
    # In float64 the codes of a row do not vary with the rows beside it; Apple's devices have none.
    if pick_device(train.device).type != "mps":
        for stage in stages:
            stage.objective.double()
            if stage.pixels:
                stage.pixels.model.double()
                stage.pixels.guide.double()
    return Fitted(stages[-1], by, history)


def require_single(rows: Tensor, columns: Sequence[str], standardize: bool) -> None:
    """Raises `DataError` for the first column (of n, d) that single precision, in which pairs are trained, does not hold.

    Arguments:
        standardize: whether to advise that.
    """
    single, more = rows.float(), ", or use standardize=True" if standardize else ""
    for i, (values, rounded) in enumerate(zip(rows.T, single.T, strict=True)):
        name, known = columns[i] if len(columns) else i, values[~values.isnan()]
        if rounded.isinf().any():
            why = f"has values up to {known.abs().max():.3g}, beyond the largest number of single precision, 3.4e+38"
        elif (known != known[0]).any() and (rounded[~values.isnan()] == rounded[~values.isnan()][0]).all():
            why = f"varies by {known.max() - known.min():.3g} around {known[0]:.6g}, less than single precision tells apart"
        else:
            continue
        raise DataError(f"column {name} of X {why}. Give it in another unit, or less a constant{more}.")


def _split(n: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Rows held out at random, and the others."""
    order = np.random.default_rng(seed).permutation(n)
    count = min(max(1, round(share * n)), n - 1)
    return order[:count].tolist(), order[count:].tolist()
