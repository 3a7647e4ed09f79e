"""Arrays made once from large or slow files, kept in the cache and mapped into memory from then on."""

import errno
import hashlib
import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.errors import DataError
from pyro_hvae.runtime.atomic_files import atomic_write
from pyro_hvae.runtime.folders import CACHE_VARIABLE, cache_folder

__all__ = ["cache_array"]


def cache_array(
    name: str, sources: Sequence[Path], shape: tuple[int, ...], fill: Callable[[np.ndarray], None], version: int = 1
) -> Tensor:
    """An array of bytes of the given shape, as a tensor whose memory is a file in the cache: it costs no memory until read.

    Made by `fill`, which writes into an array of zeros piece by piece, when it is not there yet or its sources have changed.
    The file appears under its name only when it is complete, so that processes may share a cache and one that is killed
    leaves nothing half-made.

    Arguments:
        name: of the file, such as "omniglot-28". sources: the files it is made from; their places, sizes and times are its key.
        version: to be raised when `fill` changes its mind.

    Raises:
        DataError: when the cache cannot be written, saying how to name another; whatever `fill` raises.
    """
    try:
        stats = [(os.path.realpath(path), s.st_size, s.st_mtime_ns, s.st_ctime_ns) for path in sources for s in [path.stat()]]
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}. Check that it is a file you may read.") from error
    key = hashlib.sha256(repr((name, version, shape, stats)).encode()).hexdigest()[:16]
    path = cache_folder() / f"{name}-{key}.npy"
    array = _map_array(path, shape)
    if array is None:
        hint = f"Set {CACHE_VARIABLE} to a folder with room for {math.prod(shape) / 1e6:,.0f} MB."
        with atomic_write(path, hint, shared=True) as part:
            path.parent.mkdir(parents=True, exist_ok=True)
            # A full disk would end the process without a word when it writes to mapped memory.
            if shutil.disk_usage(path.parent).free < math.prod(shape):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            new = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
            fill(new)
            new.flush()
            del new  # Windows replaces no file that is mapped
        array = _map_array(path, shape)
        assert array is not None  # it has just been written
    return torch.from_numpy(array)


def _map_array(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The array of a file, mapped; None where there is none, or another or a damaged one that has to be made anew."""
    try:
        # Copy-on-write: torch wants writable memory, and nothing is ever written back.
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if array.shape == shape and array.dtype == np.uint8 else None
