"""Statically binarised MNIST: one fixed draw of binary pixels, the data of the likelihoods in the literature."""

import hashlib
import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.data.dataset import Dataset, Split
from pyro_hvae.data.files.data_file import find, read_checked
from pyro_hvae.data.files.published_files import FILES
from pyro_hvae.errors import DataError
from pyro_hvae.runtime.folders import data_folder

__all__ = ["mnist_static"]

PIXELS = 28 * 28
PACKED = "MNIST_static/binarized_mnist_packed.npz"
COUNTS = {"train": 50_000, "valid": 10_000, "test": 10_000}
# Of the unpacked arrays, one byte per pixel: how the bits were packed and compressed does not matter.
MD5 = {
    "train": "8d4f0427d6c2572b5e9994e08bad66de",
    "valid": "3e33becd40c694040e5e6c812e2f4b50",
    "test": "fc34623e13bd64fed2f8b61365198339",
}


def mnist_static() -> Dataset:
    """Binary 28 x 28 digits: 50,000 training, 10,000 validation and 10,000 test images, every pixel 0 or 1 for good.

    Either MNIST_static/binarized_mnist_packed.npz in the data folder: arrays `train`, `valid` and `test` of uint8 (n, 98),
    eight pixels per byte, and optionally `train_labels_inferred` (n,) and so on, the digit of the MNIST image that matches
    best, which becomes the factor "class". Or the text files binarized_mnist_train.amat, binarized_mnist_valid.amat and
    binarized_mnist_test.amat of Larochelle and Murray (2011), which know no classes. The data set's note says whether the
    pixels are the known ones. Example: `mnist_static().test.x` has shape (10000, 1, 28, 28).

    Raises:
        DataError: when a file is missing or corrupt, or does not hold as many images.
    """
    path = data_folder() / PACKED
    pixels, classes = _read_packed(path) if path.exists() else ({name: _read_text(name) for name in COUNTS}, {})
    found = {name: hashlib.md5(np.ascontiguousarray(x).data, usedforsecurity=False).hexdigest() for name, x in pixels.items()}
    others = [f"{name} {found[name]}" for name in COUNTS if found[name] != MD5[name]]
    note = "Verified: the MD5s of all three arrays of pixels are the known ones."
    if others:
        note = (
            f"Unknown split, not to be compared with published likelihoods: the MD5s of {', '.join(others)} are not the known."
        )
    splits = (Split(_to_images(pixels[name]), classes.get(name)) for name in COUNTS)
    return Dataset("mnist-static", *splits, counts=COUNTS, note=note)


def _read_packed(path: Path) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Tensor]]]:
    """Split -> pixels (n, 784) and split -> factors."""
    pixels, classes, content = {}, {}, io.BytesIO(read_checked(path))
    try:
        with np.load(content, allow_pickle=False) as arrays:
            for name, count in COUNTS.items():
                bits = arrays[name]
                if bits.shape != (count, PIXELS // 8):
                    raise DataError(f"{path}: '{name}' has shape {bits.shape}, not {(count, PIXELS // 8)}. Replace the file.")
                pixels[name] = np.unpackbits(bits, axis=1, count=PIXELS)
                classes[name] = _read_classes(path, arrays, name, count)
    except (OSError, EOFError, KeyError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read as packed images: {error}. Replace it by the original, or remove it "
            "so that the .amat files are read."
        ) from error
    return pixels, classes


def _read_classes(path: Path, arrays: np.lib.npyio.NpzFile, name: str, count: int) -> dict[str, Tensor]:
    """The inferred digits; a file without them is fine, one with wrong ones is not."""
    if (key := f"{name}_labels_inferred") not in arrays:
        return {}
    classes = arrays[key].astype(np.int64)
    if classes.shape != (count,) or classes.min() < 0 or classes.max() > 9:
        raise DataError(f"{path}: '{key}' of shape {classes.shape} is no list of {count:,} digits. Replace it by the original.")
    return {"class": torch.from_numpy(classes)}


def _read_text(name: str) -> np.ndarray:
    """The images of one .amat file: one per line, 784 times 0 or 1 with spaces between.

    Line by line, since the text is sixteen times the size of the bits, and so that an error can name its line.
    """
    path = find(FILES[f"MNIST_static/binarized_mnist_{name}.amat"])
    pixels = np.empty((COUNTS[name], PIXELS), dtype=np.uint8)
    number = 0
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                digits = line.translate(None, b" \r\n")
                if len(digits) != PIXELS or digits.translate(None, b"01"):
                    raise DataError(f"{path}, line {number}: not {PIXELS} times 0 or 1. Replace the file by the original.")
                if number <= len(pixels):
                    pixels[number - 1] = np.frombuffer(digits, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}. Check that it is a file you may read.") from error
    if number != len(pixels):
        raise DataError(f"{path} has {number:,} images instead of {len(pixels):,}. Replace it by the original.")
    return pixels - np.uint8(ord("0"))


def _to_images(pixels: np.ndarray) -> Tensor:
    # The packed arrays may lie column by column, and reading a few images is slow then.
    return torch.from_numpy(np.ascontiguousarray(pixels).reshape(-1, 1, 28, 28) * np.uint8(255))
