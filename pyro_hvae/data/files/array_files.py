"""The arrays in a .npy, .npz, HDF5, idx or MATLAB file: lists them before any is read, and never loads pickled objects."""

import contextlib
import gzip
import math
import os
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from pyro_hvae.data.files.array_cache import cache_array, hash_files
from pyro_hvae.data.files.array_types import to_torch_type
from pyro_hvae.data.files.data_file import convert_errors
from pyro_hvae.data.files.declared_sizes import check_declared_size, require_memory
from pyro_hvae.data.files.idx_files import AXES, describe_length, read_idx_header
from pyro_hvae.data.files.matlab_files import read_matlab_arrays
from pyro_hvae.errors import DataError, missing_extra

HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
PIECE = 2**24  # bytes copied at once


@dataclass(frozen=True)
class StoredArray:
    """One array of a file.

    Attributes:
        name: in the file; empty for a .npy.
        shape, dtype: as stored.
        read: returns the array in a type that torch knows; do not call it for an array of objects.
        mapped: whether the array is mapped into memory instead of read as a whole.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]
    mapped: bool = False


def _convert_errors(path: Path) -> contextlib.AbstractContextManager[None]:
    return convert_errors(f"cannot read {path}", "It is damaged, incomplete or of another kind.")


def _read_npy(path: Path) -> dict[str, StoredArray]:
    with _convert_errors(path):
        with path.open("rb") as file:
            shape, dtype = _read_header(file)
        if dtype.hasobject or 0 in shape:  # such an array cannot be mapped
            return {"": StoredArray("", shape, dtype, lambda: np.empty(shape, dtype))}
        with np.errstate(over="raise"):
            # Copy-on-write, because torch needs writable memory; nothing is written back.
            array = to_torch_type(npy.open_memmap(path, mode="c"))
    return {"": StoredArray("", shape, dtype, lambda: array, mapped=isinstance(array, np.memmap))}


def _read_npz(path: Path) -> dict[str, StoredArray]:
    def reader(name: str) -> Callable[[], np.ndarray]:
        def read() -> np.ndarray:
            with _convert_errors(path), zipfile.ZipFile(path) as archive, archive.open(name) as file:
                shape, dtype = _read_header(file)
                member = archive.getinfo(name)
                packed = member.compress_type != zipfile.ZIP_STORED
                check_declared_size(path, name.removesuffix(".npy"), shape, dtype, member.compress_size, packed)
                file.seek(0)
                return to_torch_type(npy.read_array(file, allow_pickle=False))

        return read

    members = {}
    with _convert_errors(path), zipfile.ZipFile(path) as archive:
        # Names only serve as keys: nothing is unpacked.
        for name in archive.namelist():
            if name.endswith(".npy"):
                with archive.open(name) as file:
                    shape, dtype = _read_header(file)
                key = name.removesuffix(".npy")
                members[key] = StoredArray(key, shape, dtype, reader(name))
    return members


def _read_header(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    version = npy.read_magic(file)
    if version not in HEADERS:
        raise ValueError(f"version {version} of the array format is not supported")
    shape, _, dtype = HEADERS[version](file)
    return shape, dtype


def _read_hdf5(path: Path) -> dict[str, StoredArray]:
    try:
        import h5py
    except ImportError as error:
        raise missing_extra("data", f"reading {path}") from error

    def reader(name: str, shape: tuple[int, ...], dtype: np.dtype) -> Callable[[], np.ndarray]:
        def copy(array: np.ndarray) -> None:
            with _convert_errors(path), h5py.File(path, "r") as file:
                stored: Any = file[name]
                # Whole chunks if possible: a chunk that is read in parts is decompressed for each part.
                chunk, rows = stored.chunks[0] if stored.chunks else 1, PIECE // int(np.prod(shape[1:]))
                rows = max(chunk, rows // chunk * chunk)
                for start in range(0, len(array), rows):
                    array[start : start + rows] = stored[start : start + rows]

        def read() -> np.ndarray:
            with _convert_errors(path), h5py.File(path, "r") as file:
                array: Any = file[name]
                check_declared_size(path, name, shape, dtype, array.id.get_storage_size(), array.chunks is not None)
            if _goes_to_cache(shape, dtype):
                cached = f"own-{zlib.crc32(repr((os.path.realpath(path), name)).encode()):08x}"
                return cache_array(cached, [path], shape, copy, content=hash_files(path, [""])).numpy()
            with _convert_errors(path), h5py.File(path, "r") as file:
                stored: Any = file[name]
                return to_torch_type(np.asarray(stored[()]))

        return read

    members = {}

    def visit(name: str | bytes, item: Any) -> None:
        if not isinstance(item, h5py.Dataset) or item.shape is None:
            return
        if isinstance(name, bytes):
            raise DataError(
                f"the name {name!r} in {path} is no text in UTF-8. Give it another one, in Python: "
                f"h5py.File({str(path)!r}, 'r+').move({name!r}, 'x')"
            )
        if item.is_virtual or item.external:
            raise DataError(f"{name} of {path} is stored in other files, which are not followed. Copy it into one file.")
        shape, dtype = tuple(item.shape), item.dtype
        members[name] = StoredArray(name, shape, dtype, reader(name, shape, dtype), mapped=_goes_to_cache(shape, dtype))

    with _convert_errors(path), h5py.File(path, "r") as file:
        file.visititems(visit)  # it follows no links out of the file
    return members


def _goes_to_cache(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    return dtype == np.uint8 and len(shape) > 1


def _read_idx(path: Path) -> dict[str, StoredArray]:
    with _convert_errors(path), _open_plain(path) as file:
        dtype, shape, start = read_idx_header(file.read(4 + 4 * AXES), path)
    size = math.prod(shape) * dtype.itemsize

    def read() -> np.ndarray:
        check_declared_size(path, path.name, shape, dtype, path.stat().st_size, True)
        require_memory(2 * size, path)
        with _convert_errors(path), _open_plain(path) as file:
            file.read(start)
            content = file.read(size + 1)
        if len(content) != size:
            raise describe_length(path, shape, "more" if len(content) > size else f"{len(content) // dtype.itemsize:,}")
        return to_torch_type(np.frombuffer(bytearray(content), dtype=dtype).reshape(shape))

    return {"": StoredArray("", shape, dtype, read)}


def _open_plain(path: Path) -> Any:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb")


def _read_mat(path: Path) -> dict[str, StoredArray]:
    with path.open("rb") as file:
        if b"MATLAB 7.3" in file.read(128):
            return _read_mat_73(path)
    members = {}
    with _convert_errors(path):
        for name, array in read_matlab_arrays(path):
            if array is None:
                members[name] = StoredArray(name, (), np.dtype("V"), lambda: np.empty(()))
                continue
            array = array.ravel() if array.ndim == 2 and len(array) == 1 else array  # rows are lists
            members[name] = StoredArray(name, array.shape, array.dtype, partial(to_torch_type, array))
    return members


def _read_mat_73(path: Path) -> dict[str, StoredArray]:
    """An HDF5 file, with the axes in the reverse order. Texts, cells and structures have a class that says so."""
    members = {name: member for name, member in _read_hdf5(path).items() if not name.startswith("#")}
    import h5py

    def turn(member: StoredArray) -> StoredArray:
        shape = member.shape[::-1]
        shape = (shape[1],) if len(shape) == 2 and shape[0] == 1 else shape
        return replace(member, shape=shape, read=lambda: member.read().T.reshape(shape))

    with _convert_errors(path), h5py.File(path, "r") as file:
        kinds = {name: file[name].attrs.get("MATLAB_class", "") for name in members}
    texts = {name: kind.decode(errors="replace") if isinstance(kind, bytes) else str(kind) for name, kind in kinds.items()}
    return {name: turn(member) for name, member in members.items() if texts[name] not in ("char", "cell", "struct")}


ARRAY_READERS: dict[str, Callable[[Path], dict[str, StoredArray]]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
    ".idx": _read_idx,
    ".mat": _read_mat,
}
