"""Files of arrays that share their rows: what is written is read back, in every format, and nothing is half-written."""

import csv
import gzip

import numpy as np
import pytest
import torch

from pyro_hvae.data import (
    Dataset,
    Split,
    join_columns,
    read_batch,
    read_beside,
    read_rows,
    unfold_columns,
    write_data,
    write_rows,
)
from pyro_hvae.data.files import row_writers
from pyro_hvae.data.files.row_writers import ROW_WRITERS
from pyro_hvae.data.sets.user_data import load_user_data
from pyro_hvae.errors import ConfigError, DataError, DeviceError

RANDOM = np.random.default_rng(0)
ARRAYS = {
    "obs_names": np.array(["b", "a", 'ü, "q"', "10"]),
    "row": np.arange(4),
    "file": np.array(["x", "y", "x", "y"]),
    "depth": np.array([0.1, np.nan, 1e-30, 3.0]),
    "z1": (RANDOM.normal(size=(4, 2)) * 10.0 ** RANDOM.integers(-20, 20, (4, 2))).astype(np.float32),
    "z1_draws": RANDOM.normal(size=(4, 3, 2)),
}


@pytest.mark.parametrize("kind", ROW_WRITERS)
def test_arrays_come_back_to_the_last_digit(tmp_path, kind):
    write_rows(path := tmp_path / f"codes{kind}", ARRAYS)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    held = read_rows(path)
    for name in ("obs_names", "row", "file"):
        assert held.read(name).tolist() == ARRAYS[name].tolist(), name
    assert np.array_equal(held.read("depth"), ARRAYS["depth"], equal_nan=True)
    for name in ("z1", "z1_draws"):
        values = held.read_numbers(name, ARRAYS[name].shape[1:])
        assert np.array_equal(values.astype(ARRAYS[name].dtype), ARRAYS[name]), name
    assert held.read("z2", (2,)) is None and held.read("z2") is None


def test_a_table_has_a_column_for_each_number(tmp_path):
    write_rows(path := tmp_path / "codes.csv.gz", ARRAYS)
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == list(unfold_columns(ARRAYS)) and header[4:8] == ["z1_0", "z1_1", "z1_draws_0_0", "z1_draws_0_1"]
    assert rows[1][:4] == ["a", "1", "y", ""] and len(rows) == 4


def test_anndata_has_names_columns_and_arrays_at_their_places(tmp_path):
    anndata = pytest.importorskip("anndata")
    write_rows(path := tmp_path / "codes.h5ad", ARRAYS)
    held = anndata.read_h5ad(path)
    assert held.obs_names.tolist() == ARRAYS["obs_names"].tolist() and list(held.obs) == ["row", "file", "depth"]
    assert held.obsm["z1_draws"].shape == (4, 3, 2) and held.obs["file"].tolist() == ["x", "y", "x", "y"]
    write_rows(tmp_path / "numbered.h5ad", {"z1": ARRAYS["z1"]})
    assert anndata.read_h5ad(tmp_path / "numbered.h5ad").obs_names.tolist() == ["0", "1", "2", "3"]


def test_names_that_are_taken_get_another_one():
    joined = join_columns({"z1": np.zeros((2, 2)), "row": np.arange(2)}, {"z1_0": 1, "row": 2, "row_": 3, "kind": 4})
    assert list(joined) == ["z1_0_", "row_", "row__", "kind", "z1", "row"]


def test_a_long_table_is_written_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(row_writers, "PIECE", 7)
    values = RANDOM.normal(size=(50, 3))
    write_rows(path := tmp_path / "z.tsv", {"z1": values})
    assert np.array_equal(read_rows(path).read("z1", (3,)), values)


@pytest.mark.parametrize("kind", [".npy", ".npz", ".csv", ".parquet", ".h5ad"])
def test_data_are_written_as_data_sets_are_read(tmp_path, kind):
    x, columns = RANDOM.normal(size=(30, 2)), ("length", "width")
    write_data(path := tmp_path / f"x{kind}", x, columns)
    data = load_user_data(path)
    assert sum(map(len, (data.train, data.validation, data.test))) == 30
    assert data.columns == (() if kind == ".npy" else columns)
    assert set(data.train.x[:,].flatten().tolist()) <= set(x.astype(np.float32).flatten().tolist())
    beside = {"ids": np.array([f"p{i}" for i in range(30)]), "row": np.arange(0, 90, 3)}
    write_data(path, x, columns, overwrite=True, beside=beside)
    again = load_user_data(path)
    assert again.columns == data.columns and torch.equal(again.test.x[:], data.test.x[:])
    if kind != ".npy":
        held = read_rows(path).columns(without=("columns", "obs_names", *columns))
        assert {name: values.tolist() for name, values in held.items()} == {n: v.tolist() for n, v in beside.items()}
    if kind in (".csv", ".parquet"):  # x itself has a column of this name
        write_data(path, x, columns, overwrite=True, beside={"length": np.ones(30)})
        assert list(read_rows(path).columns()) == ["length_", "length", "width"]
    if kind == ".h5ad":
        return
    images = RANDOM.random((6, 1, 2, 2))
    write_data(tmp_path / f"images{kind}", images)
    if kind in (".npy", ".npz"):
        assert load_user_data(tmp_path / f"images{kind}").shape == (1, 2, 2)


def test_what_cannot_be_written(tmp_path, monkeypatch):
    rows = {"z1": np.zeros((2, 2))}
    for name, error, why in (
        ("z.xlsx", ConfigError, "no kind of file called '.xlsx'. .*Known: .csv, .csv.gz, .h5ad, .npz, .parquet"),
        ("codes", ConfigError, "no kind of file called 'codes'"),
        ("nowhere/z.csv", DataError, "cannot write '.*z.csv'. Choose a folder that exists"),
    ):
        with pytest.raises(error, match=why):
            write_rows(tmp_path / name, rows)
    write_rows(path := tmp_path / "z.csv", rows)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="is there already. Choose another name, or overwrite it"):
        write_rows(path, {"z1": np.ones((2, 2))})
    with pytest.raises(DataError, match="cannot write"):
        monkeypatch.setitem(ROW_WRITERS, ".csv", lambda path, arrays: (path.write_text("half"), open(tmp_path / "no" / "file")))
        write_rows(path, rows, overwrite=True)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["z.csv"]
    monkeypatch.undo()
    write_rows(path, {"z1": np.ones((2, 2))}, overwrite=True)
    assert path.read_bytes() != before
    with pytest.raises(ConfigError, match=r"holds vectors, but a datum has the shape \(1, 2, 2\). Write a .npz file instead"):
        write_data(tmp_path / "x.h5ad", np.zeros((2, 1, 2, 2)))
    for name in (".csv", ".NPZ", ".tsv.gz"):
        with pytest.raises(ConfigError, match=f"{name}' is the end of a name without a name before it. Put one there: codes"):
            write_rows(tmp_path / name, rows)
        with pytest.raises(ConfigError, match="without a name before it"):
            write_data(tmp_path / name, np.zeros((2, 2)))
        with pytest.raises(ConfigError, match="without a name before it"):
            read_rows(tmp_path / name)
    for package, kind in (("pyarrow", ".parquet"), ("anndata", ".h5ad")):
        monkeypatch.setitem(__import__("sys").modules, package, None)
        with pytest.raises(DeviceError, match=rf"writing z\{kind} needs the extra 'tables'"):
            write_rows(tmp_path / f"z{kind}", rows)
        assert [file.name for file in tmp_path.iterdir()] == ["z.csv"]


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="no kind of file called '.npy'"):
        read_rows(tmp_path / "z.npy")
    with pytest.raises(DataError, match="there is no file"):
        read_rows(tmp_path / "z.npz")
    (tmp_path / "z.npz").write_bytes(b"PK no archive")
    with pytest.raises(DataError, match="cannot read"):
        read_rows(tmp_path / "z.npz")
    write_rows(path := tmp_path / "z.csv", {"z1": np.array([[1.0, np.nan], [2.0, 3.0]]), "kind": np.array(["a", "b"])})
    held = read_rows(path)
    with pytest.raises(DataError, match="'z1' of .* is NaN, infinite or empty in 1 of 2 rows, first in row 0"):
        held.read_numbers("z1", (2,))
    with pytest.raises(DataError, match="has the columns z1_0, z1_1, but no 'z1_2'"):
        held.read("z1", (3,))
    np.savez(tmp_path / "empty.npz", z1=np.zeros((0, 2)))
    assert read_rows(tmp_path / "empty.npz").read_numbers("z1", (2,)).shape == (0, 2)
    with pytest.raises(DataError, match="'kind' of .* holds texts"):
        held.read_numbers("kind")
    write_rows(path := tmp_path / "w.npz", {"z1": np.zeros((2, 2)), "z2_0": np.zeros(2), "z2_1": np.zeros(3)})
    with pytest.raises(DataError, match=r"has rows of shape \(2,\), but \(3,\) is needed"):
        read_rows(path).read("z1", (3,))
    with pytest.raises(DataError, match="differ in length"):
        read_rows(path).read("z2", (2,))
    np.savez(tmp_path / "pickled.npz", z1=np.array([{}, {}], dtype=object))
    with pytest.raises(DataError, match="pickled objects, which are not opened"):
        read_rows(tmp_path / "pickled.npz").read("z1")


@pytest.mark.parametrize("kind", [".csv", ".parquet", ".npz", ".h5ad"])
def test_what_stands_beside_x_and_x_itself(tmp_path, kind):
    """Identifiers, classes and numbers of a file that a run reads; an AnnData file is read as a table is."""
    x, ids, other = RANDOM.normal(size=(4, 2)), np.array(["p7", "p1", "p3", "p9"]), np.array([0.5, 1.0, 1.5, 2.0])
    path = tmp_path / f"data{kind}"
    if kind == ".h5ad":
        anndata, pandas = pytest.importorskip("anndata"), pytest.importorskip("pandas")
        obs = pandas.DataFrame({"other": other}, index=ids)
        anndata.AnnData(
            x[:, ::-1].copy(), obs, pandas.DataFrame(index=["b", "a"]), layers={"twice": 2 * x[:, ::-1]}
        ).write_h5ad(path)
    elif kind == ".npz":
        np.savez(path, x=x, ids=ids, other=other, unrelated=np.zeros(9))
    else:
        write_rows(path, {"ids": ids, "b": x[:, 1], "a": x[:, 0], "other": other})
    columns = () if kind == ".npz" else ("a", "b")
    beside = read_beside(path, columns)
    names = "obs_names" if kind == ".h5ad" else "ids"
    assert list(beside) == [names, "other"] and beside[names].tolist() == ids.tolist()
    assert beside["other"].tolist() == other.tolist()
    split = Split(torch.zeros(2, 2))
    found = read_batch(path, Dataset("d", split, split, split, columns=columns))
    assert torch.equal(found, torch.from_numpy(x).float())
    if kind == ".h5ad":
        assert torch.equal(read_batch(path, Dataset("d", split, split, split, columns=columns), key="twice"), 2 * found)
        with pytest.raises(DataError, match="has no variable 'c' among its 2"):
            read_batch(path, Dataset("d", split, split, split, columns=("a", "c")))
        with pytest.raises(DataError, match="is a table, but the run is of arrays"):
            read_batch(path, Dataset("d", split, split, split))


def test_links_in_an_annotated_file_are_not_followed(tmp_path):
    h5py = pytest.importorskip("h5py")
    write_rows(path := tmp_path / "codes.h5ad", {"z1": np.zeros((2, 2))})
    with h5py.File(path, "r+") as file:
        file["obsm/z2"] = h5py.ExternalLink("secret.h5", "/x")
    with pytest.raises(DataError, match="'z2' of .* is a link or missing"):
        read_rows(path)
