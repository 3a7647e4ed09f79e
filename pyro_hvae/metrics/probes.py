"""Probes: errors of a small network, or a linear classifier, that predicts factors from a code (Sahoo et al. 2020)."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

from pyro_hvae.errors import ConfigError, require_known


@dataclass(frozen=True)
class RegressionProbe:
    """Held-out errors in the units of the labels, by the name of a target or of a group of targets.

    Attributes:
        rmse: root mean squared errors. mae: mean absolute errors. For a group, means are over the data and its targets.
    """

    rmse: dict[str, float]
    mae: dict[str, float]


@dataclass(frozen=True)
class LinearProbe:
    """Held-out accuracy of a linear classifier; `chance` is the largest share of a class in the test labels."""

    accuracy: float
    chance: float


def regression_probe(
    train_codes: np.ndarray,
    train_targets: np.ndarray,
    test_codes: np.ndarray,
    test_targets: np.ndarray,
    names: Sequence[str],
    hidden: int = 64,
    epochs: int = 200,
    seed: int = 0,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> RegressionProbe:
    r"""Regression of targets, such as position and size, on a code by a network of one hidden layer.

    $\hat y = W_2 \max(0, W_1 z + b_1) + b_2$ for all targets at once, least squares by Adam (step 1e-3, batches of 128) for a
    fixed number of epochs without weight decay or early stopping. Codes and targets are standardised by the training data;
    errors are in label units, $\sqrt{E (\hat y - y)^2}$ and $E|\hat y - y|$.

    Sahoo et al. only give "one hidden layer" and the squared error; width, step, epochs and standardising are ours. Errors of a
    group are per coordinate (ours, too): the RMSE of a distance in the plane is $\sqrt 2$ times that of a position. Controls
    are the same function of other codes, such as the mean colours of the images (N, 3), and `constant_probe`.

    Arguments:
        train_codes, test_codes: (n, D). train_targets, test_targets: (n, T), in label units. names: of the T targets.
        groups: group name -> names of its targets, such as {"position": ["x", "y"]}.

    Raises:
        ConfigError: for lengths or names that do not fit, values that are not finite, or no hidden unit or epoch.

    >>> z = np.random.default_rng(0).normal(size=(400, 2))
    >>> probe = regression_probe(z[:300], 64 * z[:300], z[300:], 64 * z[300:], ["x", "y"], groups={"position": ["x", "y"]})
    >>> sorted(probe.rmse), probe.rmse["position"] < 8
    (['position', 'x', 'y'], True)
    """
    if hidden < 1 or epochs < 1:
        raise ConfigError(f"the regression probe needs a hidden unit and an epoch, got hidden={hidden}, epochs={epochs}.")
    train, test = _check_codes(train_codes, test_codes, train_targets, test_targets)
    wanted, truth, columns = _check_targets(train_targets, test_targets, names, groups or {})
    codes, targets = StandardScaler().fit(train), StandardScaler().fit(wanted)
    network = MLPRegressor(
        hidden_layer_sizes=(hidden,),
        batch_size=min(128, len(train)),  # pyright: ignore[reportArgumentType]
        learning_rate_init=1e-3,
        alpha=0.0,
        max_iter=epochs,
        n_iter_no_change=epochs,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # by design it runs all epochs
        standardised = np.asarray(targets.transform(wanted))
        network.fit(codes.transform(train), standardised if len(names) > 1 else standardised[:, 0])
    predicted = np.reshape(network.predict(codes.transform(test)), truth.shape)
    return _errors(targets.inverse_transform(predicted), truth, columns)


def constant_probe(
    train_targets: np.ndarray,
    test_targets: np.ndarray,
    names: Sequence[str],
    groups: Mapping[str, Sequence[str]] | None = None,
) -> RegressionProbe:
    """Errors of the training mean, the best prediction from a code without information.

    >>> constant_probe(np.array([[0.0], [2.0]]), np.array([[1.0], [4.0]]), ["x"]).mae
    {'x': 1.5}
    """
    wanted, truth, columns = _check_targets(train_targets, test_targets, names, groups or {})
    return _errors(np.broadcast_to(wanted.mean(0), truth.shape), truth, columns)


def linear_probe(
    train_codes: np.ndarray, train_labels: np.ndarray, test_codes: np.ndarray, test_labels: np.ndarray
) -> LinearProbe:
    """Accuracy of multinomial logistic regression on a code.

    Codes are standardised by the training data; the L2 penalty is that of scikit-learn (C = 1).

    Arguments:
        train_codes, test_codes: (n, D). train_labels, test_labels: (n,).

    Raises:
        ConfigError: for lengths that do not fit, codes that are not finite, or training labels of one class.

    >>> z = np.linspace(-1, 1, 40)[:, None]
    >>> linear_probe(z, z[:, 0] > 0, z, z[:, 0] > 0)
    LinearProbe(accuracy=1.0, chance=0.5)
    """
    train, test = _check_codes(train_codes, test_codes, train_labels, test_labels)
    labels, truth = np.asarray(train_labels), np.asarray(test_labels)
    for values in (labels, truth):
        if values.ndim != 1 or values.dtype.kind not in "iub":
            raise ConfigError(f"class labels are integers of shape (n,), got shape {values.shape} of {values.dtype}.")
    if len(np.unique(labels)) < 2:
        raise ConfigError(f"the linear probe needs two classes, got only {labels[0]} among the training labels.")
    codes = StandardScaler().fit(train)
    classifier = LogisticRegression(max_iter=1000).fit(codes.transform(train), labels)
    chance = np.unique(truth, return_counts=True)[1].max() / len(truth)
    return LinearProbe(float((classifier.predict(codes.transform(test)) == truth).mean()), float(chance))


def _check_finite(values: np.ndarray, what: str) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or not values.size:
        raise ConfigError(f"a probe needs {what} of shape (data, features), got shape {values.shape}.")
    if not np.isfinite(values).all():
        raise ConfigError(f"a probe needs finite {what}, got NaN or infinite values: check first where they come from.")
    return values


def _check_codes(
    train: np.ndarray, test: np.ndarray, train_answers: np.ndarray, test_answers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    train, test = _check_finite(train, "codes"), _check_finite(test, "codes")
    if train.shape[1] != test.shape[1]:
        raise ConfigError(f"training codes have {train.shape[1]} features, test codes {test.shape[1]}: encode both alike.")
    for codes, answers in ((train, train_answers), (test, test_answers)):
        if len(codes) != len(answers):
            raise ConfigError(f"a probe needs an answer for each code, got {len(codes)} codes and {len(answers)} answers.")
    return train, test


def _check_targets(
    train: np.ndarray, test: np.ndarray, names: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> tuple[np.ndarray, np.ndarray, dict[str, list[int]]]:
    """Checked targets, and the columns of every target and every group."""
    train, test = _check_finite(train, "targets"), _check_finite(test, "targets")
    if not train.shape[1] == test.shape[1] == len(set(names)) == len(names):
        raise ConfigError(
            f"{train.shape[1]} training and {test.shape[1]} test targets need as many different names, got {list(names)}."
        )
    columns = {name: [index] for index, name in enumerate(names)}
    for group, members in groups.items():
        if group in columns or not members:
            raise ConfigError(f"group '{group}' needs a name of its own and at least one target, got {list(members)}.")
        for name in members:
            require_known("target", name, names)
        columns[group] = [names.index(name) for name in members]
    return train, test, columns


def _errors(predicted: np.ndarray, truth: np.ndarray, columns: Mapping[str, list[int]]) -> RegressionProbe:
    errors = np.abs(predicted - truth)
    return RegressionProbe(
        rmse={name: float(np.sqrt(np.square(errors[:, some]).mean())) for name, some in columns.items()},
        mae={name: float(errors[:, some].mean()) for name, some in columns.items()},
    )
