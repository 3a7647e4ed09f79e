"""The types of arrays that torch can index."""

import numpy as np

KINDS = {"u2": "i4", "u4": "i8", "u8": "i8", "f16": "f8", "f12": "f8"}


def to_torch_type(array: np.ndarray) -> np.ndarray:
    """The array in a type that torch can index; copies it if it has another type."""
    return array.astype(KINDS.get(array.dtype.str[1:], array.dtype.newbyteorder("=")), copy=False)
