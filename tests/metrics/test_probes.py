"""The probes on codes that hold all, some or nothing of what is asked of them."""

import math

import numpy as np
import pytest
from sklearn.neural_network import MLPRegressor

from pyro_hvae.errors import ConfigError
from pyro_hvae.metrics import constant_probe, linear_probe, regression_probe

NAMES = ["x", "y", "size"]
GROUPS = {"position": ["x", "y"]}


def halves(z, y):
    n = len(z) * 4 // 5
    return z[:n], y[:n], z[n:], y[n:]


def labels(n, seed=0):
    """Positions in 0..64, sizes in 25..60."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(0, 64, (n, 2)), rng.uniform(25, 60, (n, 1))], 1)


def test_linear_and_nonlinear_targets_are_read_and_reported_in_label_units():
    y = labels(2000)
    mixed = y @ np.random.default_rng(1).normal(size=(3, 16))
    curved = np.stack([np.cos(y[:, 0] / 16), np.sin(y[:, 0] / 16), (y[:, 1] / 64) ** 3, np.exp(y[:, 2] / 60)], 1)
    nothing = constant_probe(halves(y, y)[1], halves(y, y)[3], NAMES, GROUPS)
    assert nothing.rmse["x"] == pytest.approx(64 / math.sqrt(12), rel=0.1)
    assert nothing.mae["x"] == pytest.approx(16, rel=0.1)
    for z in (mixed, curved):
        found = regression_probe(*halves(z, y), NAMES, groups=GROUPS)
        assert set(found.rmse) == set(found.mae) == {"x", "y", "size", "position"}
        for name in found.rmse:
            assert found.rmse[name] < 0.1 * nothing.rmse[name] and found.mae[name] < 0.1 * nothing.mae[name]


def test_a_product_needs_the_hidden_layer():
    z = np.random.default_rng(2).uniform(-1, 1, (2000, 2))
    y = 10 * z[:, :1] * z[:, 1:]
    nothing = constant_probe(y[:1600], y[1600:], ["product"]).rmse["product"]
    assert regression_probe(*halves(z, y), ["product"]).rmse["product"] < 0.1 * nothing
    assert regression_probe(*halves(z, y), ["product"], hidden=1).rmse["product"] > 0.7 * nothing


def test_codes_that_know_nothing_are_at_the_level_of_the_constant():
    y = labels(1000)
    parts = halves(np.full((1000, 3), 0.7), y)
    nothing = constant_probe(parts[1], parts[3], NAMES)
    constant = regression_probe(*parts, NAMES, epochs=50)
    for name in NAMES:
        assert constant.rmse[name] == pytest.approx(nothing.rmse[name], rel=0.02)
        assert constant.mae[name] == pytest.approx(nothing.mae[name], rel=0.02)
    noise = regression_probe(*halves(np.random.default_rng(3).normal(size=(1000, 3)), y), NAMES, epochs=50)
    assert all(noise.rmse[name] > 0.97 * nothing.rmse[name] for name in NAMES)


def test_a_code_that_knows_the_size_alone():
    y = labels(1500)
    parts = halves(y[:, 2:] + 0.1 * np.random.default_rng(4).normal(size=(1500, 1)), y)
    nothing = constant_probe(parts[1], parts[3], NAMES, GROUPS)
    found = regression_probe(*parts, NAMES, epochs=60, groups=GROUPS)
    assert found.rmse["size"] < 0.1 * nothing.rmse["size"]
    assert found.rmse["position"] > 0.97 * nothing.rmse["position"]


def test_errors_by_hand():
    train, test = np.array([[1.0, 0.0], [3.0, 4.0]]), np.array([[2.0, 5.0], [6.0, 2.0]])
    found = constant_probe(train, test, ["x", "y"], {"both": ["x", "y"]})  # errors 0, 4 and 3, 0
    assert found.rmse == {"x": math.sqrt(8), "y": math.sqrt(4.5), "both": 2.5}
    assert found.mae == {"x": 2.0, "y": 1.5, "both": 1.75}


def test_standardising_makes_units_a_matter_of_the_report():
    y = labels(400)
    z = np.tanh(y @ np.random.default_rng(5).normal(size=(3, 4)) / 64)
    plain = regression_probe(*halves(z, y), NAMES, epochs=10)
    other = regression_probe(*halves(z * [4, 0.25, 1024, 1], y * [2, 0.5, 64]), NAMES, epochs=10)
    for errors, scaled in ((plain.rmse, other.rmse), (plain.mae, other.mae)):
        assert scaled == pytest.approx({"x": 2 * errors["x"], "y": errors["y"] / 2, "size": 64 * errors["size"]}, rel=1e-6)


def test_it_runs_all_epochs_without_penalty_or_early_stop(monkeypatch):
    fitted = []
    fit = MLPRegressor.fit
    monkeypatch.setattr(MLPRegressor, "fit", lambda self, *a: fitted.append(self) or fit(self, *a))
    z = np.random.default_rng(6).normal(size=(60, 2))
    regression_probe(*halves(z, np.ones((60, 1))), ["one"], hidden=7, epochs=40)  # nothing to learn after a few
    (network,) = fitted
    assert network.n_iter_ == 40 and [weights.shape for weights in network.coefs_] == [(2, 7), (7, 1)]
    assert network.alpha == 0 and not network.early_stopping
    assert (network.activation, network.solver, network.learning_rate_init) == ("relu", "adam", 1e-3)
    regression_probe(*halves(np.repeat(z, 10, 0), np.ones((600, 1))), ["one"], epochs=2)
    assert fitted[1].batch_size == 128 and fitted[1].t_ == 2 * 480


def test_the_seed_decides_and_no_global_state():
    y = labels(100)
    state = np.random.get_state()[1].copy()
    first, again, other = (regression_probe(*halves(y, y), NAMES, epochs=3, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert np.array_equal(np.random.get_state()[1], state)


def test_two_gaussian_classes_have_the_accuracy_of_the_best_classifier():
    rng = np.random.default_rng(7)
    classes = rng.integers(0, 2, 20_000)
    z = rng.normal(size=(20_000, 3))
    z[:, 0] += 2 * classes
    best = 0.5 * (1 + math.erf(1 / math.sqrt(2)))
    found = linear_probe(*halves(z, classes))
    assert abs(found.accuracy - best) < 4 * math.sqrt(best * (1 - best) / 4000)
    assert found.chance == max(np.mean(classes[16_000:]), 1 - np.mean(classes[16_000:]))
    assert linear_probe(*halves(z / 4096 + 8, classes)).accuracy == pytest.approx(found.accuracy, abs=1e-3)


def test_classes_that_no_line_parts():
    rng = np.random.default_rng(8)
    z = rng.choice([-1.0, 1.0], size=(8000, 2))
    xor = (z[:, 0] * z[:, 1] > 0).astype(int)
    assert linear_probe(*halves(z + 0.1 * rng.normal(size=z.shape), xor)).accuracy < 0.6
    assert linear_probe(*halves(np.c_[z, z[:, 0] * z[:, 1]], xor)).accuracy == 1.0


def test_chance_is_the_largest_class_and_a_useless_code_predicts_it():
    z, classes = np.zeros((100, 1)), np.array([0] * 10 + [2] * 70 + [5] * 20)
    assert linear_probe(z, classes, z, classes) == linear_probe(z + 1, classes, z + 1, classes)
    found = linear_probe(z, classes, z, classes)
    assert (found.accuracy, found.chance) == (0.7, 0.7)
    assert linear_probe(z, classes, z[:30], classes[-30:]).chance == pytest.approx(2 / 3)


def test_bad_input():
    z, y = np.random.default_rng(9).normal(size=(20, 2)), labels(20)
    with pytest.raises(ConfigError, match="20 codes and 19 answers"):
        regression_probe(z, y[1:], z, y, NAMES)
    with pytest.raises(ConfigError, match="2 features, test codes 1"):
        regression_probe(z, y, z[:, :1], y, NAMES)
    with pytest.raises(ConfigError, match="finite codes"):
        regression_probe(z, y, z * np.inf, y, NAMES)
    with pytest.raises(ConfigError, match="finite targets"):
        regression_probe(z, y * np.nan, z, y, NAMES)
    with pytest.raises(ConfigError, match="codes of shape"):
        regression_probe(z[:, 0], y, z[:, 0], y, NAMES)
    for names in (["x", "y"], ["x", "y", "y"]):
        with pytest.raises(ConfigError, match="3 training and 3 test targets"):
            regression_probe(z, y, z, y, names)
    with pytest.raises(ConfigError, match="Did you mean 'size'"):
        regression_probe(z, y, z, y, NAMES, groups={"all": ["x", "sizes"]})
    for group in ({"x": ["y"]}, {"none": []}):
        with pytest.raises(ConfigError, match="name of its own"):
            constant_probe(y, y, NAMES, group)
    for wrong in ({"hidden": 0}, {"epochs": 0}):
        with pytest.raises(ConfigError, match="a hidden unit and an epoch"):
            regression_probe(z, y, z, y, NAMES, **wrong)
    classes = np.arange(20) % 2
    with pytest.raises(ConfigError, match="two classes, got only 0"):
        linear_probe(z, 0 * classes, z, classes)
    with pytest.raises(ConfigError, match="20 codes and 5 answers"):
        linear_probe(z, classes, z, classes[:5])
    with pytest.raises(ConfigError, match="finite codes"):
        linear_probe(z * np.nan, classes, z, classes)
    with pytest.raises(ConfigError, match="integers of shape"):
        linear_probe(z, classes / 2, z, classes)
