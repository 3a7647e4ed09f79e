"""Missing entries of one's own data: NaN, empty cells and masks, in every kind of file."""

import json

import numpy as np
import pytest
import torch

from pyro_hvae.data import Batches, Rows, Standardization
from pyro_hvae.data.sets.user_data import load_user_data
from pyro_hvae.errors import DataError
from pyro_hvae.reports.data_report import dataset_text, describe_dataset, preview_dataset

PARTS = ("train", "validation", "test")
RANDOM = np.random.default_rng(0)


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def whole(data):
    """All data with NaN in missing entries, in the order of the file."""
    n = sum(data.counts.values())
    order = torch.from_numpy(np.random.default_rng(0).permutation(n))
    sizes = [len(getattr(data, part)) for part in PARTS]
    places = torch.cat([order[sizes[1] + sizes[2] :], order[: sizes[1] + sizes[2]]]).argsort()
    return torch.cat([getattr(data, part).x[:].with_nan() for part in PARTS])[places]


def same(one, two):
    return torch.equal(one.isnan(), two.isnan()) and torch.equal(one.nan_to_num(9), two.nan_to_num(9))


@pytest.fixture
def holes():
    x = RANDOM.normal(size=(40, 3)) * [1.0, 100.0, 1e-3] + [0.0, 5.0, 1e6]
    x[RANDOM.random(x.shape) < 0.2] = np.nan
    x[np.isnan(x).all(1)] = 1.0  # a table has no rows of empty cells only
    return x


def make_files(folder, x):
    np.save(folder / "a.npy", x)
    save(folder / "a.npz", x=x, kind=np.arange(40) % 3)
    cells = [["" if v != v else repr(v) for v in row] for row in x.tolist()]
    (folder / "a.csv").write_text("a,b,c\n" + "".join(",".join(row) + "\n" for row in cells))
    for name, kind in (("a.h5", "h5py"), ("a.mat", "scipy.io"), ("a.parquet", "pyarrow")):
        module = pytest.importorskip(kind)
        if kind == "h5py":
            with module.File(folder / name, "w") as file:
                file["x"] = x
        elif kind == "scipy.io":
            module.savemat(folder / name, {"x": x})
        else:
            parquet = pytest.importorskip("pyarrow.parquet")
            parquet.write_table(
                module.table({name: [None if v != v else v for v in x[:, i]] for i, name in enumerate("abc")}), folder / name
            )


def test_nan_and_empty_cells_are_missing_in_every_kind_of_file(tmp_path, holes):
    make_files(tmp_path, holes)
    missing = int(np.isnan(holes).sum())
    for path in tmp_path.iterdir():
        data = load_user_data(path)
        assert all(getattr(data, part).x.incomplete for part in PARTS), path
        assert same(whole(data), torch.from_numpy(holes).float()), path
        assert f"; {missing} of 120 entries are missing ({100 * missing / 120:.3g} %)" in data.note
        batch = Batches(data.train.x, 8, seed=0).next()
        assert batch.x.isfinite().all() and (batch.x[~batch.observed] == 0).all() and not batch.observed.all()


@pytest.mark.parametrize("text", ["", " ", "NA", "n/a", "#N/A", "<NA>", "NaN", "null", "?", '""'])
def test_cells_that_are_empty(tmp_path, text):
    (tmp_path / "t.csv").write_text("a,b\n" + f"1.5,{text}\n" + "".join(f"{i},{i % 3}\n" for i in range(9)))
    x = whole(load_user_data(tmp_path / "t.csv"))
    assert x.isnan().nonzero().tolist() == [[0, 1]] and x[0, 0] == 1.5


def test_one_part_with_a_missing_entry_makes_all_incomplete(tmp_path):
    x = RANDOM.normal(size=(20, 3))
    hole = x.copy()
    hole[3, 1] = np.nan
    data = load_user_data(save(tmp_path / "a.npz", x_train=x, x_test=hole))
    assert data.train.x.incomplete and data.validation.x.incomplete and data.train.x[:].observed.all()
    assert data.test.x[3:4].observed.tolist() == [[True, False, True]]
    assert "; 1 of 120 entries are missing (0.833 %)" in data.note
    complete = load_user_data(save(tmp_path / "b.npz", x_train=x, x_test=x))
    assert not complete.train.x.incomplete and isinstance(complete.train.x[:], torch.Tensor) and "missing" not in complete.note


def test_true_false_columns_and_whole_numbers(tmp_path):
    (tmp_path / "t.csv").write_text("yes,count,kind\ntrue,3,u\nFALSE,,v\n,7,u\ntrue,5,v\nfalse,3,u\n")
    data = load_user_data(tmp_path / "t.csv")
    nan = torch.nan
    assert same(whole(data), torch.tensor([[1, 3], [0, nan], [nan, 7], [1, 5], [0, 3]])) and data.labels == {"kind": ["u", "v"]}


@pytest.mark.parametrize("name", ["mask", "Observed"])
@pytest.mark.parametrize("kind", ["float32", "float64", "uint8", "int64", "bool"])
@pytest.mark.parametrize("event", [(3,), (4, 5), (4, 5, 3)])
def test_a_mask_beside_arrays_of_any_type(tmp_path, name, kind, event):
    """What it hides may be anything: here values that no image has, and infinity."""
    top = {"uint8": 256, "int64": 256, "bool": 2}.get(kind, 0)
    x = RANDOM.integers(0, top, (20, *event)) if top else RANDOM.random((20, *event))
    observed = RANDOM.random(x.shape) < 0.7
    stored = x.astype(kind)
    if kind != "bool":
        stored[~observed] = {"uint8": 255, "int64": -1}.get(kind, np.inf)
    data = load_user_data(save(tmp_path / "a.npz", x=stored, **{name: observed}))
    plain = load_user_data(save(tmp_path / "b.npz", x=x.astype(kind)))
    complete = torch.cat([getattr(plain, part).x[:] for part in PARTS])
    read = torch.cat([getattr(data, part).x[:].with_nan() for part in PARTS])
    seen = load_user_data(save(tmp_path / "c.npz", x=observed.astype(np.float32)))
    known = torch.cat([getattr(seen, part).x[:] for part in PARTS]).bool()
    assert read.shape == complete.shape and torch.equal(~read.isnan(), known)
    torch.testing.assert_close(read[known], complete[known], rtol=1e-6, atol=0)
    assert ("grey values" in data.note) == ("grey values" in plain.note) and not data.train.factors
    for words in (kind, f"{(~observed).sum()} of {observed.size:,} entries are missing"):
        assert words in data.note


def test_masks_in_other_kinds_of_files(tmp_path):
    x = RANDOM.random((20, 3))
    observed = x > 0.3
    h5py, io = pytest.importorskip("h5py"), pytest.importorskip("scipy.io")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"], file["mask"] = x, observed
    io.savemat(tmp_path / "a.mat", {"x": x, "observed": observed})
    for name in ("a.h5", "a.mat"):
        read = whole(load_user_data(tmp_path / name))
        assert same(read, torch.from_numpy(np.where(observed, x, np.nan)).float())


def test_a_mask_that_hides_nothing_and_arrays_that_are_no_masks(tmp_path):
    x = RANDOM.random((20, 4))
    data = load_user_data(save(tmp_path / "a.npz", x=x, observed=np.ones((20, 4), bool)))
    assert not data.train.x.incomplete and not data.train.factors
    # Numbers are no mask, and a mask alone is the data.
    data = load_user_data(save(tmp_path / "b.npz", x=x, mask=np.arange(20) % 2))
    assert not data.train.x.incomplete and set(data.train.factors) == {"mask"}
    assert load_user_data(save(tmp_path / "c.npz", mask=x > 0.5)).shape == (4,)
    assert load_user_data(save(tmp_path / "d.npz", mask=x > 0.5, own=x)).train.x.incomplete  # the other array is the data
    # Parts have masks of their own.
    observed = x > 0.2
    data = load_user_data(save(tmp_path / "e.npz", x_train=x, x_test=x, observed_test=observed))
    assert torch.equal(data.test.x[:].observed, torch.from_numpy(observed)) and data.train.x[:].observed.all()


def test_grey_values_of_the_known_entries(tmp_path):
    """Missing pixels do not change the meaning of the others; a value out of range is refused as before."""
    x = RANDOM.random((20, 4, 4))
    x[2, 1, 1] = np.nan
    assert load_user_data(save(tmp_path / "a.npz", x=x)).train.x.incomplete
    x[3, 0, 0] = 7
    with pytest.raises(DataError, match="but images are floats from 0 to 1"):
        load_user_data(save(tmp_path / "a.npz", x=x))
    x[3, 0, 0] = -np.inf
    with pytest.raises(DataError, match=r"has the value -inf at index \(3, 0, 0\)"):
        load_user_data(save(tmp_path / "a.npz", x=x))


def test_what_is_refused(tmp_path):
    x = RANDOM.random((20, 4))
    for mask in (np.ones((20, 3), bool), np.ones(20, bool), np.ones((19, 4), bool)):
        with pytest.raises(DataError, match=r"the mask 'mask' of .* has the shape .*, but the data have \(20, 4\)"):
            load_user_data(save(tmp_path / "a.npz", x=x, mask=mask))
    with pytest.raises(DataError, match="two masks of missing entries, mask and observed"):
        load_user_data(save(tmp_path / "a.npz", x=x, mask=x > 0, observed=x > 0))
    with pytest.raises(DataError, match="x of a.npz has no value: every entry is missing"):
        load_user_data(save(tmp_path / "a.npz", x=x * np.nan))
    x[:, 2] = np.nan
    with pytest.raises(DataError, match="the 16 training data have no value at all of x in column 2, so nothing"):
        load_user_data(save(tmp_path / "a.npz", x=x))
    with pytest.raises(DataError, match="no value at all of x in column 'age', so nothing"):
        load_user_data(save(tmp_path / "a.npz", x=x, columns=np.array(["a", "b", "age", "d"])), standardize=True)
    # The only value of the column b is in the training data or not, as the seed has it.
    (tmp_path / "t.csv").write_text("a,b\n" + "".join(f"{i},{'3' if i == 7 else ''}\n" for i in range(0, 40, 7)))
    outcomes = set()
    for seed in range(20):
        try:
            load_user_data(tmp_path / "t.csv", data_seed=seed, columns=("a", "b"))
            outcomes.add("trained")
        except DataError as error:
            assert "no value at all of x in column 'b'" in str(error)
            assert load_user_data(tmp_path / "t.csv", data_seed=seed, columns=("a",)).shape == (1,)  # the advice
            outcomes.add("refused")
    assert outcomes == {"trained", "refused"}


def test_standardization_measures_the_known_entries(tmp_path, holes, monkeypatch):
    monkeypatch.setattr("pyro_hvae.data.standardization.PIECE", 7)
    by = Standardization.measure(Rows(torch.from_numpy(holes), incomplete=True))
    np.testing.assert_allclose(by.mean, np.nanmean(holes, 0), rtol=1e-12)
    np.testing.assert_allclose(by.scale, np.nanstd(holes, 0), rtol=1e-9)
    data = load_user_data(save(tmp_path / "a.npz", x=holes), standardize=True)
    train = data.train.x[:]
    assert data.train.x.incomplete and data.test.x.incomplete and data.inverse and data.standardization
    values = train.with_nan().double()
    torch.testing.assert_close(values.nanmean(0), torch.zeros(3, dtype=torch.float64), atol=1e-6, rtol=0)
    assert same(whole(data).isnan().float(), torch.from_numpy(np.isnan(holes)).float())
    own = data.inverse(whole(data))
    known = ~torch.from_numpy(holes).isnan()
    torch.testing.assert_close(own[known], torch.from_numpy(holes)[known], rtol=1e-6, atol=1e-9)
    # A constant column stays constant, whatever is missing.
    x = torch.tensor([[2.0], [torch.nan], [2.0]])
    assert Standardization.measure(Rows(x)) == Standardization((2.0,), (1.0,))


def test_the_report_says_what_is_missing(tmp_path, holes):
    np.savez(tmp_path / "a.npz", x=holes, columns=np.array(["a", "b", "c"]))
    values = describe_dataset(str(tmp_path / "a.npz"), {})
    train = load_user_data(tmp_path / "a.npz").train.x[:]
    shares = (~train.observed).double().mean(0).tolist()
    assert values["missing"] == {"share": pytest.approx(np.mean(shares)), "columns": dict(zip("abc", shares, strict=True))}
    known = train.x[train.observed]
    assert values["range"] == [known.min().item(), known.max().item()]
    (line,) = (line for line in dataset_text(values).splitlines() if line.startswith("  missing"))
    name, share = max(values["missing"]["columns"].items(), key=lambda item: item[1])
    assert f"{100 * np.mean(shares):.3g} % of the entries of training data: {name} {100 * share:.3g} %, " in line
    json.dumps(values, allow_nan=False)
    preview_dataset(str(tmp_path / "a.npz"), {}, tmp_path / "a.png", 9)
    images = np.where(RANDOM.random((20, 8, 8)) < 0.2, np.nan, 0.5)
    np.save(tmp_path / "i.npy", images)
    assert preview_dataset(str(tmp_path / "i.npy"), {}, tmp_path / "i.png", 4)["n"] == 4
    complete = describe_dataset("digits", {})
    assert complete["missing"] == {"share": 0.0, "columns": {}} and "missing" not in dataset_text(complete)
