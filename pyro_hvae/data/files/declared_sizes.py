"""Sizes that a file states of itself, compared with what it holds and with the free memory before anything is made."""

import os
from pathlib import Path

import numpy as np

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
    if size > max(stored * (LARGEST_RATIO if compressed else 1), SMALL):
        raise DataError(
            f"'{name}' of {path} says that it has shape {shape}, that is {size / 2**20:,.0f} MiB, and the file holds "
            f"{stored / 2**20:,.2f} MiB of it. It is damaged, or made to fill memory."
        )
    require_memory(size, path)


def require_memory(size: int, path: Path) -> None:
    """Raises `DataError` where what is read from a file needs more bytes than are free."""
    if size > (free := free_memory()):
        number, unit = (size / 1e12, "TB") if size > 1e12 else (size / 1e9, "GB")
        raise DataError(
            f"{path} needs {number:,.3g} {unit} of memory, but {free / 1e9:,.3g} GB are free. It is damaged, or too large: "
            "use a larger machine, or a part of the data."
        )


def free_memory() -> int:
    """Bytes that a process can still take without swapping; of a system that does not tell, its whole memory or 2**40."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 2**40
