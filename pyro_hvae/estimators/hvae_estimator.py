"""The estimator `HVAE`: any recipe in pipelines and grid searches of scikit-learn."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from pyro_hvae.errors import ConfigError, FewEffectiveSamplesWarning, python_advice
from pyro_hvae.estimators.fitting import WORDS, resolve_options, train_on_rows
from pyro_hvae.inference import describe_few_effective_samples, generate, importance_weights, latents
from pyro_hvae.runs import OWN
from pyro_hvae.runtime import fixed_seed
from pyro_hvae.training import MakeOptimizer, check_optimizer

FLOATS: Any = (np.float64, np.float32)


class HVAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, BaseEstimator):
    r"""A recipe as a transformer and density estimator of rows X (n, d): codes, samples and log-likelihoods.

    Whatever the scale of the columns, they are standardised before, and values are given in the units of X. The defaults are
    the recipe's own, but a Gaussian's or Student-t's sigma is learned (from 1), and a schedule whose kappa depends on the data
    (`rewo`, `geco`) is replaced by a warm-up unless it is asked for. NaN are missing entries: `transform` gives the code of
    what is known, `score_samples` its log-likelihood. A guide that has seen no missing entry reads one as the column's mean.

    All noise is that of `random_state`: calls repeat, and the value of a row does not depend on the rows beside it.

    Arguments:
        recipe: a name of `pyro-hvae list recipes`. schedule: one of `pyro-hvae list schedules`; None is the recipe's.
        steps, batch_size, learning_rate, optimizer, device, compile: see `TrainConfig`; optimizer may also be a function of the
            parameters (see `fit`).
        patience: end after so many evaluations of the bound of held-out rows (one every `eval_every` = 50 steps) without a
            better one, and keep the weights of the best; 0 trains on all rows, for all steps. validation: the share held out.
        standardize: whether columns are brought to mean 0 and standard deviation 1; None does where the likelihood is Gaussian,
            Laplace or Student-t.
        shape: of a datum, such as (1, 8, 8) for images as rows; None is (d,).
        score_particles: importance samples for each row in `score_samples`.
        random_state: a number, a `RandomState` or None. progress: show a bar.
        **options: of the recipe, the schedule and the training (`latent`, `likelihood`, `hidden`, `warmup`, `eval_every`, ...),
            checked when it is fitted. `get_params`, `clone` and grid searches know them.

    Attributes:
        history_: see `History`. n_iter_: steps. model_, guide_: the trained pair, of standardised data.
        layers_: site -> shape of its code, in the order of the columns of `transform`.
        n_features_in_, feature_names_in_: of X.

    Raises:
        ConfigError, DataError: when it is fitted, for options that do not fit the recipe or rows that are none of a likelihood.

    >>> from sklearn.datasets import load_wine
    >>> X = load_wine().data
    >>> hvae = HVAE("vae", latent=2, hidden=(16,), steps=20, random_state=0).fit(X)
    >>> hvae.transform(X).shape, list(hvae.get_feature_names_out())
    ((178, 2), ['z1_0', 'z1_1'])
    >>> hvae.inverse_transform(hvae.transform(X)).shape, hvae.sample(3).shape, hvae.score_samples(X[:4]).shape
    ((178, 13), (3, 13), (4,))
    """

    def __init__(
        self,
        recipe: str = "vhp",
        *,
        schedule: str | None = None,
        steps: int = 2000,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        optimizer: str | MakeOptimizer = "adam",
        patience: int = 10,
        validation: float = 0.1,
        standardize: bool | None = None,
        shape: Sequence[int] | None = None,
        score_particles: int = 500,
        device: str = "cpu",
        compile: bool = False,
        random_state: Any = None,
        progress: bool = False,
        **options: Any,
    ) -> None:
        self.recipe = recipe
        self.schedule = schedule
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.optimizer = optimizer
        self.patience = patience
        self.validation = validation
        self.standardize = standardize
        self.shape = shape
        self.score_particles = score_particles
        self.device = device
        self.compile = compile
        self.random_state = random_state
        self.progress = progress
        self._options = options

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters, with the options that were given."""
        return super().get_params(deep) | self._options

    def set_params(self, **params: Any) -> "HVAE":
        """Sets parameters; a name that is none of the constructor's own is an option."""
        own = set(self._get_param_names())
        super().set_params(**{name: value for name, value in params.items() if name in own})
        self._options = self._options | {name: value for name, value in params.items() if name not in own}
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @python_advice(WORDS)
    def fit(self, X: Any, y: Any = None) -> "HVAE":
        """Trains the recipe on rows X (n, d); y is not looked at."""
        self._require_parameters()
        state = self.random_state
        seed = state if isinstance(state, int | np.integer) else check_random_state(state).randint(2**31)
        own = None if isinstance(self.optimizer, str) else self.optimizer
        train = {
            "steps": self.steps,
            "batch_size": self.batch_size,
            "lr": self.learning_rate,
            "optimizer": OWN if own else self.optimizer,
            "patience": self.patience,
            "device": self.device,
            "compile": self.compile,
            "seed": seed,
        }
        scaled, names = self.standardize is not False, self._get_param_names()
        experiment = resolve_options(self.recipe, self.schedule, self._options, train, scaled, names)
        values = self._validate(X, ensure_min_samples=2)
        shape = tuple(self.shape) if self.shape is not None else values.shape[1:]
        if np.prod(shape) != values.shape[1]:
            raise ConfigError(f"a datum of shape={shape} has {np.prod(shape)} numbers, but a row of X has {values.shape[1]}.")
        columns = [*getattr(self, "feature_names_in_", ())]
        fitted = train_on_rows(experiment, values, shape, self.standardize, self.validation, columns, own, self.progress)
        self._seed, self._shape, self._stage = experiment.train.seed, shape, fitted.stage
        self._standardization = fitted.standardization
        pair = fitted.stage.pixels or fitted.stage.objective
        self.model_, self.guide_ = pair.model, pair.guide
        self.history_, self.n_iter_ = fitted.history, fitted.history[-1]["step"]
        codes = latents(self.guide_, self._to_data(values[:1]), mean=True)
        self.layers_ = {name: tuple(code.shape[1:]) for name, code in codes.items()}
        self._n_features_out = sum(code[0].numel() for code in codes.values())
        return self

    def _require_parameters(self) -> None:
        """Raises `ConfigError` for a parameter that is none, before data are looked at."""
        check_optimizer(self.optimizer)
        if not isinstance(self.validation, float | int | np.number) or not 0 < self.validation < 1:
            raise ConfigError(
                f"validation={self.validation!r} is the share of rows that are held out, above 0 and below 1, such as 0.1."
            )
        if self.standardize not in (None, False, True):
            raise ConfigError(f"standardize={self.standardize!r} is none of True, False and None (by the likelihood).")
        if self.shape is not None and not (
            isinstance(self.shape, Sequence | np.ndarray) and all(_is_count(size) for size in self.shape)
        ):
            raise ConfigError(f"shape={self.shape!r} is the shape of a datum. Example: shape=(1, 8, 8), or leave it out.")
        _require_count("score_particles", self.score_particles)

    def transform(self, X: Any) -> np.ndarray:
        """The posterior means of all layers side by side, (n, sum of the layers' widths), in the float type of X.

        The mean of a layer that depends on others is that given their means (see `latents`).
        """
        values = self._read(X)
        codes = latents(self.guide_, self._to_data(values), mean=True)
        return torch.cat([code.flatten(1) for code in codes.values()], 1).cpu().numpy().astype(values.dtype)

    def inverse_transform(self, Z: Any) -> np.ndarray:
        """E[x | z] for codes as `transform` gives them, (n, d) in the units of X."""
        check_is_fitted(self)
        values = _without_negative_strides(check_array(Z, dtype=FLOATS, input_name="Z"))
        if values.shape[1] != self._n_features_out:
            layers = ", ".join(f"{name} of shape {shape}" for name, shape in self.layers_.items())
            raise ConfigError(f"Z has {values.shape[1]} columns, but a code has {self._n_features_out}: {layers}.")
        parts = self._tensor(values).split([int(np.prod(shape)) for shape in self.layers_.values()], 1)
        fixed = {name: part.reshape(-1, *shape) for part, (name, shape) in zip(parts, self.layers_.items(), strict=True)}
        with fixed_seed(self._seed):
            return self._to_rows(generate(self.model_, len(values), fixed)["x"]).astype(values.dtype)

    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Draws of x with the noise of p(x | z), (n_samples, d) in the units of X; None takes the estimator's random state."""
        check_is_fitted(self)
        _require_count("n_samples", n_samples)
        seed = self._seed if random_state is None else check_random_state(random_state).randint(2**31)
        with fixed_seed(seed):
            return self._to_rows(generate(self.model_, int(n_samples), mean=False)["x"])

    def score_samples(self, X: Any) -> np.ndarray:
        r"""Importance-sampled $\log \hat p(x)$ of each row, (n,), in nats, of the known entries in the units of X.

        Each row has the same noise, so that its value is its own. The estimate is too low rather than too high: on average, it
        rises with `score_particles`.

        Raises:
            ConfigError: for a recipe that is trained on features of x, which has no density of x.

        Warns:
            FewEffectiveSamplesWarning: where few of the samples carry the estimate (see `log_likelihood`).
        """
        values = self._read(X)
        if self._stage.pixels:
            raise ConfigError(f"the recipe {self.recipe} is trained on {self._stage.pixels.space}, so it has no density of X.")
        more: dict[str, Any] = {"seed": self._seed, "alike": True}
        batches = importance_weights(self.model_, self.guide_, self._to_data(values), int(self.score_particles), **more)
        found, _, effective, half = map(torch.cat, zip(*batches, strict=True))
        few = describe_few_effective_samples(found, half, effective, self.score_particles)
        if few and self.score_particles >= 100:
            warnings.warn(few, FewEffectiveSamplesWarning, stacklevel=2)
        scores = found.cpu().numpy()
        if self._standardization is None:
            return scores
        return scores - ~np.isnan(values) @ np.log(self._standardization.scale)

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of `score_samples`, nats per row."""
        return float(self.score_samples(X).mean())

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """z1_0, z1_1, ...: the layer of each column of `transform` and its place in it."""
        super().get_feature_names_out(input_features)  # compares these names with those of X
        sizes = {name: int(np.prod(shape)) for name, shape in self.layers_.items()}
        return np.array([f"{name}_{i}" for name, size in sizes.items() for i in range(size)], dtype=object)

    def _read(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return self._validate(X, reset=False)

    def _validate(self, X: Any, **more: Any) -> np.ndarray:
        """Rows as scikit-learn checks them, with NaN."""
        return _without_negative_strides(validate_data(self, X, dtype=FLOATS, ensure_all_finite="allow-nan", **more))

    def _tensor(self, values: np.ndarray) -> Tensor:
        """Rows as a tensor of the type and on the device of the pair."""
        like = next(self._stage.objective.parameters())
        return torch.tensor(values).to(like.device, like.dtype)

    def _to_data(self, values: np.ndarray) -> Tensor:
        """Rows in the units of X -> data of the pair, (n, *shape)."""
        rows = torch.tensor(values, dtype=torch.float64)
        rows = self._standardization.apply(rows) if self._standardization else rows
        return self._tensor(rows.numpy()).reshape(-1, *self._shape)

    def _to_rows(self, x: Tensor) -> np.ndarray:
        """Data of the pair -> rows in the units of X, float64."""
        rows = x.detach().cpu().double().flatten(1)
        return (self._standardization.undo(rows) if self._standardization else rows).numpy()


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= 1


def _require_count(name: str, value: Any) -> None:
    if not _is_count(value):
        raise ConfigError(f"{name}={value!r} is no whole number of at least 1.")


def _without_negative_strides(values: Any) -> np.ndarray:
    """The array, or a copy of one that is a view backwards, which torch does not read."""
    return values.copy() if min(values.strides) < 0 else values
