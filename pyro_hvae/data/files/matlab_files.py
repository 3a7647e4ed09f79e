"""The arrays in a MATLAB file of version 5 to 7: SciPy's reader ends the process on some damaged files."""

import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pyro_hvae.data.files.declared_sizes import require_memory

# Numbers of the types of values, and of the classes of arrays, in MathWorks' "MAT-File Format".
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8", 16: "u1", 17: "u2"}
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
CHARACTERS, MATRIX, COMPRESSED = 4, 14, 15
COMPLEX, LOGICAL = 0x800, 0x200


def read_matlab_arrays(path: Path) -> Iterator[tuple[str, np.ndarray | None]]:
    """Names and arrays of numbers, booleans or lines of text; None for cells, structures, sparse and complex arrays.

    An array has its class, also where its values are stored as shorter numbers.

    Raises:
        ValueError, and errors of NumPy and zlib: for a damaged file.
        DataError: where more memory is needed than is free.
    """
    require_memory(path.stat().st_size, path)
    content = memoryview(path.read_bytes())
    order = {b"IM": "<", b"MI": ">"}.get(bytes(content[126:128]))
    if order is None:
        raise ValueError("it is no MATLAB file of version 5 to 7; save it by save -v7")
    at = 128
    while at < len(content):
        kind, data, at = _take(content, at, order, padded=False)
        if kind == COMPRESSED:
            unpack = zlib.decompressobj()
            head = unpack.decompress(data, 8)
            kind, size = (int(n) for n in np.frombuffer(head, f"{order}u4", 2))
            require_memory(3 * size, path)
            data = memoryview(unpack.decompress(unpack.unconsumed_tail, max(1, size)))
            if len(data) != size:
                raise ValueError("it breaks off")
        if kind == MATRIX:
            yield _read_matrix(data, order)


def _take(content: memoryview, at: int, order: str, padded: bool = True) -> tuple[int, memoryview, int]:
    """The type and the values of the element at a place, and the place of the next one, a multiple of 8 in a matrix."""
    kind, size = (int(n) for n in np.frombuffer(content[at : at + 8], f"{order}u4", 2))
    start, after = at + 8, at + 8 + (-(-size // 8) * 8 if padded else size)
    if kind >> 16:  # up to four bytes of values beside the type
        kind, size, start, after = kind & 0xFFFF, kind >> 16, at + 4, at + 8
    if len(data := content[start : start + size]) != size:
        raise ValueError("it breaks off")
    return kind, data, after


def _read_matrix(data: memoryview, order: str) -> tuple[str, np.ndarray | None]:
    _, flags, at = _take(data, 0, order)
    word = int(np.frombuffer(flags, f"{order}u4", 1)[0])
    _, sides, at = _take(data, at, order)
    _, name, at = _take(data, at, order)
    title, kind = bytes(name).decode("latin-1"), word & 0xFF
    if word & COMPLEX or kind not in (*CLASSES, CHARACTERS):
        return title, None
    shape = tuple(int(n) for n in np.frombuffer(sides, f"{order}i4"))
    stored, raw, _ = _take(data, at, order)
    values = np.frombuffer(raw, order + TYPES[stored])
    if min(shape, default=0) < 0 or len(values) != math.prod(shape):
        raise ValueError(f"'{title}' has {len(values)} values for shape {shape}")
    values = values.reshape(shape, order="F")
    if kind == CHARACTERS:
        return title, np.array(["".join(map(chr, line)).rstrip() for line in values.reshape(len(values), -1)], dtype=str)
    return title, values.astype(bool if word & LOGICAL else CLASSES[kind], order="C")
