"""One's own idx and MATLAB files: every type, every damage."""

import gzip
import struct

import numpy as np
import pytest
import torch
from scipy import io, sparse

from pyro_hvae.data.files import declared_sizes
from pyro_hvae.data.sets.mnist import read_idx
from pyro_hvae.data.sets.user_data import load_user_data
from pyro_hvae.errors import ConfigError, DataError

SPLITS = ("train", "validation", "test")


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRO_HVAE_CACHE", str(tmp_path / "cache"))


def together(data):
    return torch.cat([getattr(data, part).x[:] for part in SPLITS])


def dealt(array, count):
    """The array's rows in the order in which `together` has them."""
    held = 2 * max(1, round(count / 10))
    order = np.random.default_rng(0).permutation(count)
    return torch.from_numpy(np.ascontiguousarray(array[[*order[held:], *order[:held]]]))


def idx(array, code):
    shape = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, code, array.ndim]) + shape + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("name", ["own-images-idx3-ubyte", "own.idx3-ubyte", "a.idx", "A-UBYTE.gz", "a.idx.gz"])
def test_idx_files(tmp_path, name):
    images = np.random.default_rng(0).integers(0, 256, (20, 5, 4), dtype=np.uint8)
    path = tmp_path / name
    path.write_bytes(gzip.compress(idx(images, 8)) if name.endswith("gz") else idx(images, 8))
    data = load_user_data(path)
    assert data.shape == (1, 5, 4) and torch.equal(together(data), dealt(images, 20)[:, None].float() / 255)


@pytest.mark.parametrize(("code", "kind"), [(9, "i1"), (11, "i2"), (12, "i4"), (13, "f4"), (14, "f8")])
def test_types_of_idx_files(tmp_path, code, kind):
    values = (np.arange(60).reshape(20, 3) - 30).astype(kind)
    (tmp_path / "a.idx").write_bytes(idx(values, code))
    assert torch.equal(together(load_user_data(tmp_path / "a.idx")), dealt(values.astype("f4"), 20))


def test_damaged_idx_files(tmp_path, monkeypatch):
    good, path = idx(np.zeros((20, 5, 4), np.uint8), 8), tmp_path / "a.idx"
    for content, why in [
        (b"", "not an idx file"),
        (b"\0\0\x07" + good[3:], "not an idx file"),
        (b"\0\0\x08\x64" + b"\0\0\0\1" * 100, "not an idx file"),  # a hundred axes
        (good[:-1], "announces 400 values of shape .20, 5, 4., 399 follow"),
        (good + b"1", "announces 400 values .*, more follow"),
        (b"\0\0\x08\2" + b"\xff" * 8, "says that it has shape .*made to fill memory"),
        (gzip.compress(b"\0\0\x08\2\x7f\0\0\0" + b"\0\0\0\x08" * 9), "says that it has shape .*made to fill memory"),
        (gzip.compress(good)[:-9], "cannot read"),
    ]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=why):
            load_user_data(path)
    with pytest.raises(DataError, match="not an idx file"):
        read_idx(b"\0\0\x08\x64" + b"\0\0\0\1" * 100 + b"1", "labels")
    path.write_bytes(gzip.compress(good))
    monkeypatch.setattr(declared_sizes, "free_memory", lambda: 700)
    with pytest.raises(DataError, match="needs .* GB of memory"):
        load_user_data(path)
    monkeypatch.undo()
    damage(path, [good, gzip.compress(good)], 300)


def damage(path, contents, count):
    random, read = np.random.default_rng(0), 0
    for number in range(count):
        damaged = bytearray(contents[number % len(contents)])
        for place in random.integers(min(len(damaged), 400), size=random.integers(1, 4)):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged[: None if random.random() < 0.8 else random.integers(len(damaged))])
        try:
            load_user_data(path)
            read += 1
        except (DataError, ConfigError):
            pass
    assert 0 < read < count


def test_matlab_files(tmp_path):
    x, path = np.random.default_rng(0).normal(size=(20, 3)), tmp_path / "a.mat"
    held = {"X": x, "y": np.arange(20) % 3, "names": np.array(["ab", "cd"]), "s": {"a": 1}, "c": np.array([1, "a"], object)}
    for compressed in (False, True):
        io.savemat(path, held, do_compression=compressed)
        data = load_user_data(path)
        assert torch.equal(together(data), dealt(x, 20).float()) and "s (no array of numbers)" in data.note
        assert torch.equal(torch.cat([getattr(data, part).factors["y"] for part in SPLITS]), dealt(held["y"], 20))
    io.savemat(path, {"columns": np.array(["ab", "cd", "ef"]), "X": x})
    assert load_user_data(path).columns == ("ab", "cd", "ef")
    whole = np.arange(60).reshape(20, 3).astype("f8")  # MATLAB stores them as bytes
    io.savemat(path, {"X": whole, "Z": whole.astype(np.uint8)})
    assert torch.equal(together(load_user_data(path)), dealt(whole, 20).float())
    assert torch.equal(together(load_user_data(path, key="Z")), dealt(whole, 20).float() / 255)
    io.savemat(path, {"X": sparse.eye(20).tocsc()})
    with pytest.raises(DataError, match="X of a.mat is a cell, structure, sparse or complex array; data are real numbers"):
        load_user_data(path)


def test_matlab_files_of_version_73(tmp_path):
    h5py = pytest.importorskip("h5py")
    x, images, path = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20 * 5 * 4, dtype="f8"), tmp_path / "a.mat"
    images = images.reshape(20, 5, 4) / 400
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values, kind in [("X", x, b"double"), ("y", np.arange(20.0)[None], b"double"), ("images", images, b"double")]:
            file[name] = values.T
            file[name].attrs["MATLAB_class"] = kind
        file["text"] = np.zeros((2, 20), np.uint16)
        file["text"].attrs["MATLAB_class"] = b"char"
        file["#refs#/a"] = np.zeros((2, 20))
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")
    data = load_user_data(path)
    assert torch.equal(together(data), dealt(x, 20).float()) and list(data.train.factors) == ["y"]
    assert torch.equal(torch.cat([getattr(data, part).factors["y"] for part in SPLITS]), dealt(np.arange(20.0), 20))
    assert torch.equal(together(load_user_data(path, key="images")), dealt(images, 20)[:, None].float())


def test_damaged_matlab_files(tmp_path, monkeypatch):
    contents, path = [], tmp_path / "a.mat"
    for compressed in (False, True):
        io.savemat(path, {"X": np.random.default_rng(0).normal(size=(20, 3)), "y": np.arange(20)}, do_compression=compressed)
        contents.append(path.read_bytes())
    path.write_bytes(contents[0])
    monkeypatch.setattr(declared_sizes, "free_memory", lambda: 700)
    with pytest.raises(DataError, match="needs .* GB of memory"):
        load_user_data(path)
    monkeypatch.undo()
    damage(path, contents, 300)


def test_labels_that_are_texts(tmp_path):
    """They are classes in all parts alike; h5py describes texts of any length as objects."""
    x, kinds = np.random.default_rng(0).normal(size=(30, 3)), np.array(["b", "a", "c"] * 10)
    held = {"x_train": x, "label_train": kinds, "x_test": x[:4], "label_test": list("ccbb"), "feature_names": list("pqr")}
    np.savez(tmp_path / "a.npz", **held)
    data = load_user_data(tmp_path / "a.npz")
    assert data.labels == {"label": ["a", "b", "c"]} and data.test.factors["label"].tolist() == [2, 2, 1, 1]
    assert torch.cat([data.validation.factors["label"], data.train.factors["label"]]).bincount().tolist() == [10, 10, 10]
    assert "not used" not in data.note and data.columns == ("p", "q", "r")
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = x
        file["kind"] = kinds.astype(h5py.string_dtype())
        file["remark"] = np.array([f"{i}" for i in range(30)], dtype=h5py.string_dtype())
    data = load_user_data(tmp_path / "a.h5")
    assert data.labels == {"kind": ["a", "b", "c"]} and "remark (text)" in data.note


@pytest.mark.parametrize("name", [b"x\xff\xfe", b"group\xff/x"])
def test_hdf5_names_that_are_no_text_are_named_and_the_advice_works(tmp_path, name):
    h5py = pytest.importorskip("h5py")
    x, path = np.random.default_rng(0).normal(size=(20, 3)), tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        *groups, last = name.split(b"/")
        (file.create_group(groups[0]) if groups else file).create_dataset(last, data=x)
    with pytest.raises(DataError, match="is no text in UTF-8") as caught:
        load_user_data(path)
    advice = str(caught.value).partition("in Python: ")[2]
    exec(advice, {"h5py": h5py})
    assert torch.equal(together(load_user_data(path)), dealt(x, 20).float())
