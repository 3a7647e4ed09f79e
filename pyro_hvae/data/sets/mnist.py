"""MNIST and Fashion-MNIST in grey values or binarised, from the publishers' idx files (gzipped or unpacked)."""

import gzip
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.data.binarisation import binarize_splits, check_binarize
from pyro_hvae.data.dataset import Dataset, Split
from pyro_hvae.data.files.data_file import convert_errors, find, read_checked
from pyro_hvae.data.files.idx_files import describe_length, read_idx_header
from pyro_hvae.data.files.published_files import FILES
from pyro_hvae.errors import DataError

HELD_OUT = 10_000  # last images of the training file, for validation, as in the likelihood literature
CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
NOTES = {
    "none": "Grey values: their densities are not likelihoods of binary pixels.",
    "dynamic": "Training pixels binarised at every reading, validation and test pixels once (dynamic MNIST's protocol).",
    "fixed": "All pixels binarised once by our own draw: comparable only with itself, unlike mnist-static.",
}


def read_idx(content: bytes, name: str | Path) -> np.ndarray:
    """The array in an unpacked idx file of unsigned bytes.

    Arguments:
        content: two zero bytes, type 8, the number of axes, the length of each axis as a big-endian uint32, and the values.
        name: of the file, for errors.

    Raises:
        DataError: when the header is another one, or the file holds more or fewer values than it announces.

    >>> read_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]), "labels").tolist()
    [7, 8, 9]
    """
    if content[2:3] not in (b"\x08", b""):
        raise DataError(f"{name} is not an idx file of bytes: it begins with {content[:4]!r}. Replace it by the original.")
    kind, shape, start = read_idx_header(content, name)
    if len(content) - start != math.prod(shape):
        raise describe_length(name, shape, f"{len(content) - start:,}")
    return np.frombuffer(content, dtype=kind, offset=start).reshape(shape)


def _read_array(name: str) -> np.ndarray:
    """The array of an idx file, from the gzipped original if it exists, else from an unpacked copy."""
    file = FILES[f"{name}.gz"]
    path = find(file)
    if path.suffix != ".gz":
        return read_idx(read_checked(path), path)
    content = read_checked(path, file)
    with convert_errors(f"{path} cannot be unpacked"):
        return read_idx(gzip.decompress(content), path)


def _read_part(folder: str, part: str) -> tuple[Tensor, Tensor]:
    """Images (n, 1, 28, 28), uint8, and classes (n,), int64, of the part "train" or "t10k"."""
    images, classes = (_read_array(f"{folder}/raw/{part}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
    if images.shape != (len(images), 28, 28) or classes.shape != images.shape[:1] or classes.max(initial=0) > 9:
        raise DataError(
            f"{folder}/raw/{part}-*: images of shape {images.shape} and labels of shape {classes.shape} are not n "
            "images of 28 x 28 and n labels of 0 to 9. Replace both files by the originals."
        )
    # A copy, because torch needs writable memory and the bytes of a file are not.
    return torch.from_numpy(images[:, None].copy()), torch.from_numpy(classes.astype(np.int64))


def _build_dataset(name: str, folder: str, binarize: str, data_seed: int, names: Sequence[str]) -> Dataset:
    check_binarize(binarize, data_seed)  # before the files are read
    (x, classes), (test, test_classes) = _read_part(folder, "train"), _read_part(folder, "t10k")
    if len(x) <= HELD_OUT:
        raise DataError(
            f"{folder}/raw/train-*: {len(x):,} images, of which the last {HELD_OUT:,} are for validation, leave none for "
            "training. Replace the files by the originals."
        )
    rows = binarize_splits(binarize, data_seed, x[:-HELD_OUT], x[-HELD_OUT:], test)
    labels = ({"class": part} for part in (classes[:-HELD_OUT], classes[-HELD_OUT:], test_classes))
    counts = {"training file": len(x), "test file": len(test)}
    return Dataset(name, *map(Split, rows, labels), counts=counts, note=NOTES[binarize], labels={"class": names})


def mnist(binarize: str = "none", data_seed: int = 777) -> Dataset:
    """Handwritten digits, 28 x 28: 50,000 training, 10,000 validation (the training file's last) and 10,000 test images.

    The four files train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz and t10k-* go to MNIST/raw/ in the data folder.
    The factor "class" is the digit. Example: `mnist(binarize="fixed").train.x` has shape (50000, 1, 28, 28).

    Arguments:
        binarize: "none" for grey values in [0, 1]; "dynamic" and "fixed" as in `binarize_splits`. Likelihoods of fixed pixels
            are comparable only among themselves; the static pixels of the literature are in `mnist_static`.
        data_seed: seed of the pixels that are drawn once.

    Raises:
        ConfigError: for an unknown kind of binarisation or a negative seed.
        DataError: when a file is missing, not the published one, or corrupt.
    """
    return _build_dataset("mnist", "MNIST", binarize, data_seed, tuple("0123456789"))


def fashion_mnist(binarize: str = "none", data_seed: int = 777) -> Dataset:
    """Articles of clothing in MNIST's format and sizes (Xiao et al. 2017), with the same split and options.

    The files go to FashionMNIST/raw/ in the data folder. The factor "class" runs over `CLOTHES`.

    Arguments:
        binarize, data_seed: as for `mnist`.

    Raises:
        ConfigError, DataError: as for `mnist`.
    """
    return _build_dataset("fashion-mnist", "FashionMNIST", binarize, data_seed, CLOTHES)
