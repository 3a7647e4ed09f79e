"""Arrays that are made once from large or slow files, kept in the cache and mapped into memory."""

import errno
import hashlib
import math
import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.errors import DataError
from pyro_hvae.runtime import CACHE_VARIABLE, atomic_write, cache_folder, read_blocks

CHECKSUM_BYTES = 4  # at the end of a file of the cache
_verified: dict[Path, tuple[str, int, int, int, int]] = {}  # file -> its state when its checksum held


def cache_array(
    name: str,
    sources: Sequence[Path],
    shape: tuple[int, ...],
    fill: Callable[[np.ndarray], None],
    version: int = 1,
    content: str = "",
) -> Tensor:
    """An array of bytes as a tensor whose memory is a file in the cache, so that only the parts that are read need memory.

    When the cache lacks the file, or it is damaged, or the sources have changed, `fill` writes the array piece by piece. The
    file gets its name when it is complete: processes may share a cache, and a process that is killed leaves no incomplete file.

    Arguments:
        name: of the file, such as "omniglot-28".
        sources: the files that the array is made from. Where `content` is not given, their paths, sizes, times and inodes
            identify the file in the cache.
        shape: of the array.
        fill: writes into an array of zeros.
        version: of `fill`; raise it when the result of `fill` changes.
        content: a checksum of what the sources hold, for files that anything may replace (see `hash_files`).

    Raises:
        DataError: when a source cannot be read or the cache cannot be written. Errors of `fill` pass.
    """
    try:
        held = content or [stat_file(path) for path in sources]
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}. Check that it is a file you may read.") from error
    key = hashlib.sha256(repr((name, version, shape, held)).encode()).hexdigest()[:16]
    path = cache_folder() / f"{name}-{key}.npy"
    array = _map_array(path, shape)
    if array is None:
        hint = f"Set {CACHE_VARIABLE} to a folder with room for {math.prod(shape) / 1e6:,.0f} MB."
        with atomic_write(path, hint, shared=True) as part:
            path.parent.mkdir(parents=True, exist_ok=True)
            # On a full disk, writing to mapped memory would end the process without a message.
            if shutil.disk_usage(path.parent).free < math.prod(shape):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            new = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
            fill(new)
            new.flush()
            del new  # Windows replaces no file that is mapped
            with open(part, "ab") as file:
                file.write(_checksum(part, part.stat().st_size))
        array = _map_array(path, shape)
        assert array is not None  # it has just been written
    return torch.from_numpy(array)


def stat_file(path: Path) -> tuple[str, int, int, int, int]:
    """Path, size, times and inode: they tell a published file from another, but not from what is written into it at once."""
    stat = path.stat()
    return os.path.realpath(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def hash_files(folder: Path, names: Sequence[str]) -> str:
    """A checksum of the names and the content of files, whatever their times; a gigabyte takes about a second.

    Arguments:
        names: of the files, relative to the folder.

    Raises:
        DataError: when one of them cannot be read.
    """
    total = hashlib.blake2b(digest_size=8)
    for name in names:
        path = folder / name if name else folder
        try:
            with path.open("rb", buffering=0) as file:
                digest = hashlib.file_digest(file, partial(hashlib.blake2b, digest_size=16))
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}. Check that it is a file you may read.") from error
        total.update(repr((name, digest.hexdigest())).encode())
    return total.hexdigest()


def _checksum(path: Path, end: int) -> bytes:
    """The CRC-32 of the first `end` bytes of a file."""
    total = 0
    with open(path, "rb") as file:
        for block in read_blocks(file, end):
            total = zlib.crc32(block, total)
    return total.to_bytes(CHECKSUM_BYTES, "little")


def _map_array(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The mapped array of a file; None if the file is missing, damaged or of another shape, so that it has to be made.

    A process reads a file once from end to end for its checksum, about a second for a gigabyte.
    """
    try:
        end, state = path.stat().st_size - CHECKSUM_BYTES, stat_file(path)
        if _verified.get(path) != state:
            with open(path, "rb") as file:
                file.seek(max(0, end))
                if file.read() != _checksum(path, end):
                    return None
            _verified[path] = state
        # Copy-on-write, because torch needs writable memory; nothing is written back.
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if array.shape == shape and array.dtype == np.uint8 else None
