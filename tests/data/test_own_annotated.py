"""One's own AnnData files: X and layers, dense and sparse; obs as factors; links and damage."""

import sys

import numpy as np
import pytest
import torch
from scipy import sparse

from pyro_hvae.data import find_source
from pyro_hvae.data.files import declared_sizes
from pyro_hvae.data.sets.user_data import load_user_data
from pyro_hvae.errors import ConfigError, DataError, DeviceError

N, D = 60, 7


def make(path, **changes):
    anndata = pytest.importorskip("anndata")
    import pandas

    random = np.random.default_rng(0)
    kind = np.arange(N) % 3
    x = random.poisson(2.0, (N, D)).astype(np.float32)
    obs = pandas.DataFrame(
        {
            "leiden": pandas.Categorical(kind.astype(str)),
            "cell type": np.array(["T", "B", "NK"])[kind],
            "depth": x.sum(1) / 3,
            "age": pandas.array([None, *range(1, N)], dtype="Int64"),
            "doublet": kind == 0,
            "barcode": [f"ACGT{i}" for i in range(N)],
            "known": pandas.Categorical([None, *["a", "b", "a"] * 19, "b", "b"]),
        },
        index=[f"cell {i}" for i in range(N)],
    )
    given = {"X": sparse.csr_matrix(x), "obs": obs, "var": pandas.DataFrame(index=[f"gene {j}" for j in range(D)])}
    layers = {"log": np.log1p(x), "columns": sparse.csc_matrix(x), "bytes": x.astype(np.uint8)}
    anndata.AnnData(**given | {"layers": layers} | changes).write_h5ad(path, compression="gzip")
    return x, kind


def whole(data):
    """x of all data, in the order of the file."""
    parts = [getattr(data, part) for part in ("train", "validation", "test")]
    order = np.random.default_rng(0).permutation(N)
    held = len(parts[1]) + len(parts[2])
    places = torch.from_numpy(np.concatenate([order[held:], order[:held]])).argsort()
    return torch.cat([part.x[:] for part in parts])[places], torch.cat([part.factors["leiden"] for part in parts])[places]


def test_a_file_of_cells(tmp_path):
    x, kind = make(path := tmp_path / "cells.h5ad")
    data = find_source(str(path)).load()
    assert data.shape == (D,) and data.columns == tuple(f"gene {j}" for j in range(D))
    assert torch.equal(whole(data)[0], torch.from_numpy(x)) and whole(data)[0].dtype == torch.float32
    assert whole(data)[1].tolist() == kind.tolist()
    assert data.labels == {"leiden": ["0", "1", "2"], "cell type": ["B", "NK", "T"]}
    for text in (
        "60 rows of cells.h5ad, X of 7 columns, kept sparse; whole numbers such as counts, which are taken as real numbers; ",
        "factors: leiden, cell type; not used: depth (numbers), age (row numbers), doublet (numbers), barcode (texts), known "
        "(classes with missing values); validation",
    ):
        assert text in data.note
    # A batch of a sparse matrix, in any order and with repetitions.
    pick = torch.tensor([5, 0, 5])
    assert torch.equal(data.train.x[pick], data.train.x[:][pick])


def test_layers_columns_and_labels(tmp_path):
    x, _ = make(path := tmp_path / "cells.h5ad")
    for layer, wanted, kept in (("log", np.log1p(x), False), ("columns", x, True), ("bytes", x, False)):
        data = load_user_data(path, layer=layer)
        assert torch.equal(whole(data)[0], torch.from_numpy(wanted)) and ("kept sparse" in data.note) == kept
    data = load_user_data(path, columns=("gene 3", "gene 1"), labels=("leiden", "depth", "doublet"))
    assert torch.equal(whole(data)[0], torch.from_numpy(x[:, [3, 1]])) and data.columns == ("gene 3", "gene 1")
    assert data.train.factors["depth"].dtype == torch.float64 and data.train.factors["doublet"].unique().tolist() == [0, 1]
    assert "cell type (not in labels)" in data.note
    by = load_user_data(path, standardize=True)
    assert by.inverse is not None and torch.allclose(
        by.inverse(by.train.x[:]).float(), load_user_data(path).train.x[:], atol=1e-6
    )
    for options, kind, why in [
        ({"layer": "lag"}, ConfigError, "no layer called 'lag'. Did you mean 'log'"),
        ({"columns": ("gene 9",)}, ConfigError, "no column called 'gene 9'"),
        ({"labels": ("cell",)}, ConfigError, "no label called 'cell'"),
        ({"labels": ("known",)}, DataError, "no value in column 'known', row 1.*choose other columns by labels="),
        ({"labels": ("age",)}, DataError, "no value in column 'age', row 1"),
        ({"key": "X"}, ConfigError, "key is an option of a file of arrays, but .* is an AnnData file"),
    ]:
        with pytest.raises(kind, match=why):
            load_user_data(path, **options)
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="layer is an option of an AnnData file, but .* is a table"):
        load_user_data(tmp_path / "a.csv", layer="log")


@pytest.mark.parametrize("kind", [np.array, sparse.csr_matrix, sparse.csc_matrix])
def test_values_that_are_missing_or_infinite(tmp_path, kind):
    x = np.zeros((N, D), np.float32)
    x[4, 2], x[9, 1] = 3, np.nan
    make(tmp_path / "cells.h5ad", X=kind(x))
    data = load_user_data(tmp_path / "cells.h5ad")
    assert all(getattr(data, part).x.incomplete for part in ("train", "validation", "test"))
    assert f"; 1 of {N * D} entries are missing (0.238 %); not used" in data.note
    assert "whole numbers such as counts" in data.note
    read = torch.cat([batch.with_nan() for batch in (data.train.x[:], data.validation.x[:], data.test.x[:])])
    assert sorted(map(str, read.tolist())) == sorted(map(str, x.tolist()))  # what a sparse matrix does not store is 0
    x[9, 1] = np.inf
    make(tmp_path / "cells.h5ad", X=kind(x))
    with pytest.raises(DataError, match="the value inf in row 9 \\(from 0\\), column 'gene 1'. Replace values .* Or choose"):
        load_user_data(tmp_path / "cells.h5ad")
    assert load_user_data(tmp_path / "cells.h5ad", columns=("gene 0", "gene 2")).shape == (2,)  # the advice


def test_files_that_are_refused(tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "cells.h5ad"

    def damaged(change):
        make(path)
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    def far(file):
        values = file["X/indices"][()]
        values[0] = 10**6
        file["X/indices"][...] = values

    def huge(file):
        del file["X/data"]
        file["X"].create_dataset("data", (10**12,), "f4", chunks=(1000,))

    def leads_out(file):
        del file["X"]
        file["X"] = h5py.ExternalLink("other.h5", "/x")

    for change, why in [
        (far, "cannot read .*(ind|out of)"),
        (huge, r"'X/data' of .* says that it has shape \(1000000000000,\).*made to fill memory"),
        (leads_out, "'X' of .* is a link or missing"),
        (lambda file: file["obs"].pop("leiden"), "cannot read|is a link or missing"),
        (lambda file: file.pop("X"), "has no X. Choose a layer by layer=, of bytes, columns, log"),
        (lambda file: file.__setitem__("obs/self", file["obs"]), "is nested too deeply"),
    ]:
        with pytest.raises(DataError, match=why):
            load_user_data(damaged(change))
    assert load_user_data(damaged(lambda file: file.pop("X")), layer="log").shape == (D,)  # the advice
    path.write_bytes(b"no HDF5")
    with pytest.raises(DataError, match="cannot read .*cells.h5ad"):
        load_user_data(path)
    make(path)
    monkeypatch.setattr(declared_sizes, "free_memory", lambda: 500)
    with pytest.raises(DataError, match="needs .* GB of memory"):
        load_user_data(path)


def test_without_the_extra(tmp_path, monkeypatch):
    (tmp_path / "cells.h5ad").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "anndata", None)
    monkeypatch.setitem(sys.modules, "anndata.io", None)
    with pytest.raises(DeviceError, match=r"needs the extra 'tables'.*pip install -e '.\[tables\]'"):
        load_user_data(tmp_path / "cells.h5ad")
