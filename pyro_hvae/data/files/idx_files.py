"""The idx format of MNIST's files: its header, and its values of any type."""

import math
from pathlib import Path

import numpy as np

from pyro_hvae.errors import DataError

TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}  # third byte -> type of the values
AXES = 8  # at most


def read_idx_header(start: bytes, name: str | Path) -> tuple[np.dtype, tuple[int, ...], int]:
    """The type of the values of an idx file, its shape, and where the values begin.

    Arguments:
        start: at least the first 36 bytes: two zero bytes, the type, the number of axes, and the length of each axis as a
            big-endian uint32; or the whole of a shorter file.
        name: of the file, for errors.

    Raises:
        DataError: when it is no such header.

    >>> read_idx_header(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]), "labels")
    (dtype('uint8'), (3,), 8)
    """
    known = len(start) >= 4 and start[:2] == b"\0\0" and start[2] in TYPES and 0 < start[3] <= AXES
    if not known or len(start) < 4 + 4 * start[3]:
        raise DataError(f"{name} is not an idx file: it begins with {start[:4]!r}. Replace it by the original.")
    offset = 4 + 4 * start[3]
    return np.dtype(TYPES[start[2]]), tuple(int(n) for n in np.frombuffer(start[4:offset], dtype=">u4")), offset


def describe_length(name: str | Path, shape: tuple[int, ...], found: str) -> DataError:
    """The error for an idx file with another number of values than its header says."""
    return DataError(
        f"{name} is corrupt: its header announces {math.prod(shape):,} values of shape {shape}, {found} follow. Replace it by "
        "the original."
    )
