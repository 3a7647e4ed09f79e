"""Arrays that a file cannot hold are refused before memory is taken or a cache is written."""

import zipfile

import numpy as np
import pytest

from pyro_hvae.data import find_source
from pyro_hvae.errors import DataError


def test_an_array_in_hdf5_that_was_never_written(tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    monkeypatch.setenv("PYRO_HVAE_CACHE", str(tmp_path / "cache"))
    for kind in ("u1", "f4"):
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file.create_dataset("x", (500_000, 64, 64), kind, chunks=(1, 64, 64))
        with pytest.raises(DataError, match=r"says that it has shape \(500000, 64, 64\).*holds 0.00 MiB"):
            find_source(str(tmp_path / "x.h5")).load()
    assert not list(tmp_path.glob("cache/*"))


def test_a_packed_member_of_equal_values(tmp_path):
    header = np.lib.format.header_data_from_array_1_0(np.empty((0,), "f4")) | {"shape": (10**9, 100)}
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(10**6))
    with pytest.raises(DataError, match=r"says that it has shape \(1000000000, 100\).*damaged, or made to fill memory"):
        find_source(str(tmp_path / "x.npz")).load()


def test_a_compressed_array_is_read(tmp_path):
    x = np.zeros((300, 64, 64), np.float32)
    x[:, 0, 0] = np.arange(300) / 300
    np.savez_compressed(tmp_path / "x.npz", x=x)
    assert len(find_source(str(tmp_path / "x.npz")).load().train) > 200


def test_texts_in_hdf5_are_called_texts(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = np.array([["a", "b"]] * 20, dtype=h5py.string_dtype())
    with pytest.raises(DataError, match="is an array of texts; data are numbers"):
        find_source(str(tmp_path / "x.h5")).load()
