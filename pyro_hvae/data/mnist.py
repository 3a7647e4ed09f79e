"""MNIST and Fashion-MNIST in grey values or binarised once, read from the publishers' idx files (gzipped or unpacked)."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.data.dataset import Dataset, Split
from pyro_hvae.data.files import find, read_checked
from pyro_hvae.errors import ConfigError, DataError, unknown_name

__all__ = ["mnist", "fashion_mnist", "read_idx"]

HELD_OUT = 10_000  # the last images of the training file, for validation: the custom of the likelihood literature
BINARIZE = ("none", "fixed")
# The publishers' checksums; unpacked files have none and are held to their format alone.
MD5 = {
    "MNIST/raw/train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "MNIST/raw/train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "MNIST/raw/t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "MNIST/raw/t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    "FashionMNIST/raw/train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "FashionMNIST/raw/train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "FashionMNIST/raw/t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "FashionMNIST/raw/t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}


def read_idx(content: bytes, name: str | Path) -> np.ndarray:
    """The array in an unpacked idx file of unsigned bytes.

    Arguments:
        content: two zero bytes, type 8, the number of axes, each axis' length as a big-endian uint32, and the values.
        name: what to call the file in an error.

    Raises:
        DataError: when the header is another one, or the number of values is not what it announces.

    >>> read_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]), "labels").tolist()
    [7, 8, 9]
    """
    if len(content) < 4 or content[:3] != b"\0\0\x08" or len(content) < 4 + 4 * content[3]:
        raise DataError(f"{name} is no idx file of unsigned bytes: it begins with {content[:4]!r}. Replace it by the original.")
    start = 4 + 4 * content[3]
    shape = tuple(int(n) for n in np.frombuffer(content[4:start], dtype=">u4"))
    if len(content) - start != math.prod(shape):
        raise DataError(
            f"{name} is corrupt: its header announces {math.prod(shape):,} values of shape {shape}, {len(content) - start:,} "
            "follow. Replace it by the original."
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def _load(name: str) -> np.ndarray:
    """The array of an idx file, from the gzipped original where it is there, else from an unpacked copy."""
    path = find(f"{name}.gz", name, md5=MD5.get(f"{name}.gz"))
    if path.suffix != ".gz":
        return read_idx(read_checked(path), path)
    content = read_checked(path, MD5.get(f"{name}.gz"))
    try:
        return read_idx(gzip.decompress(content), path)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be unpacked: {error}. Replace it by the original.") from error


def _pair(folder: str, part: str) -> tuple[Tensor, Tensor]:
    """Images (n, 1, 28, 28), float32 in [0, 1], and classes (n,), int64, of one of the two parts."""
    images, classes = _load(f"{folder}/raw/{part}-images-idx3-ubyte"), _load(f"{folder}/raw/{part}-labels-idx1-ubyte")
    if images.shape != (len(images), 28, 28) or classes.shape != images.shape[:1] or classes.max(initial=0) > 9:
        raise DataError(
            f"{folder}/raw/{part}-*: images of shape {images.shape} and labels of shape {classes.shape} are no pair of n "
            "28 x 28 images and n labels of 0 to 9. Replace both files by the originals."
        )
    x = torch.from_numpy(images.astype(np.float32)[:, None]).div_(255)
    return x, torch.from_numpy(classes.astype(np.int64))


def _dataset(name: str, folder: str, binarize: str, data_seed: int) -> Dataset:
    # Options first: a wrong one is not worth waiting for files.
    if binarize not in BINARIZE:
        raise unknown_name("binarize", binarize, BINARIZE)
    if data_seed < 0:
        raise ConfigError(f"data_seed is the seed of the binarisation and at least 0, got {data_seed}.")
    (x, classes), test = _pair(folder, "train"), _pair(folder, "t10k")
    if len(x) <= HELD_OUT:
        raise DataError(
            f"{folder}/raw/train-*: {len(x):,} images, of which the last {HELD_OUT:,} are for validation, leave none to train "
            "on. Replace the files by the originals."
        )
    parts = (x[:-HELD_OUT], classes[:-HELD_OUT]), (x[-HELD_OUT:], classes[-HELD_OUT:]), test
    if binarize == "fixed":
        # A generator per split: no split's pixels depend on the size of another.
        rngs = [np.random.default_rng([data_seed, split]) for split in range(3)]
        parts = [(_binarised(x, rng), classes) for rng, (x, classes) in zip(rngs, parts, strict=True)]
    train, validation, held = (Split(x, {"class": classes}) for x, classes in parts)
    return Dataset(name, train, validation, held)


def _binarised(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Independent Bernoulli(x) pixels; draws are in [0, 1), so black stays black and white stays white."""
    return (torch.from_numpy(rng.random(tuple(x.shape), dtype=np.float32)) < x).float()


def mnist(binarize: str = "none", data_seed: int = 0) -> Dataset:
    """Handwritten digits, 28 x 28: 50,000 training, 10,000 validation (the training file's last) and 10,000 test images.

    The four files train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz and t10k-* go to MNIST/raw/ in the data folder.
    The factor "class" is the digit. Example: `mnist(binarize="fixed").train.x` has shape (50000, 1, 28, 28).

    Arguments:
        binarize: "none" for grey values in [0, 1]; "fixed" draws every pixel once as Bernoulli(grey value). Likelihoods of
            such pixels can be compared among themselves only; those of the literature are for `mnist_static`.
        data_seed: seed of the fixed binarisation.

    Raises:
        ConfigError: for an unknown kind of binarisation or a negative seed.
        DataError: when a file is missing, not the published one, or corrupt.
    """
    return _dataset("mnist", "MNIST", binarize, data_seed)


def fashion_mnist(binarize: str = "none", data_seed: int = 0) -> Dataset:
    """Articles of clothing in MNIST's format and sizes (Xiao et al. 2017); split, files (FashionMNIST/raw/) and options alike.

    The factor "class" runs over T-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot.

    Arguments:
        binarize: "none" for grey values in [0, 1]; "fixed" draws every pixel once as Bernoulli(grey value).
        data_seed: seed of the fixed binarisation.

    Raises:
        ConfigError: for an unknown kind of binarisation or a negative seed.
        DataError: when a file is missing, not the published one, or corrupt.
    """
    return _dataset("fashion-mnist", "FashionMNIST", binarize, data_seed)
