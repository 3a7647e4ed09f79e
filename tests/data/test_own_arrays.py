"""One's own idx and MATLAB files: every type, every damage."""

import gzip
import struct

import numpy as np
import pytest
import torch

from pyro_hvae.data.files import memory_limit
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
        (b"\0\0\x08\2" + b"\xff" * 8, "needs .* TB of memory"),
        (gzip.compress(good)[:-9], "cannot read"),
    ]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=why):
            load_user_data(path)
    with pytest.raises(DataError, match="not an idx file"):
        read_idx(b"\0\0\x08\x64" + b"\0\0\0\1" * 100 + b"1", "labels")
    path.write_bytes(gzip.compress(good))
    monkeypatch.setattr(memory_limit, "free_memory", lambda: 700)
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
