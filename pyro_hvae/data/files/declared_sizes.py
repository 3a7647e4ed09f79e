"""Declared sizes of arrays, compared with the file that holds them and with free memory before any is read."""

from pathlib import Path

import numpy as np

from pyro_hvae.data.files.memory_limit import free_memory
from pyro_hvae.errors import DataError

LARGEST_RATIO = 1_000  # of an array to its packed bytes: deflate reaches 1,032, and only where all values are the same
SMALL = 2**26  # bytes that are read whatever packs them


def check_declared_size(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype, stored: int, compressed: bool) -> None:
    """Raises `DataError` for an array that its file cannot hold, or whose values do not go into free memory.

    Arguments:
        stored: bytes that the file has of it. compressed: whether these are packed.
    """
    size = dtype.itemsize
    for length in shape:
        size *= int(length)  # Python's numbers have no largest one
    most = stored * (LARGEST_RATIO if compressed else 1)
    what = f"'{name}' of {path} says that it has shape {shape}, that is {size / 2**20:,.0f} MiB"
    if size > max(most, SMALL):
        raise DataError(f"{what}, and the file holds {stored / 2**20:,.2f} MiB of it. It is damaged, or made to fill memory.")
    if size > (free := free_memory()):
        raise DataError(f"{what}, and {free / 2**20:,.0f} MiB of memory are free. Use fewer data, or a .npy file.")
