"""Standardised vectors, and the names of their columns."""

import math

import numpy as np
import pytest
import torch

from pyro_hvae.data import Batch, Rows, Standardization
from pyro_hvae.data.sets.user_data import load_user_data
from pyro_hvae.errors import ConfigError, DataError

RANDOM = np.random.default_rng(0)


@pytest.fixture
def table():
    """Columns in real units: one constant, one of large values that vary little."""
    units = np.array([1437.0, 4254.0, 1e-3, 0.0, 1.0])
    return RANDOM.normal(size=(200, 5)) * units + np.array([384.0, 2127.0, 0.0, 7.3, 1.7e9])


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_columns_have_mean_0_and_deviation_1_in_the_training_part_alone(tmp_path, table):
    path = save(tmp_path / "t.npz", x=table)
    plain, data = load_user_data(path), load_user_data(path, standardize=True)
    train = data.train.x[:].double()
    expected = torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(train.mean(0), torch.zeros(5, dtype=torch.float64), atol=2e-7, rtol=0)
    torch.testing.assert_close(train.std(0, unbiased=False), expected, atol=1e-6, rtol=0)
    assert data.train.x[:].dtype == torch.float32
    together = torch.cat([data.train.x[:], data.validation.x[:], data.test.x[:]]).double()
    assert abs(together.mean(0)[0]) > 1e-4  # of all data it is not 0
    # The split is that of the data as they are, and nothing is lost: float32 cannot hold 1.7e9 + 0.1, the features can.
    order = torch.from_numpy(np.random.default_rng(0).permutation(200))
    raw = torch.from_numpy(table)[order]
    assert data.inverse and data.standardization
    for part, rows in ((data.validation, raw[:20]), (data.test, raw[20:40])):
        error = (data.inverse(part.x[:]) - rows) / torch.tensor(data.standardization.scale)
        assert error.abs().max() < 2**-22  # half a unit in the last place of a float32 below 4
    assert plain.inverse is None and plain.standardization is None and data.identity == plain.identity
    np.testing.assert_allclose(data.standardization.mean, raw[40:].mean(0), rtol=1e-12)
    deviations = raw[40:].numpy().std(0)
    np.testing.assert_allclose(data.standardization.scale, [*deviations[:3], 1.0, deviations[4]], rtol=1e-9)
    total = sum(math.log(s) for s in [*deviations[:3], deviations[4]])
    assert data.standardization.log_scales(data.test.x).tolist() == pytest.approx([total] * 20)
    assert "standardised" in data.note and "standardised" not in plain.note


@pytest.mark.parametrize("rows", [False, True])
def test_densities_in_own_units_are_those_of_a_change_of_variables(rows):
    """Standardised data are N(mean, covariance), so that y = s x + m is N(s mean + m, s covariance s); of y what is known."""
    by = Standardization((3.0, -700.0, 2e-3), (0.5, 40.0, 1e-3))
    scale, root = torch.tensor(by.scale, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)
    mean, covariance = torch.randn(3, dtype=torch.float64), root @ root.T + torch.eye(3)
    own_mean, own_covariance = scale * mean + torch.tensor(by.mean), scale[:, None] * covariance * scale
    x = torch.randn(6, 3, dtype=torch.float64)
    known = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 0]], dtype=torch.bool)
    batch = Batch(x.where(known, 0), observed=known)
    logs = by.log_scales(Rows.of(batch) if rows else batch)
    for datum, seen, log in zip(x, known, logs, strict=True):
        if not seen.any():
            assert log == 0
            continue
        marginal = torch.distributions.MultivariateNormal(mean[seen], covariance[seen][:, seen])
        own = torch.distributions.MultivariateNormal(own_mean[seen], own_covariance[seen][:, seen])
        torch.testing.assert_close(marginal.log_prob(datum[seen]) - log, own.log_prob(by.undo(datum[None])[0, seen]))
    assert by.log_scales(x).tolist() == [logs[0].item()] * 6


def test_parts_given_by_name_and_bytes(tmp_path):
    train, test = (RANDOM.integers(0, 256, (n, 3), dtype=np.uint8) for n in (50, 9))
    data = load_user_data(save(tmp_path / "t.npz", x_train=train, x_test=test), standardize=True)
    assert data.inverse and data.standardization
    order = torch.from_numpy(np.random.default_rng(0).permutation(50))[5:]  # a tenth is for validation
    np.testing.assert_allclose(data.standardization.mean, train[order].mean(0) / 255, rtol=1e-6)
    np.testing.assert_allclose(data.inverse(data.test.x[:]), test / 255, atol=1e-6)


def test_a_column_that_varies_by_rounding_only_is_constant():
    x = torch.full((100, 2), 0.1, dtype=torch.float64)
    x[::2, 0] += 1e-16
    x[:, 1] = torch.arange(100) * 1e-9  # small, but it varies
    by = Standardization.measure(Rows(x))
    assert by.scale[0] == 1.0 and by.scale[1] == pytest.approx(1e-9 * math.sqrt((100**2 - 1) / 12))
    assert by.rows(Rows(x))[:].abs().max() < 2


def test_many_data_are_measured_piece_by_piece(monkeypatch):
    monkeypatch.setattr("pyro_hvae.data.standardization.PIECE", 7)
    x = torch.from_numpy(RANDOM.normal(size=(33, 2)))
    by = Standardization.measure(Rows(x))
    np.testing.assert_allclose(by.mean, x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(by.scale, x.std(0, unbiased=False), rtol=1e-12)
    assert Standardization.from_dict(by.to_dict()) == by


@pytest.mark.parametrize("unit", [1e300, 1e-300, 1e160, 1e-170, 2.0**-999, 1.0])
def test_columns_of_every_size_have_the_moments_of_their_unit(unit):
    x = torch.from_numpy(RANDOM.normal(size=(500, 2)) + [0.0, 3.0])
    by, plain = Standardization.measure(Rows(unit * x)), Standardization.measure(Rows(x))
    np.testing.assert_allclose(np.array(by.mean) / unit, x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(np.array(by.scale) / unit, x.std(0, unbiased=False), rtol=1e-12)
    torch.testing.assert_close(by.rows(Rows(unit * x))[:], plain.rows(Rows(x))[:], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(by.undo(by.apply(unit * x)) / unit, x)
    logs, plain_logs = (s.log_scales(torch.zeros(1, 2)).item() for s in (by, plain))
    assert logs == pytest.approx(plain_logs + 2 * math.log(unit))


def test_a_large_offset_is_taken_off_exactly():
    x = torch.arange(100, dtype=torch.float64)[:, None]
    by = Standardization.measure(Rows(x + 2.0**44))  # 2e13: a double is exact to 1/256 there
    assert by.mean == (2.0**44 + 49.5,) and by.scale[0] == pytest.approx(math.sqrt((100**2 - 1) / 12), rel=1e-12)


@pytest.mark.parametrize(
    ("column", "message", "better"),
    [
        (lambda x: 1e304 * x, r"has values up to .*e\+305, too large .*larger unit", lambda x: x),
        (lambda x: 1e-310 * x, r"varies by .*e-310, too little .*smaller unit", lambda x: x),
        (lambda x: x + 1e15, r"varies by .* around 1e\+15, so little .*Subtract a constant", lambda x: (x + 1e15) - 1e15),
    ],
)
def test_columns_that_double_precision_cannot_standardise_are_named(tmp_path, column, message, better):
    x = RANDOM.normal(size=(100, 3)).round(3) * 9
    wrong, right = x.copy(), x.copy()
    wrong[:, 1], right[:, 1] = column(x[:, 1]), better(x[:, 1])
    for names in ((), ("a", "b", "c")):
        with pytest.raises(DataError, match=f"^column {names[1] if names else 1} {message}"):
            Standardization.measure(Rows(torch.from_numpy(wrong)), names)
    assert Standardization.measure(Rows(torch.from_numpy(right)))
    if wrong.max() < 1e30:
        with pytest.raises(DataError, match=f"^column b {message}"):
            load_user_data(save(tmp_path / "t.npz", x=wrong, columns=np.array(["a", "b", "c"])), standardize=True)


def test_images_are_refused(tmp_path):
    np.save(tmp_path / "i.npy", np.zeros((9, 4, 4)))
    with pytest.raises(ConfigError, match=r"standardize=true is for vectors, .* \(1, 4, 4\)"):
        load_user_data(tmp_path / "i.npy", standardize=True)


def test_another_scaling_than_the_recorded_one_is_refused():
    by = Standardization((1e6, 0.0), (1.0, 2.0))
    by.require_equal(Standardization((1e6 + 1e-9, 0.0), (1.0, 2.0)), "r")
    for other in (((1e6 + 1e-3, 0.0), (1.0, 2.0)), ((1e6, 0.0), (1.0, 2.1)), ((1e6,), (1.0,))):
        with pytest.raises(DataError, match="standardised by another .* than the training data of r have"):
            by.require_equal(Standardization(*other), "r")


@pytest.mark.parametrize("name", ["columns", "feature_names", "Feature_Names"])
def test_names_of_columns(tmp_path, name, table):
    names = ("depth (m)", "t", "µ", "c", "d")
    assert load_user_data(save(tmp_path / "a.npz", x=table, **{name: np.array(names)})).columns == names
    bytes_ = save(tmp_path / "b.npz", x=table, **{name: np.array([n.encode() for n in names])})
    assert load_user_data(bytes_).columns == names
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["x"], file[name] = table, list(names)
    assert load_user_data(tmp_path / "c.h5").columns == names


def test_names_that_do_not_fit_are_said(tmp_path, table):
    data = load_user_data(save(tmp_path / "a.npz", x=table, columns=np.array(["a", "b"])))
    assert data.columns == () and "the 2 names in 'columns' are not used, for there are 5 columns" in data.note
    pickled = save(tmp_path / "b.npz", x=table, columns=np.array(["a"] * 5, dtype=object))
    assert load_user_data(pickled).columns == ()  # pickled objects are not opened
    images = save(tmp_path / "c.npz", x=np.zeros((9, 4, 4)), columns=np.array(list("abcd")))
    assert load_user_data(images).columns == ()
    np.save(tmp_path / "d.npy", table)
    assert load_user_data(tmp_path / "d.npy").columns == ()
