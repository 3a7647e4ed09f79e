"""Digits, MNIST and Fashion-MNIST: tiny files in the official formats, every damage, and the real files where they are."""

import gzip
import hashlib
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pyro_hvae.data import DATASETS, digits, fashion_mnist, mnist, mnist_static
from pyro_hvae.data.files import data_file as files
from pyro_hvae.data.files.data_file import File
from pyro_hvae.data.files.published_files import FILES
from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.runtime.folders import DATA_VARIABLE

# The package shows functions of the same names in the modules' places.
grey_module, static_module = sys.modules["pyro_hvae.data.sets.mnist"], sys.modules["pyro_hvae.data.sets.mnist_static"]
REAL = Path(os.environ.get(DATA_VARIABLE) or "absent")
SIZES = {"train": 30, "t10k": 7}
PARTS = [("train", "images-idx3"), ("train", "labels-idx1"), ("t10k", "images-idx3"), ("t10k", "labels-idx1")]


def real(name):
    return pytest.mark.skipif(not (REAL / name).exists(), reason=f"needs {name} below {DATA_VARIABLE}")


def idx(array):
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def arrays():
    """Part and kind -> array, the images' first pixel black and second white."""
    rng, made = np.random.default_rng(0), {}
    for part, kind in PARTS:
        if kind.startswith("images"):
            made[part, kind] = rng.integers(0, 256, (SIZES[part], 28, 28), dtype=np.uint8)
            made[part, kind][:, 0, :2] = 0, 255
        else:
            made[part, kind] = (np.arange(SIZES[part]) % 10).astype(np.uint8)
    return made


def known(monkeypatch, name, content):
    monkeypatch.setitem(FILES, f"{name}.gz", File(f"{name}.gz", sha256=hashlib.sha256(content).hexdigest(), instead=(name,)))


def write(root, monkeypatch, name, content):
    """A gzipped file under `name`, known by its checksum."""
    path = root / f"{name}.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content))
    known(monkeypatch, name, path.read_bytes())
    return path


@pytest.fixture(params=["MNIST", "FashionMNIST"])
def tiny(request, root, monkeypatch):
    monkeypatch.setattr(grey_module, "HELD_OUT", 10)
    for (part, kind), array in arrays().items():
        write(root, monkeypatch, f"{request.param}/raw/{part}-{kind}-ubyte", idx(array))
    return {"MNIST": mnist, "FashionMNIST": fashion_mnist}[request.param], root / request.param / "raw"


def test_finding_and_checking(root):
    wanted = File("A/a.gz", md5="c0ffee", instead=("A/a",))
    with pytest.raises(DataError) as missing:
        files.find(wanted)
    for part in ("A/a.gz (or A/a)", str(root / "A/a.gz"), "c0ffee", DATA_VARIABLE, "folder that contains A."):
        assert part in str(missing.value)
    (root / "A").mkdir()
    (root / "A/a").write_bytes(b"abc")
    assert files.find(wanted) == root / "A/a"
    abc = File("A/a", md5="900150983cd24fb0d6963f7d28e17f72")
    assert files.read_checked(root / "A/a", abc) == files.read_checked(root / "A/a") == b"abc"
    with pytest.raises(DataError, match="900150983cd24fb0d6963f7d28e17f72, it should be c0ffee"):
        files.read_checked(root / "A/a", File("A/a", md5="c0ffee"))
    with pytest.raises(DataError, match="cannot read"):
        files.read_checked(root / "A")


def test_idx_files_become_splits(tiny):
    load, _ = tiny
    data, made = load(), arrays()
    assert [len(split) for split in (data.train, data.validation, data.test)] == [20, 10, 7]
    assert data.shape == (1, 28, 28) and data.train.x[:].dtype == torch.float32
    images, classes = made["train", "images-idx3"], made["train", "labels-idx1"]
    assert np.allclose(data.train.x[:][:, 0] * 255, images[:20]) and np.allclose(data.validation.x[:][:, 0] * 255, images[20:])
    assert np.allclose(data.test.x[:][:, 0] * 255, made["t10k", "images-idx3"])
    assert data.validation.factors["class"].dtype == torch.int64
    assert data.validation.factors["class"].tolist() == classes[20:].tolist()


def test_unpacked_files_do_as_well(tiny):
    load, raw = tiny
    before = load()
    for path in raw.glob("*.gz"):
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert torch.equal(load().train.x[:], before.train.x[:])


def test_fixed_binarisation(tiny):
    load, _ = tiny
    grey, once, again, other = load(), load(binarize="fixed"), load("fixed"), load("fixed", data_seed=1)
    for part in ("train", "validation", "test"):
        x, g = getattr(once, part).x[:], getattr(grey, part).x[:]
        assert torch.equal(x, getattr(again, part).x[:]) and not torch.equal(x, getattr(other, part).x[:])
        assert set(x.unique().tolist()) == {0.0, 1.0} and x.dtype == torch.float32
        assert (x[:, 0, 0, 0] == 0).all() and (x[:, 0, 0, 1] == 1).all()
        assert abs((x - g).mean()) < 0.05 and torch.equal(
            getattr(once, part).factors["class"], getattr(grey, part).factors["class"]
        )
    held = load("dynamic")
    torch.manual_seed(0)
    first, second = held.train.x[:], held.train.x[:]
    assert set(first.unique().tolist()) == {0.0, 1.0} and not torch.equal(first, second)
    assert torch.equal(held.test.x[:], once.test.x[:]) and torch.equal(held.validation.x[:], once.validation.x[:])
    many = torch.stack([held.train.x[:] for _ in range(400)]).mean(0)
    # Standard error of a mean of 400 coins is at most 0.025.
    assert (many - grey.train.x[:]).abs().max() < 0.15 and abs((many - grey.train.x[:]).mean()) < 1e-3
    with pytest.raises(ConfigError, match="no binarize called 'fixd'. Did you mean 'fixed'"):
        load(binarize="fixd")
    with pytest.raises(ConfigError, match="at least 0 .*, not -1"):
        load(data_seed=-1)


def test_damaged_idx_files(root, monkeypatch):
    with pytest.raises(DataError, match="440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"):
        mnist()
    monkeypatch.setattr(grey_module, "HELD_OUT", 10)
    made = {f"MNIST/raw/{part}-{kind}-ubyte": array for (part, kind), array in arrays().items()}
    for name, array in made.items():
        write(root, monkeypatch, name, idx(array))
    images, labels = "MNIST/raw/train-images-idx3-ubyte", "MNIST/raw/train-labels-idx1-ubyte"
    good = idx(made[images])
    for content, why in [
        (good[:-1], "is corrupt: its header announces 23,520 values"),
        (good + b"\0", "is corrupt"),
        (good[:10], "not an idx file"),
        (b"", "not an idx file"),
        (b"\0\0\x0d\3" + good[4:], "not an idx file"),
        (idx(made[images][:, :27]), "are not n images of 28 x 28"),
        (idx(made[images][:-1]), "are not n images of 28 x 28"),
    ]:
        write(root, monkeypatch, images, content)
        with pytest.raises(DataError, match=why):
            mnist()
    path = write(root, monkeypatch, images, good)
    whole = path.read_bytes()
    for content in (whole[:-20], b"no gzip at all", whole[:30] + b"\xff" * 30 + whole[60:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="it should be"):
            mnist()
        known(monkeypatch, images, content)
        with pytest.raises(DataError, match="cannot be unpacked"):
            mnist()
        write(root, monkeypatch, images, good)
    write(root, monkeypatch, labels, idx(made[labels] + np.uint8(1)))
    with pytest.raises(DataError, match="labels of 0 to 9"):
        mnist()
    write(root, monkeypatch, labels, idx(made[labels][:10]))
    write(root, monkeypatch, images, idx(made[images][:10]))
    with pytest.raises(DataError, match="10 images, of which the last 10"):
        mnist()


@pytest.fixture
def static(root, monkeypatch):
    """The folder, the binary pixels of the three splits, and a function that writes the packed file."""
    monkeypatch.setattr(static_module, "COUNTS", {"train": 6, "valid": 3, "test": 2})
    rng = np.random.default_rng(0)
    pixels = {name: rng.integers(0, 2, (count, 784), dtype=np.uint8) for name, count in static_module.COUNTS.items()}
    monkeypatch.setattr(static_module, "MD5", {name: hashlib.md5(x.tobytes()).hexdigest() for name, x in pixels.items()})
    folder = root / "MNIST_static"
    folder.mkdir()

    def pack(**others):
        packed = {name: np.packbits(x, axis=1) for name, x in pixels.items()}
        np.savez_compressed(folder / "binarized_mnist_packed.npz", **{**packed, **others})

    return folder, pixels, pack


def amat(folder, pixels, end=" \n"):
    for name, x in pixels.items():
        lines = [" ".join(map(str, row)) + end for row in x.tolist()]
        (folder / f"binarized_mnist_{name}.amat").write_text("".join(lines), newline="")


def test_static_pixels_from_either_format(static):
    folder, pixels, pack = static
    with pytest.raises(DataError, match=r"binarized_mnist_train.amat \(or MNIST_static/binarized_mnist_packed.npz\)"):
        mnist_static()
    for end in (" \n", "\n", "\r\n"):
        amat(folder, pixels, end)
        text = mnist_static()
        for split, name in ((text.train, "train"), (text.validation, "valid"), (text.test, "test")):
            assert np.array_equal(split.x[:].reshape(-1, 784), pixels[name]) and not split.factors
    pack(train_labels_inferred=np.arange(6, dtype=np.uint8))
    packed = mnist_static()
    assert torch.equal(packed.train.x[:], text.train.x[:]) and torch.equal(packed.test.x[:], text.test.x[:])
    assert packed.shape == (1, 28, 28) and packed.train.x[:].dtype == torch.float32
    assert packed.train.factors["class"].tolist() == list(range(6)) and not packed.test.factors
    assert packed.train.factors["class"].dtype == torch.int64


def test_damaged_static_pixels(static):
    folder, pixels, pack = static
    path = folder / "binarized_mnist_packed.npz"
    other = np.packbits(1 - pixels["valid"], axis=1)
    for others, why in [
        ({"valid": other[:, :90]}, r"'valid' has shape \(3, 90\), not \(3, 98\)"),
        ({"valid": other[:2]}, r"'valid' has shape \(2, 98\)"),
        ({"test": np.array([{}, {}], dtype=object)}, "cannot be read"),
        ({"test": np.zeros((2, 98))}, "cannot be read"),
        ({"train_labels_inferred": np.arange(5)}, r"of shape \(5,\) is not a list of 6 digits"),
        ({"train_labels_inferred": np.arange(6) + 5}, "is not a list of 6 digits"),
    ]:
        pack(**others)
        with pytest.raises(DataError, match=why):
            mnist_static()
    pack(valid=other)  # sound, but other pixels
    assert (
        mnist_static().note.startswith("Unknown split")
        and "valid " in mnist_static().note
        and "train " not in mnist_static().note
    )
    pack()
    assert mnist_static().note.startswith("Verified")
    whole = path.read_bytes()
    np.savez(path, train=np.packbits(pixels["train"], axis=1))
    for content in (path.read_bytes(), whole[:-30], whole[:200] + b"\xff" * 99 + whole[299:], b"", b"text"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="cannot be read as packed"):
            mnist_static()
    np.save(folder / "one.npy", np.zeros(3))
    (folder / "one.npy").replace(path)
    with pytest.raises(DataError, match="cannot be read as packed"):
        mnist_static()


def test_damaged_text(static):
    folder, pixels, _ = static
    amat(folder, pixels)
    path = folder / "binarized_mnist_valid.amat"
    lines = path.read_text().splitlines(keepends=True)
    for content, why in [
        (lines[:2], "has 2 images instead of 3"),
        (lines + lines, "has 6 images instead of 3"),
        ([], "has 0 images"),
        ([lines[0], lines[1][:-4], lines[2]], "valid.amat, line 2: not 784 times 0 or 1"),
        ([lines[0], lines[1], lines[2].replace("1", "2")], "line 3"),
    ]:
        path.write_text("".join(content))
        with pytest.raises(DataError, match=why):
            mnist_static()
    path.unlink()
    with pytest.raises(DataError, match="no data file MNIST_static/binarized_mnist_valid.amat"):
        mnist_static()
    path.mkdir()
    with pytest.raises(DataError, match="cannot read"):
        mnist_static()


def rows(x):
    return {row.tobytes() for row in x.numpy()}


def test_digits_need_no_files(root):
    data, again, other = digits(), digits(), digits(data_seed=1)
    splits = (data.train, data.validation, data.test)
    assert [len(split) for split in splits] == [1_297, 200, 300]
    assert data.shape == (1, 8, 8) and data.train.x[:].dtype == torch.float32
    whole = torch.cat([split.x[:] for split in splits])
    assert whole.min() == 0 and whole.max() == 1 and torch.equal(whole * 16, (whole * 16).round())
    assert torch.equal(data.test.x[:], again.test.x[:]) and not torch.equal(data.test.x[:], other.test.x[:])
    # Each image of the source is in exactly one split (all of them differ).
    assert len(rows(whole)) == 1_797 and rows(whole) == rows(
        torch.cat([other.train.x[:], other.validation.x[:], other.test.x[:]])
    )
    counts = torch.cat([split.factors["class"] for split in splits]).bincount()
    assert len(counts) == 10 and counts.min() == 174 and counts.max() == 183
    assert (data.test.factors["class"].bincount(minlength=10) > 15).all() and data.test.factors["class"].dtype == torch.int64
    with pytest.raises(ConfigError, match="got -3"):
        digits(data_seed=-3)


def test_names():
    loaders = {"digits": digits, "mnist": mnist, "fashion-mnist": fashion_mnist, "mnist-static": mnist_static}
    assert all(DATASETS[name].load is load for name, load in loaders.items())


@pytest.mark.parametrize(
    ("name", "mean"),
    [
        pytest.param("mnist", 0.1307, marks=real("MNIST/raw/train-images-idx3-ubyte.gz")),
        pytest.param("fashion-mnist", 0.2860, marks=real("FashionMNIST/raw/train-images-idx3-ubyte.gz")),
        pytest.param("mnist-static", 0.1307, marks=real("MNIST_static/binarized_mnist_packed.npz")),
    ],
)
def test_real_images(name, mean):
    data = DATASETS[name]()
    assert data.shape == (1, 28, 28)
    for split, size in ((data.train, 50_000), (data.validation, 10_000), (data.test, 10_000)):
        x = split.x[:]
        assert len(split) == size and x.dtype == torch.float32 and x.min() == 0 and x.max() == 1
        assert abs(x.mean() - mean) < 0.004
        counts = split.factors["class"].bincount()
        assert len(counts) == 10 and counts.sum() == size and counts.min() > 0.085 * size and counts.max() < 0.12 * size
        if name == "mnist-static":
            assert ((x == 0) | (x == 1)).all()


@real("MNIST/raw/train-images-idx3-ubyte.gz")
def test_real_images_binarised():
    data = {kind: mnist(binarize=kind) for kind in ("none", "fixed", "dynamic")}
    grey, binary = data["none"].test.x[:], data["fixed"].test.x[:]
    difference = binary - grey
    assert ((binary == 0) | (binary == 1)).all() and abs(difference.mean()) < 1e-3
    # The variance of a Bernoulli pixel, on average.
    assert difference.square().mean() == pytest.approx((grey * (1 - grey)).mean().item(), rel=0.01)
    # Validation first, then test, as the VampPrior's authors draw them.
    random = np.random.RandomState(777)
    for split in ("validation", "test"):
        drawn = random.binomial(1, getattr(data["none"], split).x[:].numpy())
        for kind in ("fixed", "dynamic"):
            assert np.array_equal(getattr(data[kind], split).x[:].numpy(), drawn)


@real("MNIST_static/binarized_mnist_packed.npz")
@real("MNIST/raw/train-images-idx3-ubyte.gz")
def test_static_mnist_is_another_cut():
    """Five sixths of its validation digits are in MNIST's training split, and its test digits are MNIST's."""
    static, grey = mnist_static(), mnist()
    assert "five sixths" in static.note
    everything = torch.cat([split.x[:].flatten(1) for split in (grey.train, grey.validation, grey.test)])

    def places(split):
        x = split.x[:500].flatten(1)
        return (everything.square().sum(1) - 2 * x @ everything.T).argmin(1)

    validation, test = places(static.validation), places(static.test)
    assert abs((validation < 50_000).float().mean() - 5 / 6) < 4 * (5 / 36 / 500) ** 0.5  # four standard errors
    assert (validation < 60_000).float().mean() > 0.99 and (test >= 60_000).float().mean() > 0.99
