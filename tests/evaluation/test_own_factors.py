"""Factors beside own data: which are classes, which identify the data, and which data judge a probe of them."""

import json

import numpy as np
import pyro.distributions as dist
import pytest
import torch

import pyro_hvae as hv
from pyro_hvae.data import class_numbers, find_source
from pyro_hvae.errors import ConfigError
from pyro_hvae.evaluation.disentanglement import _select_factors
from pyro_hvae.evaluation.encoded_data import encode_data, probe_parts
from pyro_hvae.evaluation.factor_probes import classes, regression
from pyro_hvae.recipes import Stage
from pyro_hvae.runs import Experiment, OpenRun, RunDirectory, TrainConfig

N = 120
GENERATOR = np.random.default_rng(0)
A, B = GENERATOR.integers(0, 3, N), GENERATOR.integers(0, 4, N)
X = np.stack([A + 0.1 * GENERATOR.normal(size=N), B + 0.1 * GENERATOR.normal(size=N)], 1).astype(np.float32)


def load(tmp_path, **arrays):
    np.savez(tmp_path / "own.npz", **arrays)
    return find_source(str(tmp_path / "own.npz")).load()


def open_ideal(data, tmp_path):
    """A run whose posterior means are the data themselves."""

    class Ideal(hv.Gaussian):
        def forward(self, *parents):
            return dist.Normal(parents[0], 0.05).to_event(1)

    objective = hv.ELBO()(hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, 2, (4,))), hv.BottomUp([Ideal(2, 2, (4,))]))
    experiment = Experiment(None, "own", "constant", TrainConfig())
    return OpenRun(RunDirectory(tmp_path / "run"), experiment, [Stage("main", objective)], 0, data)


def factors_of(run, *wanted):
    return _select_factors(run, encode_data(run, 10_000, 1, 0), [], wanted)


def test_identifiers_are_left_out_and_named_and_floats_of_few_values_are_classes(tmp_path):
    beside = {"a": A.astype(np.float64), "b": B * 0.25 - 1, "id": np.arange(N), "age": GENERATOR.normal(size=N)}
    run = open_ideal(load(tmp_path, x=X, **beside), tmp_path)
    used, excluded = factors_of(run)
    assert set(used) == {"a", "b"}
    with pytest.raises(ConfigError, match="no classes called 'class'; its factors of few values: a, b. Choose one"):
        classes(run)
    assert excluded == {"id": f"an identifier: {N} values", "age": "continuous"}
    levels = run.dataset.train.factors["b"]
    assert torch.equal(class_numbers(run.dataset, "b", levels), ((levels + 1) * 4).long())
    assert set(factors_of(run, "id", "a")[0]) == {"id", "a"}  # named, it is used
    assert factors_of(run, "a", "b")[1]["id"] == "not among those named"
    with pytest.raises(ConfigError, match="'age'.*continuous"):
        factors_of(run, "a", "age")
    with pytest.raises(ConfigError, match="no factor of own.npz called 'aa'"):
        factors_of(run, "aa", "b")


def test_an_identifier_does_not_change_the_gaps_of_an_ideal_code(tmp_path):
    from pyro_hvae.evaluation.disentanglement import mig, mig_sup

    alone = mig(open_ideal(load(tmp_path, x=X, a=A, b=B), tmp_path), samples=2000)
    run = open_ideal(load(tmp_path, x=X, a=A, b=B, id=np.arange(N)), tmp_path)
    beside = mig(run, samples=2000)
    assert beside["mig"] == alone["mig"] > 0.85 and "id" in beside["excluded"]
    assert mig_sup(run, samples=2000)["mig_sup"] == alone["mig_sup"] > 0.8
    assert mig(run, samples=2000, factors=("a", "b", "id"))["mig"] < 0.8


@pytest.mark.parametrize("kind", ["int64", "float32"])
def test_labels_of_every_type_of_number_are_classes(tmp_path, kind):
    run = open_ideal(load(tmp_path, x=X, digit=A.astype(kind)), tmp_path)
    assert classes(run, "digit")["accuracy"] == 1.0
    assert classes(run, "digit")["tested_on"] == "test data"


def test_integers_in_one_part_and_floats_in_another_are_the_same_classes(tmp_path):
    labels = A + 5
    parts = {"x_train": X[:90], "x_test": X[90:], "y_train": labels[:90], "y_test": labels[90:].astype(np.float64)}
    assert classes(open_ideal(load(tmp_path, **parts), tmp_path), "y")["accuracy"] == 1.0


def test_a_float_table_becomes_a_factor_a_column(tmp_path):
    """As in 3dshapes.h5: labels (n, 6), float64, of few values each."""
    images = GENERATOR.integers(0, 255, (N, 8, 8, 3), dtype=np.uint8)
    labels = np.stack([A / 10, B / 10, A * 2.0, B * 0.1 + 0.75, B * 1.0, A * 15.0 - 30], 1)
    data = load(tmp_path, images=images, labels=labels)
    assert list(data.train.factors) == [f"labels_{column}" for column in range(6)]
    run = open_ideal(data, tmp_path)
    assert all(class_numbers(data, name, values).unique().tolist() for name, values in run.dataset.train.factors.items())


def test_what_is_not_used_is_named_in_the_note(tmp_path, command):
    beside = {
        "names": np.arange(N).astype(str),
        "wide": np.zeros((N, 40)),
        "other": np.arange(7),
        "scalar": np.array(3),
    }
    beside |= {"holes": np.full((N, 2), np.nan), "cube": np.zeros((N, 2, 2))}
    note = load(tmp_path, x=X, digit=A, **beside).note
    for words in (
        "names (text)",
        "wide (40 columns)",
        f"other (7 values for {N} data)",
        f"scalar (one value for {N} data)",
        "holes (missing values)",
        "cube (shape (120, 2, 2))",
    ):
        assert words in note
    assert "digit" not in note
    note = load(tmp_path, x_train=X, y_train=A, y_test=A[:3]).note
    assert "not used: y_test (no data in this part)" in note
    assert "not used" not in load(tmp_path, x=X, digit=A).note
    np.savez(tmp_path / "own.npz", x=X, id=np.arange(N), a=A * 1.0, age=GENERATOR.normal(size=N))
    code, out, _ = command("data", "info", str(tmp_path / "own.npz"), "--json")
    factors = json.loads(out)["factors"]
    assert code == 0 and factors["id"] == f"{N} values in {N} data, an identifier that metrics leave out"
    assert factors["a"] == "3 values from 0 to 2" and " to " in factors["age"] and "values" not in factors["age"]


def test_labels_of_training_data_alone_are_judged_on_held_out_ones(tmp_path):
    data = load(tmp_path, x_train=X[:90], x_val=X[90:100], x_test=X[100:], y_train=A[:90])
    run = open_ideal(data, tmp_path)
    result = classes(run, "y")
    assert result["accuracy"] > 0.9 and result["tested_on"].startswith("training data held out from the probe")
    labelled = len(data.train)
    assert result["n_test"] == labelled // 5 and result["n_train"] == labelled - labelled // 5
    fitted, judged, _ = probe_parts(data, ["y"])
    together = torch.cat([fitted.x[:], judged.x[:]])
    assert sorted(map(tuple, together.tolist())) == sorted(map(tuple, data.train.x[:].tolist()))
    errors = regression(run, epochs=5, factors=("y",))
    assert set(errors["rmse"]) == {"y"} and errors["tested_on"] == result["tested_on"]


def test_validation_labels_judge_before_training_labels_do(tmp_path):
    """Validation data that are dealt out from the training data take their labels along."""
    parts = {"x_train": X[:90], "x_test": X[90:], "y_train": A[:90]}
    result = classes(open_ideal(load(tmp_path, **parts), tmp_path), "y")
    assert (result["n_train"], result["n_test"], result["tested_on"]) == (81, 9, "validation data")


def test_labels_of_test_data_alone_serve_every_metric(tmp_path):
    parts = {"x_train": X[:60], "x_val": X[60:70], "x_test": X[70:], "y_test": A[70:], "b_test": B[70:]}
    run = open_ideal(load(tmp_path, **parts), tmp_path)
    assert classes(run, "y")["tested_on"].startswith("test data held out")
    assert encode_data(run, 1000, 1, 0).protocol["of"] == "the 50 test data"
    with pytest.raises(ConfigError, match="too few to fit and judge a probe"):
        few = {"x_train": X[:60], "x_val": X[60:113], "x_test": X[113:], "y_test": A[113:]}
        classes(open_ideal(load(tmp_path, **few), tmp_path), "y")


def test_factors_of_several_classes_and_unknown_targets(tmp_path):
    run = open_ideal(load(tmp_path, x=X, a=A, b=B, id=np.arange(N)), tmp_path)
    result = classes(run, factors=("a", "b"))
    assert list(result["accuracies"]) == ["a", "b"] and result["factor"] == "a"
    assert result["accuracies"]["a"] == result["accuracy"] > 0.9 and result["accuracies"]["b"] > 0.9
    with pytest.raises(ConfigError, match="-o factors=a,b"):
        regression(run)
    with pytest.raises(ConfigError, match="'c'"):
        regression(run, factors=("c",))
