"""Statically binarised MNIST: one fixed draw of binary pixels, on which the literature reports likelihoods."""

import hashlib
import io
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.data.dataset import Dataset, Split
from pyro_hvae.data.files.data_file import convert_errors, find, read_checked
from pyro_hvae.data.files.published_files import FILES
from pyro_hvae.errors import DataError
from pyro_hvae.runtime import data_folder

PIXELS = 28 * 28
PACKED = "MNIST_static/binarized_mnist_packed.npz"
ANOTHER_CUT = (
    " Another cut than mnist, in another order: five sixths of these validation images are digits that mnist trains on, and a "
    "sixth of these training images are digits of mnist's validation. The test digits are the same."
)
COUNTS = {"train": 50_000, "valid": 10_000, "test": 10_000}
# Of the unpacked arrays with one byte per pixel, independent of packing and compression.
MD5 = {
    "train": "8d4f0427d6c2572b5e9994e08bad66de",
    "valid": "3e33becd40c694040e5e6c812e2f4b50",
    "test": "fc34623e13bd64fed2f8b61365198339",
}


def mnist_static() -> Dataset:
    """Binary 28 x 28 digits: 50,000 training, 10,000 validation and 10,000 test images with fixed pixels of 0 and 1.

    The data folder holds either MNIST_static/binarized_mnist_packed.npz: arrays `train`, `valid` and `test` of uint8 (n, 98),
    eight pixels per byte, and optionally `train_labels_inferred` (n,) and so on, the digit of the most similar MNIST image,
    which becomes the factor "class". Or it holds the text files binarized_mnist_train.amat, binarized_mnist_valid.amat and
    binarized_mnist_test.amat of Larochelle and Murray (2011), which have no classes. The data set's note says whether the
    pixels are the known ones, and that training and validation are another cut than those of `mnist`. Example:
    `mnist_static().test.x` has shape (10000, 1, 28, 28).

    Raises:
        DataError: when a file is missing or corrupt, or has another number of images.
    """
    path = data_folder() / PACKED
    pixels, classes = _read_packed(path) if os.path.exists(path) else ({name: _read_text(name) for name in COUNTS}, {})
    # The packed arrays may be stored column by column, which makes reading single images slow.
    pixels = {name: np.ascontiguousarray(x) for name, x in pixels.items()}
    found = {name: hashlib.md5(x.data, usedforsecurity=False).hexdigest() for name, x in pixels.items()}
    others = [f"{name} {found[name]}" for name in COUNTS if found[name] != MD5[name]]
    note = "Verified: the MD5s of all three arrays of pixels are the known ones." + ANOTHER_CUT
    if others:
        note = f"Unknown split, not comparable with published likelihoods: the MD5s of {', '.join(others)} are unknown."
    images = {name: torch.from_numpy(x.reshape(-1, 1, 28, 28) * np.uint8(255)) for name, x in pixels.items()}
    splits = (Split(images[name], classes.get(name)) for name in COUNTS)
    return Dataset("mnist-static", *splits, counts=COUNTS, note=note)


def _read_packed(path: Path) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Tensor]]]:
    """Split -> pixels (n, 784) and split -> factors."""
    pixels, classes, content = {}, {}, io.BytesIO(read_checked(path))
    advice = "Replace it by the original, or remove it so that the .amat files are read."
    with (
        convert_errors(f"{path} cannot be read as packed images", advice),
        np.load(content, allow_pickle=False) as arrays,
    ):
        for name, count in COUNTS.items():
            bits = arrays[name]
            if bits.shape != (count, PIXELS // 8):
                raise DataError(f"{path}: '{name}' has shape {bits.shape}, not {(count, PIXELS // 8)}. Replace the file.")
            pixels[name] = np.unpackbits(bits, axis=1, count=PIXELS)
            classes[name] = _read_classes(path, arrays, name, count)
    return pixels, classes


def _read_classes(path: Path, arrays: np.lib.npyio.NpzFile, name: str, count: int) -> dict[str, Tensor]:
    """The inferred digits, if the file has them."""
    if (key := f"{name}_labels_inferred") not in arrays:
        return {}
    classes = arrays[key].astype(np.int64)
    if classes.shape != (count,) or classes.min() < 0 or classes.max() > 9:
        raise DataError(f"{path}: '{key}' of shape {classes.shape} is not a list of {count:,} digits. Replace the file.")
    return {"class": torch.from_numpy(classes)}


def _read_text(name: str) -> np.ndarray:
    """The images of one .amat file: one per line, 784 times 0 or 1 separated by spaces.

    Reads line by line, because the text is sixteen times larger than the bits, and so that an error can name the line.
    """
    path = find(FILES[f"MNIST_static/binarized_mnist_{name}.amat"])
    pixels = np.empty((COUNTS[name], PIXELS), dtype=np.uint8)
    number = 0
    with convert_errors(f"cannot read {path}", "Check that it is a file you may read."):
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                digits = line.translate(None, b" \r\n")
                if len(digits) != PIXELS or digits.translate(None, b"01"):
                    raise DataError(f"{path}, line {number}: not {PIXELS} times 0 or 1. Replace the file by the original.")
                if number <= len(pixels):
                    pixels[number - 1] = np.frombuffer(digits, dtype=np.uint8)
    if number != len(pixels):
        raise DataError(f"{path} has {number:,} images instead of {len(pixels):,}. Replace it by the original.")
    return pixels - np.uint8(ord("0"))
